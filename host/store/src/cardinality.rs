//! What a tenant's active series consist of: which metrics have the most, which labels the most values, what is new.
//!
//! Counted when somebody asks, from the head's index, so that it costs nothing until then: no series knows when it
//! was made, but serial numbers rise, and [`Births`] knows which one was next at which minute. The work is done
//! in steps, between which commits go on; memory is bounded by [`CARDINALITY_TOP_MAX`] and [`COUNTED_MAX`].

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;
use shoal_model::labels::{Labels, METRIC_NAME};
use shoal_model::{TenantId, Timestamp};

use crate::store::shared::{Shared, Tenant};

/// Longest list that can be asked for.
pub const CARDINALITY_TOP_MAX: usize = 1000;
/// Different metrics with new series, or values of a metric's labels, that are told apart: some 50 MB. What is beyond is
/// counted in no list.
const COUNTED_MAX: usize = 1_000_000;
/// Places or values that are looked at under one lock: less than a millisecond.
const STEP: usize = 4096;
/// Between two notes of what the next serial number is.
const NOTE_EVERY_MS: i64 = 60_000;
/// Notes that are kept: an hour's, and one before.
const NOTES_MAX: usize = 62;

/// What is to be counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardinalityOf {
    /// Only series of this metric, to find its label with the most values.
    pub metric: Option<String>,
    /// Length of each list, at most [`CARDINALITY_TOP_MAX`].
    pub top: usize,
    /// Series made since are new; what was longer ago than an hour is not known.
    pub since: Timestamp,
}

/// What the active series consist of. Lists begin with the largest; equal ones are in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cardinality {
    /// Active series: of the metric, if one was named.
    pub series: u64,
    /// Of these, new ones.
    pub new_series: u64,
    /// What new means: at most a minute before what was asked for, or when the store was opened.
    pub new_since: Timestamp,
    /// Label names.
    pub label_names: u64,
    /// Pairs of a label's name and a value.
    pub label_pairs: u64,
    /// Metrics by series. Of one metric: that one.
    pub metrics: Vec<MetricCount>,
    /// Metrics by new series.
    pub new_metrics: Vec<MetricCount>,
    /// Labels by values.
    pub labels: Vec<LabelCount>,
    /// Values of labels by series, without those of the metric's name.
    pub pairs: Vec<PairCount>,
}

/// How many series a metric has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricCount {
    /// Its name.
    pub metric: Arc<str>,
    /// Its series.
    pub series: u64,
}

/// How many values a label has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelCount {
    /// Its name.
    pub label: Arc<str>,
    /// Different values.
    pub values: u64,
}

/// How many series a label's value has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairCount {
    /// The label's name.
    pub label: Arc<str>,
    /// The value.
    pub value: Arc<str>,
    /// Series with it.
    pub series: u64,
}

/// Which serial number was next when.
#[derive(Debug, Default)]
pub(crate) struct Births(Mutex<VecDeque<(i64, u64)>>);

impl Births {
    /// Notes a new series' serial number, if the last note is old.
    pub(crate) fn note(&self, now: Timestamp, serial: u64) {
        let mut notes = self.0.lock();
        if notes
            .back()
            .is_some_and(|(at, _)| now.0 < at.saturating_add(NOTE_EVERY_MS))
        {
            return;
        }
        notes.push_back((now.0, serial));
        if notes.len() > NOTES_MAX {
            notes.pop_front();
        }
    }

    /// From which serial number on series are new that were made since a time, and what that means exactly.
    fn since(&self, time: Timestamp) -> (Timestamp, u64) {
        let notes = self.0.lock();
        let after = notes.partition_point(|(at, _)| *at <= time.0);
        // Who came after the last note before that time may have come before the time.
        let note = notes.get(after.saturating_sub(1)).copied();
        let (at, serial) = note.unwrap_or((time.0, 0));
        (Timestamp(at), serial)
    }
}

/// The largest of many.
struct Top<K: Ord> {
    max: usize,
    kept: BinaryHeap<Reverse<(u64, Reverse<K>)>>,
}

impl<K: Ord> Top<K> {
    fn new(max: usize) -> Top<K> {
        Top {
            max: max.min(CARDINALITY_TOP_MAX),
            kept: BinaryHeap::new(),
        }
    }

