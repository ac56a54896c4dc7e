-- Plugins: what there is, what is approved, and what tenants have enabled.

INSERT INTO id_counter (name, next) VALUES ('approval', 1);
INSERT INTO id_counter (name, next) VALUES ('plugin_revision', 1);

CREATE TABLE plugin_version (
    -- sha256:… of the component.
    digest TEXT NOT NULL PRIMARY KEY,
    plugin_id TEXT NOT NULL,
    version TEXT NOT NULL,
    kind TEXT NOT NULL,
    -- The text of plugin.toml.
    manifest TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    added_at_ms BIGINT NOT NULL,
    -- What the operator approved, a JSON list of capabilities; NULL until then.
    approved_grants TEXT,
    approved_at_ms BIGINT,
    -- Grows with each approval: of a plugin's versions the one approved last is the one that runs.
    approval BIGINT
);

CREATE INDEX plugin_version_by_plugin ON plugin_version (plugin_id, approval);

-- Apart, so that lists need not read megabytes.
CREATE TABLE plugin_component (
    digest TEXT NOT NULL PRIMARY KEY REFERENCES plugin_version (digest) ON DELETE CASCADE,
    bytes BYTEA NOT NULL
);

CREATE TABLE installation (
    tenant_id BIGINT NOT NULL REFERENCES tenant (id),
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    plugin_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    -- A version that it stays with; NULL follows the version approved last.
    pinned_digest TEXT REFERENCES plugin_version (digest),
    -- JSON, without secrets.
    settings TEXT NOT NULL,
    -- What the tenant grants, a JSON list of capabilities; NULL grants what the operator approved.
    grants TEXT,
    is_enabled BIGINT NOT NULL,
    -- How often a check runs.
    interval_ms BIGINT,
    created_at_ms BIGINT NOT NULL,
    -- Changes with every change of the row, so that a running copy knows whether it is up to date.
    revision BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name)
);

CREATE TABLE installation_secret (
    tenant_id BIGINT NOT NULL,
    installation_id TEXT NOT NULL,
    name TEXT NOT NULL,
    -- Nonce and ciphertext, bound to tenant, installation and name.
    sealed BYTEA NOT NULL,
    PRIMARY KEY (tenant_id, installation_id, name),
    FOREIGN KEY (tenant_id, installation_id) REFERENCES installation (tenant_id, id) ON DELETE CASCADE
);
