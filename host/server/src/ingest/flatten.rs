//! Turns a batch of OpenTelemetry-shaped columns into samples of series.
//!
//! A metric stream becomes one series (gauges and sums) or several (histograms and summaries). Which
//! ones is worked out once per stream and remembered in [`Streams`], keyed by a 128-bit hash of what the
//! sender said, because a sender says the same thing every few seconds: a known stream costs a hash and a
//! look-up per point, and no text is built.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use shoal_model::Labels;
use shoal_model::labels::Label;
use shoal_model::telemetry::{EXPLICIT_BOUNDS, MetricKind, NumberPart, ValidMetrics};
use shoal_model::usage::Owner;
use xxhash_rust::xxh3::xxh3_128;

use super::naming::{label_name, metric_name, number_label};

/// The value that ends a series, bit for bit as Prometheus has it.
pub const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// Labels of one series; Prometheus' own scrape limit is in this range.
const LABELS_MAX: usize = 100;
/// Bytes of a label's name.
const LABEL_NAME_MAX_BYTES: usize = 1024;
/// Bytes of a label's value.
const LABEL_VALUE_MAX_BYTES: usize = 4096;
/// Bytes of the name of whose usage a series is: it is a key in the database, where PostgreSQL takes 2,700 at most.
const OWNER_MAX_BYTES: usize = 500;
/// Buckets of one histogram point; each becomes a series. Exponential histograms have 320 by default.
const BUCKETS_MAX: usize = 1000;
/// Streams that are refused by name; the others of a batch are only counted. As many as a receiver is told.
pub const REFUSED_MAX: usize = 16;
/// What a stream's entry takes beside its references, in references.
const ENTRY_WEIGHT: usize = 4;

/// What a series is, beside its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesFacts {
    /// What it measures.
    pub kind: MetricKind,
    /// Its unit in UCUM; empty when unknown.
    pub unit: Arc<str>,
    /// Whose usage it is.
    pub owner: Owner,
}

/// What a tenant's senders said before, and which series it became. `R` refers to a series.
pub struct Streams<R> {
    known: HashMap<u128, Box<[R]>>,
    weight: usize,
}

/// Streams that [`flatten`] learned: the hash of what was said, and the series.
pub type Learned<R> = Vec<(u128, Box<[R]>)>;

impl<R> Default for Streams<R> {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            weight: 0,
        }
    }
}

impl<R> Streams<R> {
    /// Remembers what [`flatten`] learned. What was known of the same streams is replaced.
    pub fn learn(&mut self, learned: Learned<R>) {
        for (key, series) in learned {
            self.weight += ENTRY_WEIGHT + series.len();
            if let Some(before) = self.known.insert(key, series) {
                self.weight -= ENTRY_WEIGHT + before.len();
            }
        }
    }

    /// What it takes in memory, in references (of 16 bytes).
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Forgets everything; it is learned again, which costs time but no data.
    pub fn forget(&mut self) {
        *self = Streams::default();
    }
}

/// Points that did not become samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Row of the stream in the batch.
    pub series: u32,
    /// How many points of it.
    pub points: u32,
    /// One sentence that names the metric and what to change.
    pub reason: String,
}

/// A batch as samples; the columns have one row a sample.
#[derive(Debug)]
pub struct Flat<R> {
    /// Whose sample it is.
    pub series: Vec<R>,
    /// When, milliseconds since the Unix epoch.
    pub time_unix_ms: Vec<i64>,
    /// The value.
    pub values: Vec<f64>,
    /// How many points of the batch became samples.
    pub accepted_points: u64,
    /// How many did not.
    pub refused_points: u64,
    /// The first streams with such points, at most [`REFUSED_MAX`].
    pub refused: Vec<Refused>,
    /// Streams that were not known before.
    pub learned: Learned<R>,
}

/// Turns a batch into samples.
///
/// Points whose time, in Unix milliseconds, is not among `times` are refused. `resolve` finds or makes the series with
/// these labels and says why not when it will not.
pub fn flatten<R: Copy>(
    metrics: &ValidMetrics,
    streams: &Streams<R>,
    times: &RangeInclusive<i64>,
    resolve: impl FnMut(&Labels, &SeriesFacts) -> Result<R, String>,
) -> Flat<R> {
    let mut work = Work {
        metrics,
        keys: Keys::of(metrics),
        streams,
        times,
        resolve,
        flat: Flat::with_capacity(metrics),
    };
    for row in 0..metrics.numbers.series.len() {
        work.number(row);
    }
    for row in 0..metrics.histograms.series.len() {
        work.histogram(row);
    }
    work.flat
}

