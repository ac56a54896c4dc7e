//! What the store knows of a series, and the handle by which samples name it.

use std::fmt;
use std::sync::Arc;

use shoal_model::telemetry::MetricKind;
use shoal_model::usage::Owner;

/// A handle to an active series of one tenant; cheap to keep beside an incoming stream.
///
/// It stays good across flushes. When its series stops being active (idle for
/// [`crate::StoreOptions::series_idle`]), after a restart, or when used for another tenant, appending with it fails
/// cleanly with [`crate::AppendError::UnknownSeries`]: resolve again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeriesRef {
    /// Place in the tenant's table of series.
    pub(crate) slot: u32,
    /// Unique in this process over all tenants, so that a place used anew is noticed.
    pub(crate) serial: u64,
}

/// What goes with a series beside its labels. Later values replace earlier ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesMeta {
    /// What the series measures.
    pub kind: MetricKind,
    /// Unit as the sender wrote it, such as `By`; empty when unknown.
    pub unit: Arc<str>,
    /// Whose usage the series is; `None` when nobody pays for it.
    pub owner: Option<Owner>,
}

/// A series is refused because it is over a limit; series already active are not affected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{metric:?} is over the limit of {max} {limit}{}: {}", DisplayLabel(.label, .label_values), .limit.remedy())]
pub struct LimitReached {
    /// Which limit.
    pub limit: Limit,
    /// Its value.
    pub max: u64,
    /// The metric name of the refused series; empty when it has none.
    pub metric: String,
    /// The label at fault, if it is one (cut to 100 characters). Where there are too many series: the one that makes
    /// them, which has a value that no other series has, or else the one with the most values.
    pub label: Option<String>,
    /// How many values it has, where there are too many series.
    pub label_values: Option<u64>,
}

struct DisplayLabel<'a>(&'a Option<String>, &'a Option<u64>);

impl fmt::Display for DisplayLabel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (Some(label), None) => write!(f, " (label {label:?})"),
            (Some(label), Some(values)) => {
                write!(f, " (label {label:?} grows, it has {values} values)")
            }
            (None, _) => Ok(()),
        }
    }
}

/// The limits that can refuse a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// [`crate::TenantLimits::active_series_max`].
    ActiveSeries,
    /// [`crate::TenantLimits::series_of_metric_max`].
    SeriesOfMetric,
    /// [`crate::StoreOptions::series_max`].
    StoreSeries,
    /// [`crate::TenantLimits::labels_max`].
    Labels,
    /// [`crate::TenantLimits::label_name_max_bytes`].
    LabelNameBytes,
    /// [`crate::TenantLimits::label_value_max_bytes`].
    LabelValueBytes,
}

impl Limit {
    /// A stable name for metrics and errors, such as `active_series`.
    pub fn as_str(self) -> &'static str {
        match self {
            Limit::ActiveSeries => "active_series",
            Limit::SeriesOfMetric => "series_of_metric",
            Limit::StoreSeries => "store_series",
            Limit::Labels => "labels",
            Limit::LabelNameBytes => "label_name_bytes",
            Limit::LabelValueBytes => "label_value_bytes",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Limit::ActiveSeries | Limit::SeriesOfMetric => {
                "drop labels with many values or ask the operator for more"
            }
            Limit::StoreSeries => "the operator has to give the store more memory",
            Limit::Labels => "send fewer attributes",
            Limit::LabelNameBytes => "send a shorter name",
            Limit::LabelValueBytes => "send a shorter value",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::ActiveSeries => "active series",
            Limit::SeriesOfMetric => "active series of one metric",
            Limit::StoreSeries => "active series of all tenants",
            Limit::Labels => "labels of a series",
            Limit::LabelNameBytes => "bytes of a label name",
            Limit::LabelValueBytes => "bytes of a label value",
        })
    }
}
