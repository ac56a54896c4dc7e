-- What the operator allows a tenant's plugins beside what every tenant's may.

CREATE TABLE tenant_limit (
    tenant_id BIGINT NOT NULL PRIMARY KEY REFERENCES tenant (id),
    -- Its share of the slots while other tenants wait for one, 1 as a rule.
    weight BIGINT NOT NULL,
    -- JSON: a kind's name, and the bounds that are lower than the deployment's.
    limits TEXT NOT NULL,
    changed_at_ms BIGINT NOT NULL
);
