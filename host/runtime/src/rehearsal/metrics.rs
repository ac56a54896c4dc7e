//! The store of a rehearsal: takes every batch and shows it as JSON.

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use shoal_model::telemetry::{EXPLICIT_BOUNDS, MetricKind, NumberPart, ValidMetrics};

use crate::receiver::{Committed, Ingest, IngestError};

/// Points that are shown of all batches together; all are counted.
const POINTS_SHOWN_MAX: usize = 10_000;

/// Takes everything.
#[derive(Default)]
pub(crate) struct Taken(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    series: Vec<Value>,
    points: usize,
}

impl Taken {
    /// The series that were handed over, in order, each with its points.
    pub(crate) fn json(&self) -> Value {
        Value::Array(self.0.lock().series.clone())
    }
}

#[async_trait]
impl Ingest for Taken {
    async fn write_metrics(&self, batch: ValidMetrics) -> Result<Committed, IngestError> {
        let mut inner = self.0.lock();
        let room = POINTS_SHOWN_MAX.saturating_sub(inner.points);
        inner.points += batch.points();
        if room > 0 {
            inner.series.extend(series(&batch, room));
        }
        Ok(Committed {
            accepted: batch.points() as u64,
            ..Committed::default()
        })
    }
}

fn series(batch: &ValidMetrics, room: usize) -> Vec<Value> {
    let mut points: Vec<Vec<Value>> = vec![Vec::new(); batch.series.names.len()];
    let numbers = (0..batch.numbers.series.len()).map(|row| {
        let of = batch.numbers.series[row];
        (of, number(batch, row))
    });
    let histograms = (0..batch.histograms.series.len()).map(|row| {
        let of = batch.histograms.series[row];
        (of, histogram(batch, row))
    });
    for (of, point) in numbers.chain(histograms).take(room) {
        points[of as usize].push(point);
    }
    let rows = points.into_iter().enumerate();
    rows.map(|(row, points)| described(batch, row, points))
        .collect()
}

fn described(batch: &ValidMetrics, row: usize, points: Vec<Value>) -> Value {
    let columns = &batch.series;
    let set = |set: u32| -> Value {
        batch
            .set(set)
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect::<Map<_, _>>()
            .into()
    };
    json!({
        "name": batch.symbol(columns.names[row]),
        "unit": batch.symbol(columns.units[row]),
        "kind": kind(batch.kind(row as u32)),
        "resource": set(columns.resources[row]),
        "scope": set(columns.scopes[row]),
        "attributes": set(columns.attributes[row]),
        "points": points,
    })
}

fn kind(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Gauge => "gauge",
        MetricKind::Counter => "counter",
        MetricKind::UpDownCounter => "up-down-counter",
        MetricKind::DeltaCounter => "delta-counter",
        MetricKind::DeltaUpDownCounter => "delta-up-down-counter",
        MetricKind::Histogram => "histogram",
        MetricKind::DeltaHistogram => "delta-histogram",
        MetricKind::Summary => "summary",
    }
}

fn number(batch: &ValidMetrics, row: usize) -> Value {
    let n = &batch.numbers;
    let mut point = json!({
        "time_unix_nano": n.time_unix_nano[row],
        "start_unix_nano": n.start_unix_nano[row],
        "value": n.values[row],
    });
    match batch.part(row) {
        NumberPart::Value => {}
        NumberPart::Sum => point["part"] = "sum".into(),
        NumberPart::Count => point["part"] = "count".into(),
        NumberPart::Quantile(quantile) => point["quantile"] = quantile.into(),
    }
    if n.stale[row] != 0 {
        point["stale"] = true.into();
    }
    point
}

fn histogram(batch: &ValidMetrics, row: usize) -> Value {
    let h = &batch.histograms;
    let mut point = json!({
        "time_unix_nano": h.time_unix_nano[row],
        "start_unix_nano": h.start_unix_nano[row],
        "count": h.counts[row],
        "sum": h.sums[row],
        "buckets": h.bucket_counts[batch.positive_buckets(row)],
    });
    if h.scales[row] == EXPLICIT_BOUNDS {
        point["bounds"] = json!(h.bounds[batch.explicit_bounds(row)]);
    } else {
        point["scale"] = h.scales[row].into();
        point["zero_count"] = h.zero_counts[row].into();
        point["negative_buckets"] = json!(h.bucket_counts[batch.negative_buckets(row)]);
    }
    if h.stale[row] != 0 {
        point["stale"] = true.into();
    }
    point
}
