-- Tenants and their API keys.

-- Numbers given out one after another, the same way on both databases: UPDATE … RETURNING locks the row.
CREATE TABLE id_counter (
    name TEXT NOT NULL PRIMARY KEY,
    next BIGINT NOT NULL
);

INSERT INTO id_counter (name, next) VALUES ('tenant', 1);

CREATE TABLE tenant (
    id BIGINT NOT NULL PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL
);

CREATE TABLE api_key (
    tenant_id BIGINT NOT NULL REFERENCES tenant (id),
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    -- read, write or operator.
    role TEXT NOT NULL,
    secret_hash BYTEA NOT NULL,
    created_at_ms BIGINT NOT NULL,
    revoked_at_ms BIGINT,
    -- Kept to the minute: it says whether a key is still in use.
    last_used_at_ms BIGINT,
    PRIMARY KEY (tenant_id, id)
);

-- A request names its key before its tenant is known.
CREATE UNIQUE INDEX api_key_by_id ON api_key (id);
