//! Statements: a month priced by the tenant's billing rule.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::input::Query;
use super::usage::{parsed_month, tenant_of};
use super::{ApiError, Caller, Route};
use crate::app::App;
use crate::auth::Role;
use crate::billing::statement::{self, Hours, Rated, StatementError};

pub(super) fn routes() -> Vec<Route> {
    vec![Route::new(
        Method::GET,
        "/api/v1/statements",
        Role::Read,
        "Prices a month, so far or whole, by the tenant's billing rule",
        get(show),
    )]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Of {
    tenant: Option<String>,
    month: Option<String>,
    #[serde(default)]
    include_open_hour: bool,
}

async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(of): Query<Of>,
) -> Result<axum::Json<Value>, ApiError> {
    let (tenant, db) = tenant_of(&app, &caller, of.tenant).await?;
    let month = parsed_month(&app, of.month.as_deref())?;
    let hours = match of.include_open_hour {
        true => Hours::AndOpen,
        false => Hours::Closed,
    };
    let rated = statement::rate(&app, &db, &tenant, month, hours).await?;
    if hours == Hours::Closed {
        // What a tenant was shown stays on record.
        statement::record(&app, &db, &rated).await?;
    }
    Ok(axum::Json(shown(&rated)))
}

fn shown(rated: &Rated) -> Value {
    let (rule, usage) = (&rated.rule, &rated.usage);
    let status = match rated.is_complete {
        true => "complete",
        false => "month-to-date",
    };
    json!({
        "month": usage.month.to_string(),
        "status": status,
        "as_of_ms": rated.as_of.unix_ms(),
        "hours": usage.month.hours(),
        "closed_hours": usage.closed_hours,
        "includes_open_hour": rated.hours == Hours::AndOpen,
        "rule": {
            "installation": rule.installation,
            "plugin": rule.plugin,
            "version": rule.version,
            "digest": rule.digest,
        },
        "currency": rated.terms.currency,
        "lines": statement::lines(&rated.statement),
        "total": rated.statement.total.to_string(),
        "input_hash": rated.input_hash,
        "output_hash": rated.output_hash,
    })
}

impl From<StatementError> for ApiError {
    fn from(error: StatementError) -> ApiError {
        let message = error.to_string();
        match error {
            StatementError::NoRule { .. } => ApiError::conflict("no_billing_rule", message),
            StatementError::RuleCannotRun { .. } => {
                ApiError::conflict("billing_rule_cannot_run", message)
            }
            StatementError::RuleFailed { .. } => ApiError::conflict("billing_rule_failed", message),
            StatementError::Store(error) => ApiError::internal(error),
            StatementError::Db(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests;
