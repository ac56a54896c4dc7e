-- Monitors, alerts and what is told of them.

CREATE TABLE monitor (
    tenant_id BIGINT NOT NULL REFERENCES tenant (id),
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    query TEXT NOT NULL,
    -- above or below.
    comparison TEXT NOT NULL,
    warning DOUBLE PRECISION,
    critical DOUBLE PRECISION,
    max_attempts BIGINT NOT NULL,
    -- What missing data means: keep, ok, unknown, warning or critical.
    missing TEXT NOT NULL,
    memo TEXT NOT NULL,
    is_enabled BIGINT NOT NULL,
    -- A JSON list of installations; NULL tells every enabled channel of the tenant.
    channels TEXT,
    created_at_ms BIGINT NOT NULL,
    -- Grows with every change, so that an evaluation of what it was before is not taken for what it is.
    revision BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

-- What raises alerts, once it was evaluated: a monitor, or an installation of a check. Its row is the lock under
-- which targets and alerts of the source change.
CREATE TABLE alert_source (
    tenant_id BIGINT NOT NULL REFERENCES tenant (id),
    -- mon_… or ins_….
    id TEXT NOT NULL,
    -- query or check.
    kind TEXT NOT NULL,
    -- The latest slot that was judged: a slot is judged once.
    last_slot_ms BIGINT,
    -- The query that the latest slot was judged by; empty for a check.
    query TEXT NOT NULL,
    -- Why the latest evaluation found nothing out; NULL when it did.
    last_error TEXT,
    last_error_at_ms BIGINT,
    PRIMARY KEY (tenant_id, id)
);

-- What is remembered between evaluations of one target: a series of a monitor, or what a check probes.
CREATE TABLE alert_target (
    tenant_id BIGINT NOT NULL,
    source_id TEXT NOT NULL,
    -- Of the labels, 32 hex digits.
    fingerprint TEXT NOT NULL,
    -- A JSON object.
    labels TEXT NOT NULL,
    severity TEXT NOT NULL,
    -- A worse severity that is not confirmed yet, and how often in a row it was seen.
    pending_severity TEXT,
    pending_attempts BIGINT NOT NULL,
    -- The latest slot at which the row was written.
    last_slot_ms BIGINT NOT NULL,
    -- The latest slot, to some minutes, at which there was data.
    seen_slot_ms BIGINT NOT NULL,
    value DOUBLE PRECISION,
    -- The open alert.
    alert_id TEXT,
    PRIMARY KEY (tenant_id, source_id, fingerprint),
    FOREIGN KEY (tenant_id, source_id) REFERENCES alert_source (tenant_id, id) ON DELETE CASCADE
);

-- Stays when its monitor is gone, so it says itself what it is about.
CREATE TABLE alert (
    tenant_id BIGINT NOT NULL REFERENCES tenant (id),
    id TEXT NOT NULL,
    source_id TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    -- A JSON object.
    labels TEXT NOT NULL,
    -- The monitor as it was at the latest transition, JSON.
    monitor TEXT NOT NULL,
    severity TEXT NOT NULL,
    value DOUBLE PRECISION,
    message TEXT NOT NULL,
    opened_at_ms BIGINT NOT NULL,
    changed_at_ms BIGINT NOT NULL,
    closed_at_ms BIGINT,
    -- Why it was closed, when not by its monitor.
    reason TEXT,
    -- How many transitions it had.
    revision BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

CREATE INDEX alert_by_time ON alert (tenant_id, opened_at_ms, id);
-- A target has one open alert at most, whatever the program does.
CREATE UNIQUE INDEX alert_open ON alert (tenant_id, source_id, fingerprint) WHERE closed_at_ms IS NULL;

CREATE TABLE alert_transition (
    tenant_id BIGINT NOT NULL,
    alert_id TEXT NOT NULL,
    -- The alert's revision that it made, from 1.
    revision BIGINT NOT NULL,
    from_severity TEXT NOT NULL,
    to_severity TEXT NOT NULL,
    -- What made it change: monitor, manual-close or monitor-deleted. (TRIGGER is a word of SQL.)
    cause TEXT NOT NULL,
    value DOUBLE PRECISION,
    message TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, alert_id, revision),
    FOREIGN KEY (tenant_id, alert_id) REFERENCES alert (tenant_id, id) ON DELETE CASCADE
);

-- What one channel is to be told of one alert, and what it was told last. Made when the alert opens and wanted
-- anew by every transition.
CREATE TABLE notification (
    tenant_id BIGINT NOT NULL,
    id TEXT NOT NULL,
    alert_id TEXT NOT NULL,
    -- Not a reference: that a channel is gone is something to show.
    installation_id TEXT NOT NULL,
    -- The channel's name when the alert opened.
    channel TEXT NOT NULL,
    -- The alert's revision that is to be told, and since when.
    wanted_revision BIGINT NOT NULL,
    wanted_at_ms BIGINT NOT NULL,
    -- What was told last; 0 and NULL when nothing was.
    told_revision BIGINT NOT NULL,
    told_severity TEXT,
    -- pending, delivered or failed.
    status TEXT NOT NULL,
    -- To tell the wanted revision.
    attempts BIGINT NOT NULL,
    next_attempt_at_ms BIGINT NOT NULL,
    -- Somebody tells it now, until then at the latest; 0 when nobody does.
    lease_until_ms BIGINT NOT NULL,
    -- Grows with every claim: what an outlived claim records is refused.
    claim BIGINT NOT NULL,
    -- Claims since the latest confirmed one: what they told may have arrived all the same.
    unconfirmed BIGINT NOT NULL,
    last_error TEXT,
    summary TEXT,
    delivered_at_ms BIGINT,
    -- The installation's revision when it failed for good: another one is worth another attempt.
    failed_installation_revision BIGINT,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, alert_id, installation_id),
    FOREIGN KEY (tenant_id, alert_id) REFERENCES alert (tenant_id, id) ON DELETE CASCADE
);

CREATE INDEX notification_pending ON notification (tenant_id, next_attempt_at_ms) WHERE status = 'pending';
CREATE INDEX notification_failed ON notification (tenant_id, wanted_at_ms) WHERE status = 'failed';

-- Attempts to tell, the latest of each notification.
CREATE TABLE delivery (
    tenant_id BIGINT NOT NULL,
    notification_id TEXT NOT NULL,
    -- The claim under which it was made.
    claim BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    severity TEXT NOT NULL,
    -- delivered, retry, failed, waiting or nothing-to-tell.
    result TEXT NOT NULL,
    detail TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, notification_id, claim),
    FOREIGN KEY (tenant_id, notification_id) REFERENCES notification (tenant_id, id) ON DELETE CASCADE
);
