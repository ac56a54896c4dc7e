//! Data points that were left out, and why.

use std::fmt;

/// How many rejections are described; the rest are counted only. As many as the host describes of its own.
pub const REJECTIONS_MAX: usize = 16;

/// Longest part of a metric's name in a rejection, in bytes; names are at most 255 characters by specification.
const NAME_BYTES_MAX: usize = 256;

/// What became of a body's data points.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Data points in the columns. A summary is one point here and several rows there.
    pub points: u64,
    /// Data points that were left out; sending them again would not help.
    pub rejected_points: u64,
    /// The first [`REJECTIONS_MAX`] kinds of them, in the order of the body.
    pub rejections: Vec<Rejection>,
}

/// Data points of one metric that were left out for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The metric's name, cut to 256 bytes.
    pub metric: String,
    /// How many.
    pub points: u64,
    /// Why, in words that name the value at fault.
    pub reason: String,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metric = match self.metric.as_str() {
            "" => "a metric without a name",
            name => name,
        };
        let points = match self.points {
            1 => "1 point",
            many => &format!("{many} points"),
        };
        write!(f, "{metric}: {points}: {}", self.reason)
    }
}

impl Decoded {
    /// Counts points of `metric` that were left out.
    pub(super) fn reject(&mut self, metric: &str, points: u64, reason: Reason) {
        self.rejected_points += points;
        if self.rejections.len() < REJECTIONS_MAX {
            let end = metric.floor_char_boundary(NAME_BYTES_MAX);
            self.rejections.push(Rejection {
                metric: metric[..end].to_owned(),
                points,
                reason: reason.to_string(),
            });
        }
    }
}

/// Why a data point is left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Reason {
    NoName,
    NoTime,
    NoValue,
    Temporality(i64),
    BucketCount { buckets: usize, bounds: usize },
    Bounds,
    Scale(i32),
    BucketOffset(i32),
    ZeroThreshold(f64),
    Quantile(f64),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoName => f.write_str("the metric has no name"),
            Self::NoTime => f.write_str("time_unix_nano is missing or 0"),
            Self::NoValue => f.write_str("the point has neither a value nor the flag that says so"),
            Self::Temporality(0) => f.write_str(
                "aggregation_temporality is unspecified; send cumulative (2) or delta (1)",
            ),
            Self::Temporality(other) => write!(
                f,
                "aggregation_temporality {other} is unknown; send cumulative (2) or delta (1)"
            ),
            Self::BucketCount { buckets, bounds } => write!(
                f,
                "{buckets} bucket_counts do not fit {bounds} explicit_bounds; there must be one more"
            ),
            Self::Bounds => f.write_str("explicit_bounds must be finite and rise"),
            Self::Scale(scale) => write!(f, "scale {scale} is below -10"),
            Self::BucketOffset(offset) => {
                write!(f, "buckets from offset {offset} on pass the largest index")
            }
            Self::ZeroThreshold(threshold) => {
                write!(f, "zero_threshold {threshold} is not a width")
            }
            Self::Quantile(quantile) => write!(f, "quantile {quantile} is not from 0 to 1"),
        }
    }
}
