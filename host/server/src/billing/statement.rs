//! A statement: one month of one tenant, priced by its billing rule.
//!
//! The rule is pure: component, settings, terms and usage are all that goes in. Their hash names the answer, so that
//! anybody can ask again and compare; an answer that differs from the recorded one is an error that the operator is told.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use shoal_model::grant::Kind;
use shoal_model::time::Month;
use shoal_model::usage::MonthUsage;
use shoal_model::{TenantId, Timestamp};
use shoal_runtime::{Installed, Statement, Terms};
use shoal_store::FlushError;

use crate::app::App;
use crate::db::statements::StatementRow;
use crate::db::tenants::Tenant;
use crate::db::{DbError, TenantDb};
use crate::plugins::Running;

/// Which hours count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hours {
    /// The closed ones, which never change.
    Closed,
    /// And those in progress, as if they were closed now.
    AndOpen,
}

/// A rule's answer, with all that it was made of.
#[derive(Clone, Debug)]
pub struct Rated {
    /// What was used, over which hours.
    pub usage: MonthUsage,
    /// Whether no hour of the month is open any more.
    pub is_complete: bool,
    /// Whether hours in progress were counted.
    pub hours: Hours,
    /// End of the last hour in it; with hours in progress, now.
    pub as_of: Timestamp,
    /// Who answered.
    pub rule: Rule,
    /// What was agreed.
    pub terms: Terms,
    /// The answer.
    pub statement: Statement,
    /// Of usage, terms, settings and component.
    pub input_hash: String,
    /// Of the answer.
    pub output_hash: String,
}

/// Which billing rule answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its installation.
    pub installation: String,
    /// Its plugin.
    pub plugin: String,
    /// Of which version.
    pub version: String,
    /// Of which component.
    pub digest: String,
    /// Of its settings.
    pub settings_hash: String,
}

/// There is no statement.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// Nothing prices the tenant's usage.
    #[error(
        "no billing rule is enabled for tenant {tenant:?}; the operator enables one with: shoal plugin enable mackerel-plan --tenant {tenant}"
    )]
    NoRule {
        /// The tenant's key.
        tenant: String,
    },
    /// The rule is enabled but cannot be called.
    #[error("the billing rule {installation} cannot run: {reason}")]
    RuleCannotRun {
        /// Which installation.
        installation: String,
        /// Why, and who does what about it.
        reason: String,
    },
    /// The rule gave no answer.
    #[error("the billing rule {installation} ({plugin} {version}) gives no statement: {reason}")]
    RuleFailed {
        /// Which installation.
        installation: String,
        /// Its plugin.
        plugin: String,
        /// Of which version.
        version: String,
        /// Its own words.
        reason: String,
    },
    /// The usage of the log could not be handed over.
    #[error("the usage of the hour in progress cannot be counted now: {0}")]
    Store(#[from] FlushError),
    /// The database does not answer.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// What recording an answer found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// The input is new.
    New,
    /// The same input had the same answer before.
    Same,
    /// The same input had another answer before, which stays on record.
    Differs,
}

/// Whether a billing rule is enabled for a tenant.
pub fn has_rule(app: &App, tenant: TenantId) -> bool {
    rule_of(app, tenant).is_some()
}

fn rule_of(app: &App, tenant: TenantId) -> Option<Arc<Running>> {
    let snapshot = app.plugins.snapshot();
    let is_rule = |running: &&Arc<Running>| running.row.kind == Kind::BillingRule.as_str();
    // At most one is enabled; the database keeps it so.
    snapshot.of_tenant(tenant).find(is_rule).cloned()
}

/// Asks a tenant's billing rule for a month.
///
/// # Errors
/// See [`StatementError`].
pub async fn rate(
    app: &App,
    db: &TenantDb,
    tenant: &Tenant,
    month: Month,
    hours: Hours,
) -> Result<Rated, StatementError> {
    let running = rule_of(app, db.id()).ok_or_else(|| StatementError::NoRule {
        tenant: tenant.key.clone(),
    })?;
    let installed = runnable(&running)?;
    let now = app.clock.now();
    let made = Timestamp(tenant.created_at_ms);
    let open = db.next_open_hour(made).await?;
    let mut usage = db.month_usage(month, open).await?;
    if hours == Hours::AndOpen {
        app.store.flush_usage().await?;
        app.calls.flush_usage().await?;
        db.count_open_hours(&mut usage, open, now.hour()).await?;
    }
    let rule = rule(&running, installed);
    let terms = Terms {
        currency: app.config.currency.code.clone(),
        currency_digits: app.config.currency.digits,
    };
    let call = app.calls.rate(&running, &usage, &terms).await;
    let statement = call.outcome.map_err(|error| StatementError::RuleFailed {
        installation: rule.installation.clone(),
        plugin: rule.plugin.clone(),
        version: rule.version.clone(),
        reason: error.to_string(),
    })?;
    let end = month.next().first_hour();
    let as_of = match hours {
        Hours::AndOpen => now,
        Hours::Closed => open.start(),
    };
    Ok(Rated {
        input_hash: input_hash(&usage, &terms, &rule),
        output_hash: hash(
            &json!({ "currency": terms.currency, "lines": lines(&statement), "total": statement.total.to_string() }),
        ),
        usage,
        is_complete: open >= end,
        hours,
        as_of: as_of.clamp(month.first_hour().start(), end.start()),
        rule,
        terms,
        statement,
    })
}

