-- Telemetry: which segments there are, up to where the log is in them, and what was used.

-- Immutable files of samples; the store's `Catalog` in SQL.
CREATE TABLE segment (
    id BIGINT NOT NULL PRIMARY KEY,
    file_name TEXT NOT NULL,
    min_time_ms BIGINT NOT NULL,
    max_time_ms BIGINT NOT NULL,
    samples BIGINT NOT NULL,
    series BIGINT NOT NULL,
    size_bytes BIGINT NOT NULL,
    first_sequence BIGINT NOT NULL,
    end_sequence BIGINT NOT NULL
);

-- Numbers are never given out again: this one grows when segments are added and stays when they go.
INSERT INTO id_counter (name, next) VALUES ('segment', 0);

CREATE TABLE segment_tenant (
    tenant_id BIGINT NOT NULL REFERENCES tenant (id),
    segment_id BIGINT NOT NULL REFERENCES segment (id) ON DELETE CASCADE,
    min_time_ms BIGINT NOT NULL,
    max_time_ms BIGINT NOT NULL,
    samples BIGINT NOT NULL,
    series BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, segment_id)
);

CREATE INDEX segment_tenant_by_segment ON segment_tenant (segment_id);

-- One row: commits of the log with lower sequence numbers are in segments.
CREATE TABLE log_position (
    id BIGINT NOT NULL PRIMARY KEY,
    sequence BIGINT NOT NULL
);

INSERT INTO log_position (id, sequence) VALUES (1, 0);

-- A set: what is posted twice counts once. The hour is that of the post, in whole hours since the epoch.
CREATE TABLE usage_member (
    tenant_id BIGINT NOT NULL REFERENCES tenant (id),
    hour BIGINT NOT NULL,
    meter TEXT NOT NULL,
    subject TEXT NOT NULL,
    -- The bits of an unsigned number.
    member BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, hour, meter, subject, member)
);