impl<R> Flat<R> {
    fn with_capacity(metrics: &ValidMetrics) -> Self {
        let numbers = metrics.numbers.series.len();
        Flat {
            series: Vec::with_capacity(numbers),
            time_unix_ms: Vec::with_capacity(numbers),
            values: Vec::with_capacity(numbers),
            accepted_points: 0,
            refused_points: 0,
            refused: Vec::new(),
            learned: Vec::new(),
        }
    }

    fn refuse(&mut self, series: u32, reason: impl FnOnce() -> String) {
        self.refused_points += 1;
        if let Some(same) = self.refused.iter_mut().find(|one| one.series == series) {
            same.points += 1;
        } else if self.refused.len() < REFUSED_MAX {
            self.refused.push(Refused {
                series,
                points: 1,
                reason: reason(),
            });
        }
    }
}

/// Hashes of the content of a batch's rows.
struct Keys {
    series: Vec<u128>,
}

impl Keys {
    fn of(metrics: &ValidMetrics) -> Keys {
        let mut start = 0;
        let ends = metrics.symbol_ends.iter().map(|end| *end as usize);
        let symbols: Vec<u128> = ends
            .map(|end| xxh3_128(&metrics.symbol_bytes[std::mem::replace(&mut start, end)..end]))
            .collect();
        let mut bytes = Vec::new();
        let mut hash = |parts: &mut dyn Iterator<Item = u128>| {
            bytes.clear();
            parts.for_each(|part| bytes.extend_from_slice(&part.to_le_bytes()));
            xxh3_128(&bytes)
        };
        let sets: Vec<u128> = (0..metrics.set_ends.len() as u32)
            .map(|set| {
                hash(
                    &mut metrics
                        .set_symbols(set)
                        .iter()
                        .flatten()
                        .map(|symbol| symbols[*symbol as usize]),
                )
            })
            .collect();
        let s = &metrics.series;
        let series = (0..s.names.len()).map(|row| {
            let parts = [
                symbols[s.names[row] as usize],
                symbols[s.units[row] as usize],
                u128::from(s.kinds[row]),
                sets[s.resources[row] as usize],
                sets[s.scopes[row] as usize],
                sets[s.attributes[row] as usize],
            ];
            hash(&mut parts.into_iter())
        });
        Keys {
            series: series.collect(),
        }
    }
}

/// The series that a histogram's layout becomes: three or five plain ones, then the buckets.
struct HistogramPoint {
    /// Suffix of the name, kind and value.
    plain: Vec<(&'static str, MetricKind, f64)>,
    /// Upper bound and how many values lie at or below it.
    buckets: Vec<(f64, f64)>,
}

struct Work<'a, R, F> {
    metrics: &'a ValidMetrics,
    keys: Keys,
    streams: &'a Streams<R>,
    times: &'a RangeInclusive<i64>,
    resolve: F,
    flat: Flat<R>,
}