fn runnable(running: &Running) -> Result<&Arc<Installed>, StatementError> {
    running
        .state
        .as_ref()
        .map_err(|reason| StatementError::RuleCannotRun {
            installation: running.row.id.clone(),
            reason: reason.clone(),
        })
}

fn rule(running: &Running, installed: &Installed) -> Rule {
    let manifest = installed.plugin().manifest();
    Rule {
        installation: running.row.id.clone(),
        plugin: manifest.id.to_string(),
        version: manifest.version.to_string(),
        digest: installed.plugin().digest().to_string(),
        settings_hash: hash(&Value::Object(installed.settings().as_map().clone())),
    }
}

/// Records an answer over closed hours, once for every input.
///
/// # Errors
/// The database does not answer.
pub async fn record(app: &App, db: &TenantDb, rated: &Rated) -> Result<Recorded, DbError> {
    let row = StatementRow {
        month: rated.usage.month.to_string(),
        input_hash: rated.input_hash.clone(),
        output_hash: rated.output_hash.clone(),
        rated_at_ms: app.clock.now().unix_ms(),
        as_of_ms: rated.as_of.unix_ms(),
        closed_hours: i64::from(rated.usage.closed_hours),
        is_complete: i64::from(rated.is_complete),
        installation_id: rated.rule.installation.clone(),
        plugin_id: rated.rule.plugin.clone(),
        version: rated.rule.version.clone(),
        digest: rated.rule.digest.clone(),
        settings_hash: rated.rule.settings_hash.clone(),
        currency: rated.terms.currency.clone(),
        lines: lines(&rated.statement).to_string(),
        total: rated.statement.total.to_string(),
    };
    match db.add_statement(&row).await? {
        None => Ok(Recorded::New),
        Some(before) if before == row.output_hash => Ok(Recorded::Same),
        Some(before) => {
            app.observe.add("shoal_statement_differs_total", &[], 1.0);
            tracing::error!(
                tenant.id = db.id().0,
                statement.month = row.month,
                statement.input_hash = row.input_hash,
                statement.recorded = before,
                statement.now = row.output_hash,
                plugin.digest = row.digest,
                "a billing rule gave another answer to the same input"
            );
            Ok(Recorded::Differs)
        }
    }
}

/// The lines as they are shown and stored: decimals as text.
pub fn lines(statement: &Statement) -> Value {
    let line = |line: &shoal_runtime::StatementLine| {
        json!({
            "description": line.description,
            "meter": line.meter.map(|meter| meter.as_str()),
            "quantity": line.quantity.to_string(),
            "unit_price": line.unit_price.to_string(),
            "amount": line.amount.to_string(),
        })
    };
    statement.lines.iter().map(line).collect()
}

/// All that the answer depends on, hashed.
fn input_hash(usage: &MonthUsage, terms: &Terms, rule: &Rule) -> String {
    let meters: Map<String, Value> = usage
        .meters
        .iter()
        .map(|(meter, subjects)| {
            let subjects: Vec<Value> = subjects
                .iter()
                .map(|(subject, of)| json!([subject, of.active_hours, of.quantity_hours]))
                .collect();
            (meter.to_string(), Value::Array(subjects))
        })
        .collect();
    hash(&json!({
        "month": usage.month.to_string(),
        "hours": usage.month.hours(),
        "closed_hours": usage.closed_hours,
        "meters": meters,
        "currency": terms.currency,
        "currency_digits": terms.currency_digits,
        "settings_hash": rule.settings_hash,
        "digest": rule.digest,
    }))
}

/// SHA-256 of JSON whose objects are sorted, so that equal values have equal hashes.
fn hash(value: &Value) -> String {
    let digest: [u8; 32] = Sha256::digest(sorted(value).to_string()).into();
    shoal_model::Digest(digest).to_string()
}

/// The same value with the keys of its objects in order. Settings are shallow; the recursion ends with them.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<_> = map.iter().collect();
            keys.sort_by_key(|(key, _)| *key);
            let pairs = keys
                .into_iter()
                .map(|(key, value)| (key.clone(), sorted(value)));
            Value::Object(pairs.collect())
        }
        Value::Array(list) => list.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests;
