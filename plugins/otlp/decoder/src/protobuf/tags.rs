//! The tags that the decoder knows, by message. Source: opentelemetry-proto 1.11,
//! `collector/metrics/v1/metrics_service.proto`, `metrics/v1/metrics.proto`, `common/v1/common.proto`.

use crate::wire::{fixed64, length, varint};

pub(super) mod request {
    use super::*;
    pub(crate) const RESOURCE_METRICS: u64 = length(1);
}

pub(super) mod resource_metrics {
    use super::*;
    pub(crate) const RESOURCE: u64 = length(1);
    pub(crate) const SCOPE_METRICS: u64 = length(2);
}

pub(super) mod resource {
    use super::*;
    pub(crate) const ATTRIBUTES: u64 = length(1);
}

pub(super) mod scope_metrics {
    use super::*;
    pub(crate) const SCOPE: u64 = length(1);
    pub(crate) const METRICS: u64 = length(2);
    pub(crate) const SCHEMA_URL: u64 = length(3);
}

pub(super) mod scope {
    use super::*;
    pub(crate) const NAME: u64 = length(1);
    pub(crate) const VERSION: u64 = length(2);
    pub(crate) const ATTRIBUTES: u64 = length(3);
}

pub(super) mod metric {
    use super::*;
    pub(crate) const NAME: u64 = length(1);
    pub(crate) const UNIT: u64 = length(3);
    pub(crate) const GAUGE: u64 = length(5);
    pub(crate) const SUM: u64 = length(7);
    pub(crate) const HISTOGRAM: u64 = length(9);
    pub(crate) const EXPONENTIAL_HISTOGRAM: u64 = length(10);
    pub(crate) const SUMMARY: u64 = length(11);
}

/// `Gauge`, `Sum`, `Histogram`, `ExponentialHistogram` and `Summary` number alike what they share.
pub(super) mod data {
    use super::*;
    pub(crate) const DATA_POINTS: u64 = length(1);
    pub(crate) const AGGREGATION_TEMPORALITY: u64 = varint(2);
    pub(crate) const IS_MONOTONIC: u64 = varint(3);
}

/// All data points number these alike.
pub(super) mod point {
    use super::*;
    pub(crate) const START_TIME_UNIX_NANO: u64 = fixed64(2);
    pub(crate) const TIME_UNIX_NANO: u64 = fixed64(3);
}

pub(super) mod number_point {
    use super::*;
    pub(crate) const AS_DOUBLE: u64 = fixed64(4);
    pub(crate) const AS_INT: u64 = fixed64(6);
    pub(crate) const ATTRIBUTES: u64 = length(7);
    pub(crate) const FLAGS: u64 = varint(8);
}

/// What both kinds of histogram points number alike.
pub(super) mod distribution {
    use super::*;
    pub(crate) const COUNT: u64 = fixed64(4);
    pub(crate) const SUM: u64 = fixed64(5);
    pub(crate) const FLAGS: u64 = varint(10);
}

pub(super) mod histogram_point {
    use super::*;
    pub(crate) const BUCKET_COUNTS: u64 = length(6);
    pub(crate) const BUCKET_COUNT: u64 = fixed64(6);
    pub(crate) const EXPLICIT_BOUNDS: u64 = length(7);
    pub(crate) const EXPLICIT_BOUND: u64 = fixed64(7);
    pub(crate) const ATTRIBUTES: u64 = length(9);
    pub(crate) const MIN: u64 = fixed64(11);
    pub(crate) const MAX: u64 = fixed64(12);
}

pub(super) mod exponential_point {
    use super::*;
    pub(crate) const ATTRIBUTES: u64 = length(1);
    pub(crate) const SCALE: u64 = varint(6);
    pub(crate) const ZERO_COUNT: u64 = fixed64(7);
    pub(crate) const POSITIVE: u64 = length(8);
    pub(crate) const NEGATIVE: u64 = length(9);
    pub(crate) const MIN: u64 = fixed64(12);
    pub(crate) const MAX: u64 = fixed64(13);
    pub(crate) const ZERO_THRESHOLD: u64 = fixed64(14);
}

pub(super) mod buckets {
    use super::*;
    pub(crate) const OFFSET: u64 = varint(1);
    pub(crate) const BUCKET_COUNTS: u64 = length(2);
    pub(crate) const BUCKET_COUNT: u64 = varint(2);
}

pub(super) mod summary_point {
    use super::*;
    pub(crate) const COUNT: u64 = fixed64(4);
    pub(crate) const SUM: u64 = fixed64(5);
    pub(crate) const QUANTILE_VALUES: u64 = length(6);
    pub(crate) const ATTRIBUTES: u64 = length(7);
    pub(crate) const FLAGS: u64 = varint(8);
}

pub(super) mod quantile_value {
    use super::*;
    pub(crate) const QUANTILE: u64 = fixed64(1);
    pub(crate) const VALUE: u64 = fixed64(2);
}

pub(super) mod key_value {
    use super::*;
    pub(crate) const KEY: u64 = length(1);
    pub(crate) const VALUE: u64 = length(2);
}

pub(super) mod any_value {
    use super::*;
    pub(crate) const STRING: u64 = length(1);
    pub(crate) const BOOL: u64 = varint(2);
    pub(crate) const INT: u64 = varint(3);
    pub(crate) const DOUBLE: u64 = fixed64(4);
    pub(crate) const ARRAY: u64 = length(5);
    pub(crate) const LIST: u64 = length(6);
    pub(crate) const BYTES: u64 = length(7);
}

/// `ArrayValue` and `KeyValueList`.
pub(super) mod values {
    use super::*;
    pub(crate) const VALUES: u64 = length(1);
}