impl<R: Copy, F: FnMut(&Labels, &SeriesFacts) -> Result<R, String>> Work<'_, R, F> {
    fn number(&mut self, row: usize) {
        let numbers = &self.metrics.numbers;
        let series = numbers.series[row];
        let Some(time) = self.time(series, numbers.time_unix_nano[row]) else {
            return;
        };
        let value = if numbers.stale[row] == 1 {
            STALE
        } else {
            numbers.values[row]
        };
        let part = self.metrics.part(row);
        let mut key = self.keys.series[series as usize];
        if part != NumberPart::Value {
            let quantile = numbers.quantiles[row].to_bits();
            key ^= u128::from(numbers.parts[row]) << 64
                | u128::from(quantile).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        if let Some(known) = self.streams.known.get(&key) {
            self.sample(known[0], time, value);
            self.flat.accepted_points += 1;
            return;
        }
        let kind = self.metrics.kind(series);
        let (suffix, kind, extra) = match part {
            NumberPart::Value => ("", kind, None),
            NumberPart::Sum => ("_sum", MetricKind::Counter, None),
            NumberPart::Count => ("_count", MetricKind::Counter, None),
            NumberPart::Quantile(quantile) => (
                "",
                MetricKind::Gauge,
                Some(("quantile", number_label(quantile))),
            ),
        };
        match self.series(series, suffix, kind, extra) {
            Ok(found) => {
                self.sample(found, time, value);
                self.flat.accepted_points += 1;
                self.flat.learned.push((key, Box::new([found])));
            }
            Err(reason) => self.flat.refuse(series, || reason),
        }
    }

    fn histogram(&mut self, row: usize) {
        let h = &self.metrics.histograms;
        let series = h.series[row];
        let Some(time) = self.time(series, h.time_unix_nano[row]) else {
            return;
        };
        let buckets =
            self.metrics.positive_buckets(row).len() + self.metrics.negative_buckets(row).len();
        if buckets > BUCKETS_MAX {
            let name = self.name(series);
            return self.flat.refuse(series, || {
                format!("metric {name:?} has a histogram of {buckets} buckets; at most {BUCKETS_MAX} are taken")
            });
        }
        let point = self.histogram_point(row);
        let values = point
            .plain
            .iter()
            .map(|(_, _, value)| *value)
            .chain(point.buckets.iter().map(|(_, n)| *n));
        let values: Vec<f64> = if h.stale[row] == 1 {
            values.map(|_| STALE).collect()
        } else {
            values.collect()
        };
        let key = self.keys.series[series as usize] ^ layout_key(&point);
        if let Some(known) = self.streams.known.get(&key) {
            for (found, value) in known.iter().zip(&values) {
                self.sample(*found, time, *value);
            }
            self.flat.accepted_points += 1;
            return;
        }
        let bucket_kind = cumulative_kind(self.metrics.kind(series));
        let mut found = Vec::with_capacity(values.len());
        let plain = point
            .plain
            .iter()
            .map(|(suffix, kind, _)| (*suffix, *kind, None));
        let buckets = point
            .buckets
            .iter()
            .map(|(bound, _)| ("_bucket", bucket_kind, Some(("le", number_label(*bound)))));
        for (suffix, kind, extra) in plain.chain(buckets) {
            match self.series(series, suffix, kind, extra) {
                Ok(one) => found.push(one),
                Err(reason) => return self.flat.refuse(series, || reason),
            }
        }
        for (one, value) in found.iter().zip(&values) {
            self.sample(*one, time, *value);
        }
        self.flat.accepted_points += 1;
        self.flat.learned.push((key, found.into()));
    }

    /// Counts as Prometheus' classic histogram has them: cumulative over the buckets, `+Inf` last.
    ///
    /// Exponential buckets get their upper bounds as `le`; native histograms will keep them as they are.
    fn histogram_point(&self, row: usize) -> HistogramPoint {
        let h = &self.metrics.histograms;
        let counter = cumulative_kind(self.metrics.kind(h.series[row]));
        let mut plain = vec![("_count", counter, h.counts[row] as f64)];
        for (suffix, kind, value) in [
            ("_sum", counter, h.sums[row]),
            ("_min", MetricKind::Gauge, h.mins[row]),
            ("_max", MetricKind::Gauge, h.maxs[row]),
        ] {
            if !value.is_nan() {
                plain.push((suffix, kind, value));
            }
        }
        let positive = &h.bucket_counts[self.metrics.positive_buckets(row)];
        let mut buckets = Vec::new();
        let mut total = 0u64;
        let mut bucket = |bound: f64, count: u64| {
            total = total.saturating_add(count);
            buckets.push((bound, total as f64));
        };
        if h.scales[row] == EXPLICIT_BOUNDS {
            for (bound, count) in h.bounds[self.metrics.explicit_bounds(row)]
                .iter()
                .zip(positive)
            {
                bucket(*bound, *count);
            }
        } else {
            let bound = |index: i64| (index as f64 * 2f64.powi(-i32::from(h.scales[row]))).exp2();
            let negative = &h.bucket_counts[self.metrics.negative_buckets(row)];
            for (at, count) in negative.iter().enumerate().rev() {
                bucket(
                    -bound(i64::from(h.negative_offsets[row]) + at as i64),
                    *count,
                );
            }
            if h.zero_counts[row] > 0 || !negative.is_empty() {
                bucket(h.zero_thresholds[row], h.zero_counts[row]);
            }
            for (at, count) in positive.iter().enumerate() {
                bucket(
                    bound(i64::from(h.positive_offsets[row]) + at as i64 + 1),
                    *count,
                );
            }
        }
        buckets.retain(|(bound, _)| bound.is_finite());
        buckets.push((f64::INFINITY, h.counts[row] as f64));
        HistogramPoint { plain, buckets }
    }

    /// Milliseconds, or a refusal when the point has no time or one that is not taken.
    fn time(&mut self, series: u32, unix_nano: u64) -> Option<i64> {
        let time = (unix_nano / 1_000_000) as i64;
        if unix_nano != 0 && self.times.contains(&time) {
            return Some(time);
        }
        let name = self.name(series);
        let (earliest, latest) = (self.times.start(), self.times.end());
        self.flat.refuse(series, || {
            if unix_nano == 0 {
                format!("metric {name:?} has a point without a time; set time_unix_nano")
            } else if time > *latest {
                format!(
                    "metric {name:?} has a point at {time} (Unix ms), later than {latest}; set the sender's clock"
                )
            } else {
                format!(
                    "metric {name:?} has a point at {time} (Unix ms), before {earliest}, the earliest that is kept"
                )
            }
        });
        None
    }

    /// The metric's name as its sender gave it, cut for messages.
    fn name(&self, series: u32) -> String {
        let name = self.metrics.series.names[series as usize];
        self.metrics.symbol(name).chars().take(200).collect()
    }

    fn sample(&mut self, series: R, time_unix_ms: i64, value: f64) {
        self.flat.series.push(series);
        self.flat.time_unix_ms.push(time_unix_ms);
        self.flat.values.push(value);
    }

    fn series(
        &mut self,
        series: u32,
        suffix: &str,
        kind: MetricKind,
        extra: Option<(&str, String)>,
    ) -> Result<R, String> {
        let (labels, facts) = identity(self.metrics, series, suffix, kind, extra)?;
        (self.resolve)(&labels, &facts)
    }
}

