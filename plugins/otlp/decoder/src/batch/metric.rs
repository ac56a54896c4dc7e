//! The metric whose points are arriving.

use super::rejection::{REJECTIONS_MAX, Reason};
use super::{Batch, index};

/// Which of OTLP's five types a metric's data are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shape {
    /// None that this decoder knows; there are no points then.
    #[default]
    None,
    Gauge,
    Sum,
    Histogram,
    ExponentialHistogram,
    Summary,
}

/// What is known of a metric beside its points.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Metric<'a> {
    pub(crate) name: &'a str,
    pub(crate) unit: &'a str,
    pub(crate) shape: Shape,
    /// 1 delta, 2 cumulative, as in OTLP.
    pub(crate) temporality: i64,
    pub(crate) is_monotonic: bool,
}

impl Metric<'_> {
    /// Takes another type of data; what the one before said of itself is void.
    pub(crate) fn take_shape(&mut self, shape: Shape) {
        self.shape = shape;
        self.temporality = 0;
        self.is_monotonic = false;
    }

    /// The number of its kind in `wit/telemetry.wit`.
    fn kind(&self) -> Result<u8, Reason> {
        let by_temporality = |cumulative, delta| match self.temporality {
            1 => Ok(delta),
            2 => Ok(cumulative),
            other => Err(Reason::Temporality(other)),
        };
        match (self.shape, self.is_monotonic) {
            (Shape::None | Shape::Gauge, _) => Ok(0),
            (Shape::Sum, true) => by_temporality(1, 3),
            (Shape::Sum, false) => by_temporality(2, 4),
            (Shape::Histogram | Shape::ExponentialHistogram, _) => by_temporality(5, 6),
            (Shape::Summary, _) => Ok(7),
        }
    }
}

/// Where the open metric's rows begin and what became of its points so far.
#[derive(Default)]
pub(super) struct OpenMetric {
    pub(super) series: usize,
    numbers: usize,
    histograms: usize,
    /// Points in the columns.
    pub(super) points: u64,
    /// Points left out, and the first reasons.
    rejected: u64,
    reasons: Vec<(Reason, u64)>,
}

impl OpenMetric {
    pub(super) fn clear(&mut self) {
        self.series = 0;
        self.numbers = 0;
        self.histograms = 0;
        self.points = 0;
        self.rejected = 0;
        self.reasons.clear();
    }

    /// Leaves one point out.
    #[cold]
    pub(super) fn reject(&mut self, reason: Reason) {
        self.rejected += 1;
        if let Some((_, points)) = self.reasons.last_mut().filter(|(last, _)| *last == reason) {
            *points += 1;
        } else if self.reasons.len() < REJECTIONS_MAX {
            self.reasons.push((reason, 1));
        }
    }
}

impl Batch {
    /// Forgets the open metric's points: another type of data takes their place, as protobuf's `oneof` wants it.
    pub(crate) fn restart_metric(&mut self) {
        let OpenMetric {
            series,
            numbers,
            histograms,
            ..
        } = self.metric;
        self.columns.truncate(series, numbers, histograms);
        self.metric.points = 0;
        self.metric.rejected = 0;
        self.metric.reasons.clear();
    }

    /// Ends a metric: all streams since the one before are its own, or none when it breaks a rule.
    pub(crate) fn end_metric(&mut self, metric: &Metric<'_>) {
        let all_points = self.metric.points + self.metric.rejected;
        if all_points == 0 {
            return;
        }
        let kind = match metric.name {
            "" => Err(Reason::NoName),
            _ => metric.kind(),
        };
        match kind {
            Ok(kind) => self.keep_metric(metric, kind),
            Err(reason) => {
                self.restart_metric();
                self.decoded.reject(metric.name, all_points, reason);
            }
        }
        self.metric.clear();
        self.metric.series = self.columns.series.attributes.len();
        self.metric.numbers = self.columns.numbers.series.len();
        self.metric.histograms = self.columns.histograms.series.len();
    }

    fn keep_metric(&mut self, metric: &Metric<'_>, kind: u8) {
        self.decoded.points += self.metric.points;
        let described: u64 = self.metric.reasons.iter().map(|(_, points)| points).sum();
        self.decoded.rejected_points += self.metric.rejected - described;
        for (reason, points) in self.metric.reasons.drain(..) {
            self.decoded.reject(metric.name, points, reason);
        }
        let rows = self.columns.series.attributes.len();
        if rows > self.metric.series {
            let (name, unit) = (self.symbol(metric.name), self.symbol(metric.unit));
            let series = &mut self.columns.series;
            series.names.resize(rows, name);
            series.units.resize(rows, unit);
            series.kinds.resize(rows, kind);
        }
    }

    /// The stream of an attribute set; the same for consecutive points of one set.
    #[inline(always)]
    pub(super) fn stream(&mut self, set: u32) -> u32 {
        let sets = &mut self.columns.series.attributes;
        let rows = sets.len();
        if rows > self.metric.series && sets[rows - 1] == set {
            return index(rows - 1);
        }
        sets.push(set);
        index(rows)
    }
}
