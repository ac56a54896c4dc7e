//! Bounds on plugins' calls as people write them: in the configuration, over the API and on the command line.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shoal_model::grant::Kind;
use shoal_model::limit::{CallLimits, LimitOverrides};
use shoal_runtime::Runtime;

use crate::db::plugin_limits::TenantLimitRow;
use crate::db::{DbError, System};

/// Longest time that can be set, in milliseconds: an hour.
const MS_MAX: u64 = 3_600_000;
/// Largest memory that can be set: a plugin has addresses of 32 bits, and a page less is room for the engine.
const BYTES_MAX: u64 = (4 << 30) - (64 << 10);

/// A kind's name and its bounds.
pub type LimitsByKind = BTreeMap<String, SetLimits>;

/// Bounds of one kind; what is left out stays as it is. Names and units are those of
/// [`CallLimits`](shoal_model::limit::CallLimits).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(
    missing_docs,
    reason = "each is a field of CallLimits, where it is explained"
)]
pub struct SetLimits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_max_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_max_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_max_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_calls_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handles_max: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_requests_max: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_request_body_max_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_body_max_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_max: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub random_max_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
}

impl SetLimits {
    /// All bounds of a kind.
    pub fn of(limits: &CallLimits) -> SetLimits {
        SetLimits {
            cpu_ms: Some(limits.cpu.as_millis() as u64),
            wall_ms: Some(limits.wall.as_millis() as u64),
            memory_max_bytes: Some(limits.memory_max_bytes),
            log_max_bytes: Some(limits.log_max_bytes),
            output_max_bytes: Some(limits.output_max_bytes),
            host_calls_max: Some(limits.host_calls_max),
            handles_max: Some(limits.handles_max),
            http_requests_max: Some(limits.http_requests_max),
            http_request_body_max_bytes: Some(limits.http_request_body_max_bytes),
            http_body_max_bytes: Some(limits.http_body_max_bytes),
            connections_max: Some(limits.connections_max),
            random_max_bytes: Some(limits.random_max_bytes),
            fuel: limits.fuel,
        }
    }

    /// Checks them; the error names the one at fault.
    fn overrides(&self) -> Result<LimitOverrides, String> {
        let within = |name: &str, value: Option<u64>, max: u64| match value {
            Some(value) if value == 0 || value > max => {
                Err(format!("{name} is {value}, not 1 to {max}"))
            }
            value => Ok(value),
        };
        let cpu = within("cpu_ms", self.cpu_ms, MS_MAX)?;
        let wall = within("wall_ms", self.wall_ms, MS_MAX)?;
        Ok(LimitOverrides {
            cpu: cpu.map(Duration::from_millis),
            wall: wall.map(Duration::from_millis),
            memory_max_bytes: within("memory_max_bytes", self.memory_max_bytes, BYTES_MAX)?,
            log_max_bytes: self.log_max_bytes,
            output_max_bytes: within("output_max_bytes", self.output_max_bytes, BYTES_MAX)?,
            host_calls_max: self.host_calls_max,
            handles_max: self.handles_max,
            http_requests_max: self.http_requests_max,
            http_request_body_max_bytes: self.http_request_body_max_bytes,
            http_body_max_bytes: self.http_body_max_bytes,
            connections_max: self.connections_max,
            random_max_bytes: self.random_max_bytes,
            fuel: self.fuel,
        })
    }
}

/// Checks bounds by kind; the error names the one at fault.
///
/// # Errors
/// There is no such kind, or a number is out of bounds.
pub fn checked(by_kind: &LimitsByKind) -> Result<HashMap<Kind, LimitOverrides>, String> {
    let mut all = HashMap::new();
    for (name, set) in by_kind {
        let kind: Kind = name.parse().map_err(|e| format!("limits: {e}"))?;
        let overrides = set.overrides().map_err(|e| format!("limits.{name}.{e}"))?;
        all.insert(kind, overrides);
    }
    Ok(all)
}

/// Tells the runtime which tenants have bounds of their own.
///
/// # Errors
/// The database does not answer, or holds what cannot be a bound.
pub async fn tell(runtime: &Runtime, system: &System) -> Result<(), DbError> {
    let rows = system.plugin_limits().await?;
    let of = |row: &TenantLimitRow| Ok((row.tenant_id as u64, row.tenant_limits()?));
    runtime.set_tenants(rows.iter().map(of).collect::<Result<_, DbError>>()?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_bound_is_named() {
        let read = |text: &str| {
            let by_kind: LimitsByKind = serde_json::from_str(text).map_err(|e| e.to_string())?;
            checked(&by_kind)
        };
        let set = read(r#"{"check":{"cpu_ms":50},"billing-rule":{"fuel":7}}"#).expect("bounds");
        assert_eq!(set[&Kind::Check].cpu, Some(Duration::from_millis(50)));
        assert_eq!(set[&Kind::BillingRule].fuel, Some(7));
        for (text, wanted) in [
            (r#"{"czech":{}}"#, "czech"),
            (r#"{"check":{"cpu":1}}"#, "cpu"),
            (r#"{"check":{"cpu_ms":0}}"#, "limits.check.cpu_ms is 0"),
            (
                r#"{"check":{"memory_max_bytes":5000000000}}"#,
                "limits.check.memory_max_bytes",
            ),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(wanted), "{error}");
        }
    }
}