    fn add(&mut self, key: K, count: u64) {
        self.kept.push(Reverse((count, Reverse(key))));
        if self.kept.len() > self.max {
            self.kept.pop();
        }
    }

    /// The largest first.
    fn finish<T>(self, of: impl Fn(K, u64) -> T) -> Vec<T> {
        let sorted = self.kept.into_sorted_vec().into_iter();
        sorted
            .map(|Reverse((count, Reverse(key)))| of(key, count))
            .collect()
    }
}

impl Shared {
    /// Series made from here on can be new; the age of those that are there is not known.
    pub(crate) fn begin_births(&self) {
        let now = Timestamp(self.latest_received.load(Relaxed));
        self.births.note(now, self.serials.load(Relaxed));
    }

    pub(crate) fn cardinality(&self, tenant: TenantId, of: &CardinalityOf) -> Cardinality {
        let (new_since, serial) = self.births.since(of.since);
        let empty = Cardinality {
            new_since,
            ..Cardinality::default()
        };
        match (self.known_tenant(tenant), &of.metric) {
            (None, _) => empty,
            (Some(tenant), None) => of_all(&tenant, of.top, serial, empty),
            (Some(tenant), Some(metric)) => of_metric(&tenant, metric, (of.top, serial), empty),
        }
    }
}

fn of_all(tenant: &Tenant, top: usize, serial: u64, empty: Cardinality) -> Cardinality {
    let names = tenant.head.read().label_names();
    let (mut labels, mut label_pairs) = (Top::new(top), 0);
    let (mut metrics, mut pairs) = (Top::new(top), Top::new(top));
    for (name, values) in &names {
        label_pairs += values;
        labels.add(name.clone(), *values);
        each_value(tenant, name, |value, series| match &**name {
            METRIC_NAME => metrics.add(value, series),
            _ => pairs.add((name.clone(), value), series),
        });
    }
    let (new_series, new_metrics) = new_by_metric(tenant, top, serial);
    Cardinality {
        series: tenant.head.read().series_count() as u64,
        new_series,
        new_metrics,
        label_names: names.len() as u64,
        label_pairs,
        metrics: metrics.finish(|metric, series| MetricCount { metric, series }),
        labels: labels.finish(|label, values| LabelCount { label, values }),
        pairs: pairs.finish(pair_count),
        ..empty
    }
}

fn pair_count((label, value): (Arc<str>, Arc<str>), series: u64) -> PairCount {
    PairCount {
        label,
        value,
        series,
    }
}

fn each_value(tenant: &Tenant, name: &str, mut see: impl FnMut(Arc<str>, u64)) {
    let mut last = None;
    loop {
        let step = tenant.head.read().values_after(name, last.as_ref(), STEP);
        let Some((value, _)) = step.last() else {
            return;
        };
        last = Some(value.clone());
        step.into_iter()
            .for_each(|(value, series)| see(value, series));
    }
}

/// New series, and the metrics that have the most of them.
fn new_by_metric(tenant: &Tenant, top: usize, serial: u64) -> (u64, Vec<MetricCount>) {
    let (mut new, mut by_metric) = (0, HashMap::<Arc<str>, u64>::new());
    let mut slot = 0;
    loop {
        let born = tenant.head.read().born_since(serial, slot, STEP);
        let Some(born) = born else { break };
        slot += STEP;
        new += born.len() as u64;
        for labels in &born {
            let metric = metric_of(labels);
            let is_full = by_metric.len() >= COUNTED_MAX;
            match by_metric.entry(metric) {
                Entry::Occupied(mut known) => *known.get_mut() += 1,
                Entry::Vacant(place) if !is_full => drop(place.insert(1)),
                Entry::Vacant(_) => {}
            }
        }
    }
    let mut metrics = Top::new(top);
    for (metric, series) in by_metric {
        metrics.add(metric, series);
    }
    let metrics = metrics.finish(|metric, series| MetricCount { metric, series });
    (new, metrics)
}

fn metric_of(labels: &Labels) -> Arc<str> {
    let mut labels = labels.iter();
    let name = labels.find(|label| &*label.name == METRIC_NAME);
    name.map_or_else(|| Arc::from(""), |label| label.value.clone())
}