/// Parts of a histogram are counters, or what was added to them.
fn cumulative_kind(kind: MetricKind) -> MetricKind {
    if kind.is_delta() {
        MetricKind::DeltaCounter
    } else {
        MetricKind::Counter
    }
}

fn layout_key(point: &HistogramPoint) -> u128 {
    let suffixes = point.plain.iter().flat_map(|(suffix, _, _)| suffix.bytes());
    let bounds = point
        .buckets
        .iter()
        .flat_map(|(bound, _)| bound.to_bits().to_le_bytes());
    xxh3_128(&suffixes.chain(bounds).collect::<Vec<u8>>())
}

/// The labels of a series and what else is known of it.
///
/// A point's attribute wins over one of the scope, and that over one of the resource, when they come to
/// the same name; within one set the values are joined with `;`, as the specification says.
fn identity(
    metrics: &ValidMetrics,
    series: u32,
    suffix: &str,
    kind: MetricKind,
    extra: Option<(&str, String)>,
) -> Result<(Labels, SeriesFacts), String> {
    let columns = &metrics.series;
    let row = series as usize;
    check_size(metrics, row)?;
    let (raw_name, unit) = (
        metrics.symbol(columns.names[row]),
        metrics.symbol(columns.units[row]),
    );
    let name = metric_name(raw_name, unit, metrics.kind(series)) + suffix;
    let resource: Vec<(&str, &str)> = metrics.set(columns.resources[row]).collect();
    let of_resource = |key: &str| {
        resource
            .iter()
            .find(|(name, _)| *name == key)
            .map_or("", |(_, value)| *value)
    };

    let mut labels = Vec::new();
    let (namespace, service) = (
        of_resource("service.namespace"),
        of_resource("service.name"),
    );
    let job = if namespace.is_empty() {
        service.to_owned()
    } else {
        format!("{namespace}/{service}")
    };
    push(&mut labels, "job", &job);
    push(&mut labels, "instance", of_resource("service.instance.id"));
    push_set(&mut labels, "", resource.iter().copied());
    push_set(&mut labels, "otel_scope_", metrics.set(columns.scopes[row]));
    push_set(&mut labels, "", metrics.set(columns.attributes[row]));
    if let Some((name, value)) = &extra {
        push(&mut labels, name, value);
    }
    push(&mut labels, shoal_model::labels::METRIC_NAME, &name);

    let shown: String = raw_name.chars().take(200).collect();
    if labels.len() > LABELS_MAX {
        return Err(format!(
            "metric {shown:?} has {} labels; at most {LABELS_MAX} are taken",
            labels.len()
        ));
    }
    for label in &labels {
        if label.name.len() > LABEL_NAME_MAX_BYTES || label.value.len() > LABEL_VALUE_MAX_BYTES {
            return Err(too_long(&shown, &label.name, &label.value));
        }
    }
    let facts = SeriesFacts {
        kind,
        unit: Arc::from(unit),
        owner: owner(of_resource).map_err(|why| format!("metric {shown:?} {why}"))?,
    };
    Ok((Labels::from_labels(labels), facts))
}

