-- What plugins keep from call to call, by installation.

CREATE TABLE plugin_kv (
    tenant_id BIGINT NOT NULL,
    installation_id TEXT NOT NULL,
    name TEXT NOT NULL,
    value BYTEA NOT NULL,
    -- Of name and value together.
    size_bytes BIGINT NOT NULL,
    -- From this time on it is not there; NULL stays.
    expires_at_ms BIGINT,
    PRIMARY KEY (tenant_id, installation_id, name),
    FOREIGN KEY (tenant_id, installation_id) REFERENCES installation (tenant_id, id) ON DELETE CASCADE
);

CREATE INDEX plugin_kv_by_end ON plugin_kv (tenant_id, expires_at_ms);