fn of_metric(
    tenant: &Tenant,
    metric: &str,
    (top, serial): (usize, u64),
    empty: Cardinality,
) -> Cardinality {
    let slots = tenant.head.read().slots_of_metric(metric).cloned();
    let slots: Vec<u32> = slots.unwrap_or_default().iter().collect();
    // Values are told apart by their texts, which the index shares between series.
    let mut values: BTreeMap<Arc<str>, HashMap<Arc<str>, u64>> = BTreeMap::new();
    let (mut told_apart, mut series, mut new_series) = (0, 0, 0);
    for step in slots.chunks(STEP) {
        let step = tenant.head.read().labels_of(step);
        series += step.len() as u64;
        new_series += step.iter().filter(|(born, _)| *born >= serial).count() as u64;
        for label in step.iter().flat_map(|(_, labels)| labels) {
            if &*label.name == METRIC_NAME {
                continue;
            }
            let of_label = values.entry(label.name.clone()).or_default();
            match of_label.get_mut(&label.value) {
                Some(count) => *count += 1,
                None if told_apart < COUNTED_MAX => {
                    told_apart += 1;
                    of_label.insert(label.value.clone(), 1);
                }
                None => {}
            }
        }
    }
    let (mut labels, mut pairs) = (Top::new(top), Top::new(top));
    let label_names = values.len() as u64;
    for (name, values) in values {
        labels.add(name.clone(), values.len() as u64);
        for (value, series) in values {
            pairs.add((name.clone(), value), series);
        }
    }
    Cardinality {
        series,
        new_series,
        label_names,
        label_pairs: told_apart as u64,
        metrics: vec![MetricCount {
            metric: Arc::from(metric),
            series,
        }],
        labels: labels.finish(|label, values| LabelCount { label, values }),
        pairs: pairs.finish(pair_count),
        ..empty
    }
}

#[cfg(test)]
mod tests {
    use shoal_model::telemetry::MetricKind;

    use super::*;
    use crate::{Limit, MemoryCatalog, Samples, SeriesMeta, Store, StoreOptions, TenantLimits};

    const TENANT: TenantId = TenantId(3);
    const NOW: Timestamp = Timestamp(1_795_478_400_000);

    fn meta() -> SeriesMeta {
        SeriesMeta {
            kind: MetricKind::Gauge,
            unit: Arc::from(""),
            owner: None,
        }
    }

    async fn opened(change: impl FnOnce(&mut StoreOptions)) -> (Store, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut options = StoreOptions::new(folder.path());
        change(&mut options);
        let opened = Store::open(options, Arc::new(MemoryCatalog::new()), NOW).await;
        (opened.expect("opened").0, folder)
    }

    /// One sample of a series, which moves the store's clock.
    async fn send(store: &Store, pairs: &[(&str, &str)], at: Timestamp) {
        let labels = Labels::from_pairs(pairs.iter().copied());
        let series = store.resolve(TENANT, &labels, meta()).expect("no limit");
        let samples = Samples {
            series: &[series],
            time_unix_ms: &[at.0],
            values: &[1.0],
        };
        store.append(TENANT, &samples, at).await.expect("committed");
    }

    fn of(metric: Option<&str>, since: Timestamp) -> CardinalityOf {
        CardinalityOf {
            metric: metric.map(str::to_owned),
            top: 2,
            since,
        }
    }

    fn metrics(list: &[MetricCount]) -> Vec<(&str, u64)> {
        list.iter().map(|one| (&*one.metric, one.series)).collect()
    }

    #[tokio::test]
    async fn the_largest_and_the_newest_are_found() {
        let (store, _folder) = opened(|_| {}).await;
        let minute = |minutes: i64| Timestamp(NOW.0 + minutes * 60_000);
        for user in 0..5 {
            let user = user.to_string();
            send(
                &store,
                &[("__name__", "logins"), ("job", "web"), ("user", &user)],
                NOW,
            )
            .await;
        }
        for metric in ["a", "b"] {
            send(&store, &[("__name__", metric), ("job", "web")], NOW).await;
        }
        send(&store, &[("__name__", "b"), ("job", "api")], minute(90)).await;
        send(&store, &[("__name__", "b"), ("job", "db")], minute(91)).await;

        let found = store.cardinality(TENANT, &of(None, minute(60)));
        assert_eq!(
            (found.series, found.label_names, found.label_pairs),
            (9, 3, 11)
        );
        assert_eq!(metrics(&found.metrics), [("logins", 5), ("b", 3)]);
        let labels = found.labels.iter().map(|one| (&*one.label, one.values));
        assert_eq!(labels.collect::<Vec<_>>(), [("user", 5), ("__name__", 3)]);
        let pair = &found.pairs[0];
        assert_eq!((&*pair.label, &*pair.value, pair.series), ("job", "web", 7));
        assert_eq!(found.new_since, NOW, "the last note before that time");

        let found = store.cardinality(TENANT, &of(None, minute(91)));
        assert_eq!((found.new_since, found.new_series), (minute(90), 1));
        assert_eq!(metrics(&found.new_metrics), [("b", 1)]);

        let found = store.cardinality(TENANT, &of(Some("logins"), minute(91)));
        assert_eq!(
            (found.series, found.new_series, found.label_names),
            (5, 0, 2)
        );
        assert_eq!(
            (&*found.labels[0].label, found.labels[0].values),
            ("user", 5)
        );
        assert_eq!(store.cardinality(TENANT, &of(Some("none"), NOW)).series, 0);
        assert_eq!(store.cardinality(TenantId(9), &of(None, NOW)).series, 0);
    }