/// Refuses what is too large before anything of it is copied: a million series may share one enormous attribute.
fn check_size(metrics: &ValidMetrics, row: usize) -> Result<(), String> {
    let columns = &metrics.series;
    let (name, unit) = (
        metrics.symbol(columns.names[row]),
        metrics.symbol(columns.units[row]),
    );
    let shown = || -> String { name.chars().take(200).collect() };
    if name.len() > LABEL_VALUE_MAX_BYTES || unit.len() > LABEL_NAME_MAX_BYTES {
        return Err(format!(
            "metric {:?} has a name of {} bytes and a unit of {} bytes; at most {LABEL_VALUE_MAX_BYTES} and \
             {LABEL_NAME_MAX_BYTES} are taken",
            shown(),
            name.len(),
            unit.len()
        ));
    }
    let sets = [
        columns.resources[row],
        columns.scopes[row],
        columns.attributes[row],
    ];
    let attributes: usize = sets.map(|set| metrics.set_symbols(set).len()).iter().sum();
    if attributes > LABELS_MAX {
        return Err(format!(
            "metric {:?} has {attributes} attributes; at most {LABELS_MAX} are taken",
            shown()
        ));
    }
    for (key, value) in sets.into_iter().flat_map(|set| metrics.set(set)) {
        if key.len() > LABEL_NAME_MAX_BYTES || value.len() > LABEL_VALUE_MAX_BYTES {
            return Err(too_long(&shown(), key, value));
        }
    }
    Ok(())
}

fn too_long(metric: &str, name: &str, value: &str) -> String {
    let short: String = name.chars().take(60).collect();
    format!(
        "metric {metric:?} has a label {short:?} of {} bytes with a value of {} bytes; at most \
         {LABEL_NAME_MAX_BYTES} and {LABEL_VALUE_MAX_BYTES} are taken",
        name.len(),
        value.len()
    )
}

/// Whose usage a series is: a container's, a host's or a service's.
fn owner<'a>(resource: impl Fn(&str) -> &'a str) -> Result<Owner, String> {
    const CONTAINER: [&str; 2] = ["container.id", "k8s.pod.uid"];
    const HOST: [&str; 2] = ["host.id", "host.name"];
    let is_named = |key: &&str| !resource(key).is_empty();
    let (key, kind): (&str, fn(String) -> Owner) =
        if let Some(key) = CONTAINER.into_iter().find(is_named) {
            (key, Owner::MicroHost)
        } else if let Some(key) = HOST.into_iter().find(is_named) {
            (key, Owner::StandardHost)
        } else {
            ("service.name", Owner::Service)
        };
    let name = resource(key);
    if name.len() > OWNER_MAX_BYTES || name.contains('\0') {
        return Err(format!(
            "has a resource whose {key} has {} bytes; at most {OWNER_MAX_BYTES} without NUL are taken",
            name.len()
        ));
    }
    Ok(kind(name.to_owned()))
}

fn push(labels: &mut Vec<Label>, name: &str, value: &str) {
    labels.push(Label {
        name: Arc::from(name),
        value: Arc::from(value),
    });
}

/// Puts a set's attributes behind `labels`. Attributes whose names come out equal are joined.
fn push_set<'a>(
    labels: &mut Vec<Label>,
    prefix: &str,
    set: impl Iterator<Item = (&'a str, &'a str)>,
) {
    let start = labels.len();
    let mut sorted: Vec<(&str, &str)> = set.filter(|(name, _)| !name.is_empty()).collect();
    sorted.sort_unstable();
    for (name, value) in sorted {
        let name = if prefix.is_empty() {
            label_name(name)
        } else {
            format!("{prefix}{}", label_name(name))
        };
        match labels[start..].iter_mut().find(|label| *label.name == name) {
            Some(same) => same.value = Arc::from(format!("{};{value}", same.value)),
            None => push(labels, &name, value),
        }
    }
}

#[cfg(test)]
mod tests;
