-- Jobs, closed usage and statements.

-- Runs of jobs. Of the operator, not of a tenant: a run works for all of them.
CREATE TABLE job_run (
    id TEXT NOT NULL PRIMARY KEY,
    job TEXT NOT NULL,
    scheduled_at_ms BIGINT NOT NULL,
    -- waiting, running, done or failed.
    status TEXT NOT NULL,
    -- How often it was begun.
    attempt BIGINT NOT NULL,
    -- Grows whenever the run changes hands: only who holds the latest may record what it did.
    fence BIGINT NOT NULL,
    -- A waiting run does not begin before.
    not_before_ms BIGINT NOT NULL,
    -- A running run that is not renewed until then is taken over.
    lease_until_ms BIGINT,
    posted_at_ms BIGINT NOT NULL,
    started_at_ms BIGINT,
    ended_at_ms BIGINT,
    expected BIGINT NOT NULL,
    processed BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    skipped BIGINT NOT NULL,
    error TEXT,
    -- Posting twice runs once.
    UNIQUE (job, scheduled_at_ms)
);

CREATE INDEX job_run_by_status ON job_run (status, job, scheduled_at_ms);

-- One job never runs twice at once, whatever the number of processes.
CREATE UNIQUE INDEX job_run_running ON job_run (job) WHERE status = 'running';

-- What a run did for one tenant.
CREATE TABLE job_run_tenant (
    tenant_id BIGINT NOT NULL REFERENCES tenant (id),
    run_id TEXT NOT NULL REFERENCES job_run (id) ON DELETE CASCADE,
    expected BIGINT NOT NULL,
    processed BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    skipped BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, run_id)
);

CREATE INDEX job_run_tenant_by_run ON job_run_tenant (run_id);

-- Up to which hour a tenant's usage is closed. Its row is the lock under which hours close and elements are added: who
-- adds to an hour is done before it is counted, or finds it closed.
CREATE TABLE usage_closing (
    tenant_id BIGINT NOT NULL PRIMARY KEY REFERENCES tenant (id),
    -- Whole hours since the epoch; NULL before the first is closed.
    last_hour BIGINT
);

-- A closed hour, without usage too: what is missing here was not counted. Rows are never changed.
CREATE TABLE usage_hour (
    tenant_id BIGINT NOT NULL REFERENCES tenant (id),
    -- Whole hours since the epoch.
    hour BIGINT NOT NULL,
    closed_at_ms BIGINT NOT NULL,
    -- Rows of usage_hour_subject, and the sum of their quantities.
    subjects BIGINT NOT NULL,
    quantity BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, hour)
);

-- How many distinct members of a meter a subject had in a closed hour. Rows are never changed.
CREATE TABLE usage_hour_subject (
    tenant_id BIGINT NOT NULL,
    hour BIGINT NOT NULL,
    meter TEXT NOT NULL,
    subject TEXT NOT NULL,
    quantity BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, hour, meter, subject),
    FOREIGN KEY (tenant_id, hour) REFERENCES usage_hour (tenant_id, hour)
);

-- Elements that arrived when their hour was closed: on record, never billed.
CREATE TABLE usage_late (
    tenant_id BIGINT NOT NULL REFERENCES tenant (id),
    hour BIGINT NOT NULL,
    meter TEXT NOT NULL,
    subject TEXT NOT NULL,
    member BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, hour, meter, subject, member)
);

-- What a billing rule answered. A month has a row for every input that it was rated with.
CREATE TABLE statement (
    tenant_id BIGINT NOT NULL REFERENCES tenant (id),
    -- Such as 2026-11.
    month TEXT NOT NULL,
    -- Of usage, terms, settings and component: equal inputs have equal outputs.
    input_hash TEXT NOT NULL,
    output_hash TEXT NOT NULL,
    rated_at_ms BIGINT NOT NULL,
    -- End of the last hour that is in it.
    as_of_ms BIGINT NOT NULL,
    closed_hours BIGINT NOT NULL,
    is_complete BIGINT NOT NULL,
    installation_id TEXT NOT NULL,
    plugin_id TEXT NOT NULL,
    version TEXT NOT NULL,
    digest TEXT NOT NULL,
    settings_hash TEXT NOT NULL,
    currency TEXT NOT NULL,
    -- JSON, decimals as text.
    lines TEXT NOT NULL,
    total TEXT NOT NULL,
    PRIMARY KEY (tenant_id, month, input_hash)
);

-- A month is priced by one rule.
CREATE UNIQUE INDEX installation_one_billing_rule ON installation (tenant_id)
    WHERE kind = 'billing-rule' AND is_enabled = 1;
