//! What the engines need of telemetry: ask a query at one time, and write samples of their own.
//!
//! Monitors, checks and jobs know these two traits and nothing of the store, so that their tests run without
//! one. `query` and `ingest` implement them on the store; there is no other road from an engine to telemetry.

use std::sync::Arc;

use async_trait::async_trait;
use shoal_model::telemetry::MetricKind;
use shoal_model::usage::Owner;
use shoal_model::{Labels, TenantId, Timestamp};

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The query itself cannot be answered: it does not parse, its types do not match, or it is over a limit.
    /// Asking again gives the same.
    #[error("{0}")]
    Refused(String),
    /// The store could not answer now.
    #[error("the query could not be evaluated now: {0:#}")]
    Unavailable(anyhow::Error),
}

/// Why samples were not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The tenant is over a limit or a sample is not acceptable. Writing the same again fails again.
    #[error("{0}")]
    Refused(String),
    /// The store could not write now; nothing of the batch is promised.
    #[error("samples could not be written now: {0:#}")]
    Unavailable(anyhow::Error),
}

/// Asks PromQL of a tenant's series.
#[async_trait]
pub trait Query: Send + Sync {
    /// Evaluates `promql` at one time.
    ///
    /// A scalar is one row with empty labels; a series without a sample that counts at `at` is absent. Values
    /// may be NaN. Rows come in the order of the evaluator.
    ///
    /// # Errors
    /// [`QueryError`]; an empty answer is not one.
    async fn instant(
        &self,
        tenant: TenantId,
        promql: &str,
        at: Timestamp,
    ) -> Result<Vec<(Labels, f64)>, QueryError>;
}

/// Writes samples that Shoal itself makes.
#[async_trait]
pub trait WriteSamples: Send + Sync {
    /// Writes a batch durably; done when it returns. The same (series, time) twice leaves the last value.
    ///
    /// # Errors
    /// [`WriteError`].
    async fn write(&self, tenant: TenantId, samples: Vec<OwnSample>) -> Result<(), WriteError>;
}

/// One value that Shoal measured.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnSample {
    /// The series, metric name included; already in Prometheus' naming.
    pub labels: Labels,
    /// Gauge or counter.
    pub kind: MetricKind,
    /// Whose usage the series is; `None` when the tenant does not pay for it.
    pub owner: Option<Owner>,
    /// When it was measured.
    pub at: Timestamp,
    /// The value.
    pub value: f64,
}

/// Both directions of telemetry, as the engines hold them.
#[derive(Clone)]
pub struct Telemetry {
    /// Asks.
    pub query: Arc<dyn Query>,
    /// Writes.
    pub samples: Arc<dyn WriteSamples>,
}