    #[tokio::test]
    async fn what_is_counted_in_steps_is_counted_once() {
        let (store, _folder) = opened(|_| {}).await;
        let count = 2 * STEP + 1;
        for number in 0..count {
            let labels = Labels::from_pairs([("__name__", "m"), ("n", &number.to_string())]);
            store.resolve(TENANT, &labels, meta()).expect("no limit");
        }
        let found = store.cardinality(TENANT, &of(None, NOW));
        assert_eq!(
            (found.series, found.new_series),
            (count as u64, count as u64)
        );
        assert_eq!(found.labels[0].values, count as u64);
        assert_eq!(found.pairs.len(), 2);
        let all = CardinalityOf {
            top: usize::MAX,
            ..of(None, NOW)
        };
        let found = store.cardinality(TENANT, &all);
        assert_eq!(found.pairs.len(), CARDINALITY_TOP_MAX);
        let found = store.cardinality(TENANT, &of(Some("m"), NOW));
        assert_eq!(
            (found.series, found.label_pairs),
            (count as u64, count as u64)
        );
    }

    #[tokio::test]
    async fn over_a_limit_only_new_series_are_refused_and_the_growing_label_is_named() {
        let limits = TenantLimits {
            active_series_max: 5,
            series_of_metric_max: 3,
            ..TenantLimits::default()
        };
        let (store, _folder) = opened(|options| options.tenant = limits).await;
        let resolve = |metric: &str, zone: &str, user: &str| {
            let pairs = [("__name__", metric), ("zone", zone), ("user", user)];
            store.resolve(TENANT, &Labels::from_pairs(pairs), meta())
        };
        for user in ["1", "2", "3"] {
            resolve("m", "a", user).expect("no limit");
        }
        let reached = resolve("m", "a", "4").expect_err("of one metric");
        assert_eq!(reached.limit, Limit::SeriesOfMetric);
        assert_eq!(
            reached.to_string(),
            "\"m\" is over the limit of 3 active series of one metric (label \"user\" grows, it has 3 values): \
             drop labels with many values or ask the operator for more"
        );
        for user in ["1", "2"] {
            resolve("n", "b", user).expect("another metric");
        }
        // Each value is known: the label with the most values makes the combinations.
        let reached = resolve("n", "a", "1").expect_err("of all");
        assert_eq!((reached.limit, reached.max), (Limit::ActiveSeries, 5));
        assert_eq!(
            (reached.label.as_deref(), reached.label_values),
            (Some("user"), Some(3))
        );
        // A value that is new is the one that makes them, however few there are.
        let reached = resolve("n", "c", "1").expect_err("of all");
        assert_eq!(reached.label.as_deref(), Some("zone"));
        resolve("m", "a", "1").expect("it is there already");
    }

    #[test]
    fn notes_are_kept_for_an_hour() {
        let births = Births::default();
        for minute in 0..200 {
            births.note(Timestamp(minute * 60_000), minute as u64);
            births.note(Timestamp(minute * 60_000 + 59_999), 1_000_000);
        }
        assert_eq!(births.0.lock().len(), NOTES_MAX);
        let hour_ago = Timestamp((199 - 60) * 60_000);
        assert_eq!(births.since(hour_ago), (hour_ago, 139));
        let before_all = births.since(Timestamp(0));
        assert_eq!(before_all, (Timestamp(138 * 60_000), 138));
    }
}
