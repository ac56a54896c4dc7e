-- Which version runs where: tracks, what was done to them, settings by version, publishers, and who did what.

INSERT INTO id_counter (name, next) VALUES ('audit', 1);
-- Grows with every change of versions, tracks and publishers; the revision of everything grows with it.
INSERT INTO id_counter (name, next) VALUES ('catalogue_revision', 1);

-- unsigned, valid or unknown-key: what was found when the version was added.
ALTER TABLE plugin_version ADD COLUMN signature_state TEXT NOT NULL DEFAULT 'unsigned';
-- Who signed it, when the signature is valid.
ALTER TABLE plugin_version ADD COLUMN publisher TEXT;
-- How many golden tests it passed when it was added.
ALTER TABLE plugin_version ADD COLUMN golden_passed BIGINT NOT NULL DEFAULT 0;
ALTER TABLE plugin_version ADD COLUMN approved_by TEXT;
-- Of what was approved, so that nobody changes it unseen.
ALTER TABLE plugin_version ADD COLUMN approved_hash TEXT;

-- Keys by which versions may be signed.
CREATE TABLE publisher_key (
    name TEXT NOT NULL PRIMARY KEY,
    -- shoal-pub:…
    key TEXT NOT NULL UNIQUE,
    added_at_ms BIGINT NOT NULL,
    added_by TEXT NOT NULL
);

-- What installations follow. Publishing changes one row.
CREATE TABLE plugin_track (
    plugin_id TEXT NOT NULL,
    track TEXT NOT NULL,
    -- NULL when what was active was withdrawn.
    active_digest TEXT REFERENCES plugin_version (digest),
    -- What was active before, the latest first: a JSON list of digests. Going back takes the first.
    former TEXT NOT NULL,
    -- A version that is tried.
    candidate_digest TEXT REFERENCES plugin_version (digest),
    -- canary: it runs for some tenants; shadow: it sees copies of calls.
    candidate_mode TEXT,
    -- For whom a canary runs: a JSON list of tenants' numbers.
    candidate_tenants TEXT NOT NULL,
    -- After how many equal answers a shadow becomes active.
    candidate_needed BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    PRIMARY KEY (plugin_id, track)
);

-- What was done to tracks; rows are added and never changed.
CREATE TABLE plugin_release (
    plugin_id TEXT NOT NULL,
    track TEXT NOT NULL,
    seq BIGINT NOT NULL,
    digest TEXT NOT NULL,
    -- publish, canary, shadow, promote, abandon, rollback or withdraw.
    action TEXT NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (plugin_id, track, seq)
);

-- Until now the version approved last was the one that ran.
INSERT INTO plugin_track
    (plugin_id, track, active_digest, former, candidate_tenants, candidate_needed, revision)
SELECT v.plugin_id, 'stable', v.digest,
    COALESCE('["' || (
        SELECT p.digest
        FROM plugin_version p
        WHERE p.plugin_id = v.plugin_id AND p.approval < v.approval
        ORDER BY p.approval DESC
        LIMIT 1) || '"]', '[]'),
    '[]', 0, 0
FROM plugin_version v
WHERE v.approval = (SELECT MAX(o.approval) FROM plugin_version o WHERE o.plugin_id = v.plugin_id);

INSERT INTO plugin_release (plugin_id, track, seq, digest, action, actor, reason, at_ms)
SELECT plugin_id, 'stable', ROW_NUMBER() OVER (PARTITION BY plugin_id ORDER BY approval), digest, 'publish',
    'unknown', 'approved before releases were recorded', approved_at_ms
FROM plugin_version
WHERE approval IS NOT NULL;

ALTER TABLE installation ADD COLUMN track TEXT NOT NULL DEFAULT 'stable';

CREATE INDEX installation_by_revision ON installation (revision);

-- Settings for one version where that version needs others than the installation's: what it made of them when it was
-- published, or what an earlier version still needs.
CREATE TABLE installation_settings (
    tenant_id BIGINT NOT NULL,
    installation_id TEXT NOT NULL,
    digest TEXT NOT NULL REFERENCES plugin_version (digest),
    -- JSON, without secrets.
    settings TEXT NOT NULL,
    -- All secrets as one JSON object, bound to tenant, installation and digest.
    sealed BYTEA NOT NULL,
    -- Their names, a JSON list.
    secret_names TEXT NOT NULL,
    PRIMARY KEY (tenant_id, installation_id, digest),
    FOREIGN KEY (tenant_id, installation_id) REFERENCES installation (tenant_id, id) ON DELETE CASCADE
);

-- Who did what; rows are added, and deleted when they are old.
CREATE TABLE audit_event (
    id BIGINT NOT NULL PRIMARY KEY,
    -- Whose it was; NULL for what concerns the deployment.
    tenant_id BIGINT,
    at_ms BIGINT NOT NULL,
    -- A key's id and name, or system.
    actor TEXT NOT NULL,
    -- Such as plugin.publish.
    action TEXT NOT NULL,
    -- What it was done to, such as a plugin's id.
    subject TEXT NOT NULL,
    -- JSON.
    detail TEXT NOT NULL
);

CREATE INDEX audit_event_by_tenant ON audit_event (tenant_id, id);
