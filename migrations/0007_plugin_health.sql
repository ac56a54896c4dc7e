-- How plugins are: what is at rest, what is shut out, what is tried beside, what failed, whom they contacted, what they used.

-- Breakers that are open, shared by all processes and kept over restarts. One that closes is deleted.
CREATE TABLE plugin_breaker (
    tenant_id BIGINT NOT NULL,
    installation_id TEXT NOT NULL,
    -- sha256:… of the version whose calls failed.
    digest TEXT NOT NULL,
    -- The installation's revision whose calls failed: changed settings begin anew.
    revision BIGINT NOT NULL,
    -- How often in a row it opened.
    openings BIGINT NOT NULL,
    opened_at_ms BIGINT NOT NULL,
    -- When the next call is let through.
    until_ms BIGINT NOT NULL,
    -- The failure that opened it.
    reason TEXT NOT NULL,
    PRIMARY KEY (tenant_id, installation_id, digest),
    FOREIGN KEY (tenant_id, installation_id) REFERENCES installation (tenant_id, id) ON DELETE CASCADE
);

-- Versions that run for nobody, until somebody releases them. Not a reference: uploading a component again frees nothing.
CREATE TABLE plugin_quarantine (
    digest TEXT NOT NULL PRIMARY KEY,
    plugin_id TEXT NOT NULL,
    version TEXT NOT NULL,
    reason TEXT NOT NULL,
    -- The key's id, or the part of Shoal that did it.
    actor TEXT NOT NULL,
    at_ms BIGINT NOT NULL
);

-- How a version does that sees copies of live calls.
CREATE TABLE plugin_shadow (
    digest TEXT NOT NULL PRIMARY KEY,
    plugin_id TEXT NOT NULL,
    version TEXT NOT NULL,
    -- Copies that it answered as the live version did, and otherwise.
    equal BIGINT NOT NULL,
    differing BIGINT NOT NULL,
    -- Copies that its code failed on.
    failed BIGINT NOT NULL,
    -- Copies that were not compared: no room, or the live call had failed itself.
    skipped BIGINT NOT NULL,
    -- The latest answers that differ, cut.
    live_excerpt TEXT,
    shadow_excerpt TEXT,
    -- promoted or abandoned; NULL while it is tried.
    ended TEXT,
    updated_at_ms BIGINT NOT NULL
);

-- The latest failures of each installation, for whoever has to find out why.
CREATE TABLE plugin_failure (
    tenant_id BIGINT NOT NULL,
    installation_id TEXT NOT NULL,
    -- Grows with time.
    id TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    plugin_id TEXT NOT NULL,
    version TEXT NOT NULL,
    digest TEXT NOT NULL,
    kind TEXT NOT NULL,
    -- A short word, such as panicked or limit-cpu.
    code TEXT NOT NULL,
    message TEXT NOT NULL,
    -- JSON: lists of text, the request without secrets, and what the call used.
    backtrace TEXT NOT NULL,
    log TEXT NOT NULL,
    input TEXT NOT NULL,
    report TEXT NOT NULL,
    PRIMARY KEY (tenant_id, installation_id, id),
    FOREIGN KEY (tenant_id, installation_id) REFERENCES installation (tenant_id, id) ON DELETE CASCADE
);

CREATE INDEX plugin_failure_by_time ON plugin_failure (tenant_id, at_ms);

-- Hosts that a plugin was connected to, and what it wanted to reach and may not.
CREATE TABLE plugin_contact (
    tenant_id BIGINT NOT NULL REFERENCES tenant (id),
    plugin_id TEXT NOT NULL,
    version TEXT NOT NULL,
    -- Whole days since the epoch.
    day BIGINT NOT NULL,
    -- host:port, or * for those beyond what is kept of a day.
    host TEXT NOT NULL,
    contacts BIGINT NOT NULL,
    refused BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, plugin_id, version, day, host)
);

-- What plugins used in an hour, counted by each process by itself: a process writes its own sums again and again.
CREATE TABLE plugin_usage (
    tenant_id BIGINT NOT NULL REFERENCES tenant (id),
    -- Whole hours since the epoch.
    hour BIGINT NOT NULL,
    plugin_id TEXT NOT NULL,
    -- A number that a process draws when it starts.
    process TEXT NOT NULL,
    calls BIGINT NOT NULL,
    cpu_us BIGINT NOT NULL,
    bytes_out BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, hour, plugin_id, process)
);

-- The channel that stands in for another one whose plugin is down.
CREATE TABLE channel_fallback (
    tenant_id BIGINT NOT NULL,
    installation_id TEXT NOT NULL,
    fallback_id TEXT NOT NULL,
    PRIMARY KEY (tenant_id, installation_id),
    FOREIGN KEY (tenant_id, installation_id) REFERENCES installation (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, fallback_id) REFERENCES installation (tenant_id, id) ON DELETE CASCADE
);
