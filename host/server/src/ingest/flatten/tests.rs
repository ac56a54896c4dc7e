//! Batches and the series that they become.

use std::collections::BTreeMap;

use shoal_model::telemetry::{HistogramColumns, Metrics, NumberColumns, SeriesColumns};

use super::*;

/// A batch of one stream with no points yet: name, unit, kind and the attributes of resource and point.
fn stream(
    name: &str,
    unit: &str,
    kind: MetricKind,
    resource: &[(&str, &str)],
    point: &[(&str, &str)],
) -> Metrics {
    let mut metrics = Metrics::default();
    let mut symbol = |text: &str| {
        metrics.symbol_bytes.extend_from_slice(text.as_bytes());
        metrics.symbol_ends.push(metrics.symbol_bytes.len() as u32);
        metrics.symbol_ends.len() as u32 - 1
    };
    let (name, unit) = (symbol(name), symbol(unit));
    let sets: Vec<Vec<u32>> = [resource, &[("name", "test-scope")], point]
        .iter()
        .map(|set| {
            set.iter()
                .flat_map(|(name, value)| [symbol(name), symbol(value)])
                .collect()
        })
        .collect();
    for set in sets {
        metrics.set_pairs.extend(set);
        metrics.set_ends.push(metrics.set_pairs.len() as u32 / 2);
    }
    metrics.series = SeriesColumns {
        names: vec![name],
        units: vec![unit],
        kinds: vec![kind as u8],
        resources: vec![0],
        scopes: vec![1],
        attributes: vec![2],
    };
    metrics
}

fn with_number(mut metrics: Metrics, time_unix_nano: u64, value: f64) -> ValidMetrics {
    metrics.numbers = NumberColumns {
        series: vec![0],
        parts: vec![0],
        quantiles: vec![0.0],
        start_unix_nano: vec![0],
        time_unix_nano: vec![time_unix_nano],
        values: vec![value],
        stale: vec![0],
    };
    metrics.validate().expect("a good batch")
}

/// A series register that hands out indices.
#[derive(Default)]
struct Register {
    series: Vec<(Labels, SeriesFacts)>,
}

impl Register {
    fn flatten(&mut self, metrics: &ValidMetrics, streams: &Streams<usize>) -> Flat<usize> {
        flatten(metrics, streams, &(0..=i64::MAX), |labels, facts| {
            self.series.push((labels.clone(), facts.clone()));
            Ok(self.series.len() - 1)
        })
    }

    /// Series as text, with their values.
    fn shown(&self, flat: &Flat<usize>) -> BTreeMap<String, f64> {
        flat.series
            .iter()
            .zip(&flat.values)
            .map(|(at, value)| (self.series[*at].0.to_string(), *value))
            .collect()
    }
}

#[test]
fn resource_scope_and_point_attributes_become_labels() {
    let resource = [
        ("service.name", "api"),
        ("service.namespace", "shop"),
        ("host.name", "web-1"),
        ("x", "resource"),
    ];
    let metrics = stream(
        "system.cpu.time",
        "s",
        MetricKind::Counter,
        &resource,
        &[("cpu.mode", "user"), ("x", "point")],
    );
    let mut register = Register::default();
    let flat = register.flatten(
        &with_number(metrics, 1_500_000_000, 2.5),
        &Streams::default(),
    );
    assert_eq!(
        (flat.time_unix_ms[0], flat.values[0], flat.accepted_points),
        (1500, 2.5, 1)
    );
    let (labels, facts) = &register.series[0];
    assert_eq!(
        labels.to_string(),
        "system_cpu_time_seconds_total{cpu_mode=\"user\", host_name=\"web-1\", job=\"shop/api\", \
         otel_scope_name=\"test-scope\", service_name=\"api\", service_namespace=\"shop\", x=\"point\"}"
    );
    assert_eq!(facts.owner, Owner::StandardHost("web-1".into()));
}

#[test]
fn names_that_come_out_equal_are_joined_in_order() {
    let metrics = stream(
        "m",
        "",
        MetricKind::Gauge,
        &[],
        &[("a.b", "2"), ("a-b", "1")],
    );
    let mut register = Register::default();
    register.flatten(&with_number(metrics, 1, 0.0), &Streams::default());
    assert_eq!(register.series[0].0.get("a_b"), Some("1;2"));
}

#[test]
fn a_known_stream_is_not_resolved_again() {
    let metrics = with_number(
        stream("m", "", MetricKind::Gauge, &[("host.name", "h")], &[]),
        1,
        1.0,
    );
    let mut register = Register::default();
    let mut streams = Streams::default();
    let first = register.flatten(&metrics, &streams);
    streams.learn(first.learned);
    let second = register.flatten(&metrics, &streams);
    assert_eq!(register.series.len(), 1);
    assert_eq!(second.series, [0]);
    let other = with_number(
        stream("m", "", MetricKind::Gauge, &[("host.name", "g")], &[]),
        1,
        1.0,
    );
    register.flatten(&other, &streams);
    assert_eq!(
        register.series.len(),
        2,
        "another resource is another stream"
    );
}

#[test]
fn a_point_without_a_time_and_a_series_over_a_limit_are_refused_by_name() {
    let metrics = with_number(stream("m", "", MetricKind::Gauge, &[], &[]), 0, 1.0);
    let flat = Register::default().flatten(&metrics, &Streams::default());
    assert_eq!(
        flat.refused[0].reason,
        "metric \"m\" has a point without a time; set time_unix_nano"
    );
    let long = "v".repeat(LABEL_VALUE_MAX_BYTES + 1);
    let metrics = with_number(
        stream("m", "", MetricKind::Gauge, &[], &[("k", &long)]),
        1,
        1.0,
    );
    let flat = Register::default().flatten(&metrics, &Streams::default());
    assert!(
        flat.refused[0].reason.contains("label \"k\""),
        "{}",
        flat.refused[0].reason
    );
    assert_eq!(flat.accepted_points, 0);
    let many: Vec<(String, String)> = (0..LABELS_MAX)
        .map(|at| (format!("k{at}"), "v".into()))
        .collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let metrics = with_number(stream("m", "", MetricKind::Gauge, &[], &many), 1, 1.0);
    let flat = Register::default().flatten(&metrics, &Streams::default());
    assert!(
        flat.refused[0].reason.contains("at most 100"),
        "{}",
        flat.refused[0].reason
    );
}

#[track_caller]
fn refused(metrics: Metrics, words: &str) {
    let metrics = with_number(metrics, 1, 1.0);
    let flat = Register::default().flatten(&metrics, &Streams::default());
    assert_eq!((flat.accepted_points, flat.refused_points), (0, 1));
    let reason = &flat.refused[0].reason;
    assert!(reason.contains(words), "{reason}");
}

/// Joining names that come out equal takes time by the square of their number: half a minute for this set.
#[test]
fn a_giant_set_of_attributes_is_refused_before_it_is_looked_through() {
    let names: Vec<String> = (0..100_000).map(|at| format!("k{at}")).collect();
    let giant: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    let metrics = stream("m", "", MetricKind::Gauge, &[], &giant);
    refused(metrics, "100001 attributes; at most 100");
    let long = "n".repeat(LABEL_VALUE_MAX_BYTES + 1);
    let metrics = stream(&long, "", MetricKind::Gauge, &[], &[]);
    refused(metrics, "a name of 4097 bytes");
    let metrics = stream("m", &long, MetricKind::Gauge, &[], &[]);
    refused(metrics, "a unit of 4097 bytes");
}

/// Usage of all tenants goes to the database together, so what it refuses must not get that far.
#[test]
fn an_owner_that_the_database_could_not_keep_is_refused() {
    let long = "h".repeat(OWNER_MAX_BYTES + 1);
    for (key, value, words) in [
        ("host.name", "a\0b", "host.name has 3 bytes"),
        ("container.id", &*long, "container.id has 501 bytes"),
        ("service.name", &*long, "service.name has 501 bytes"),
    ] {
        refused(
            stream("m", "", MetricKind::Gauge, &[(key, value)], &[]),
            words,
        );
    }
}

/// One histogram point with these columns.
fn histogram(kind: MetricKind, change: impl FnOnce(&mut HistogramColumns)) -> ValidMetrics {
    let mut metrics = stream("latency", "s", kind, &[], &[]);
    metrics.histograms = HistogramColumns {
        series: vec![0],
        start_unix_nano: vec![0],
        time_unix_nano: vec![1_000_000],
        counts: vec![6],
        sums: vec![1.5],
        mins: vec![f64::NAN],
        maxs: vec![f64::NAN],
        scales: vec![EXPLICIT_BOUNDS],
        zero_counts: vec![0],
        zero_thresholds: vec![0.0],
        positive_offsets: vec![0],
        positive_ends: vec![3],
        negative_offsets: vec![0],
        negative_ends: vec![3],
        bound_ends: vec![2],
        stale: vec![0],
        bucket_counts: vec![1, 2, 3],
        bounds: vec![0.1, 1.0],
    };
    change(&mut metrics.histograms);
    metrics.validate().expect("a good batch")
}

#[test]
fn an_explicit_histogram_becomes_cumulative_buckets() {
    let mut register = Register::default();
    let flat = register.flatten(
        &histogram(MetricKind::Histogram, |_| {}),
        &Streams::default(),
    );
    let scope = "otel_scope_name=\"test-scope\"";
    let wanted = [
        (
            format!("latency_seconds_bucket{{le=\"+Inf\", {scope}}}"),
            6.0,
        ),
        (
            format!("latency_seconds_bucket{{le=\"0.1\", {scope}}}"),
            1.0,
        ),
        (format!("latency_seconds_bucket{{le=\"1\", {scope}}}"), 3.0),
        (format!("latency_seconds_count{{{scope}}}"), 6.0),
        (format!("latency_seconds_sum{{{scope}}}"), 1.5),
    ];
    assert_eq!(register.shown(&flat), BTreeMap::from(wanted));
    assert_eq!(flat.accepted_points, 1);
}

#[test]
fn an_exponential_histogram_keeps_its_bounds_in_order() {
    let metrics = histogram(MetricKind::DeltaHistogram, |h| {
        h.scales = vec![0];
        h.zero_counts = vec![1];
        h.positive_offsets = vec![1];
        h.positive_ends = vec![2];
        h.negative_offsets = vec![0];
        h.negative_ends = vec![3];
        h.bound_ends = vec![0];
        h.bucket_counts = vec![2, 1, 2];
        h.bounds = vec![];
        h.maxs = vec![7.0];
    });
    let mut register = Register::default();
    let flat = register.flatten(&metrics, &Streams::default());
    let bucket = |le: &str| {
        let (at, value) = flat
            .series
            .iter()
            .zip(&flat.values)
            .find(|(at, _)| register.series[**at].0.get("le") == Some(le))
            .unwrap_or_else(|| panic!("no bucket {le}"));
        assert_eq!(register.series[*at].1.kind, MetricKind::DeltaCounter);
        *value
    };
    assert_eq!(
        [
            bucket("-1"),
            bucket("0"),
            bucket("4"),
            bucket("8"),
            bucket("+Inf")
        ],
        [2.0, 3.0, 5.0, 6.0, 6.0]
    );
    assert!(
        register
            .shown(&flat)
            .keys()
            .any(|labels| labels.starts_with("latency_seconds_max"))
    );
}

#[test]
fn a_stream_that_ended_becomes_stale_markers() {
    let metrics = histogram(MetricKind::Histogram, |h| h.stale = vec![1]);
    let flat = Register::default().flatten(&metrics, &Streams::default());
    assert!(
        flat.values
            .iter()
            .all(|value| value.to_bits() == STALE.to_bits())
    );
}

#[test]
fn a_point_outside_of_the_times_that_are_taken_is_refused_by_name() {
    for (nano, wanted) in [
        (999_000_000, "before 1000, the earliest that is kept"),
        (2_001_000_000, "later than 2000; set the sender's clock"),
    ] {
        let metrics = with_number(stream("m", "", MetricKind::Gauge, &[], &[]), nano, 1.0);
        let streams = Streams::<usize>::default();
        let flat = flatten(&metrics, &streams, &(1000..=2000), |_, _| Ok(0));
        assert_eq!((flat.accepted_points, flat.refused_points), (0, 1));
        let reason = &flat.refused[0].reason;
        assert!(
            reason.contains("metric \"m\"") && reason.contains(wanted),
            "{reason}"
        );
    }
}

#[test]
fn a_histogram_with_too_many_buckets_is_refused_by_name() {
    let metrics = histogram(MetricKind::Histogram, |h| {
        h.bucket_counts = vec![1; BUCKETS_MAX + 1];
        h.bounds = (0..BUCKETS_MAX).map(|bound| bound as f64).collect();
        h.positive_ends = vec![BUCKETS_MAX as u32 + 1];
        h.negative_ends = h.positive_ends.clone();
        h.bound_ends = vec![BUCKETS_MAX as u32];
    });
    let flat = Register::default().flatten(&metrics, &Streams::default());
    assert_eq!((flat.accepted_points, flat.refused_points), (0, 1));
    assert!(
        flat.refused[0].reason.contains("1001 buckets"),
        "{:?}",
        flat.refused
    );
}

#[test]
fn refusals_beyond_the_first_are_counted_without_words() {
    let mut metrics = stream("m", "", MetricKind::Gauge, &[], &[]);
    let many = REFUSED_MAX as u32 + 5;
    for columns in [
        &mut metrics.series.names,
        &mut metrics.series.units,
        &mut metrics.series.resources,
        &mut metrics.series.scopes,
        &mut metrics.series.attributes,
    ] {
        *columns = vec![columns[0]; many as usize];
    }
    metrics.series.kinds = vec![MetricKind::Gauge as u8; many as usize];
    metrics.numbers = NumberColumns {
        series: (0..many).collect(),
        parts: vec![0; many as usize],
        quantiles: vec![0.0; many as usize],
        start_unix_nano: vec![0; many as usize],
        time_unix_nano: vec![1; many as usize],
        values: vec![0.0; many as usize],
        stale: vec![0; many as usize],
    };
    let metrics = metrics.validate().expect("a good batch");
    let streams = Streams::<usize>::default();
    let flat = flatten(&metrics, &streams, &(0..=1), |_, _| Err("no".to_owned()));
    assert_eq!(flat.refused.len(), REFUSED_MAX);
    assert_eq!(flat.refused_points, u64::from(many));
}

#[test]
fn what_is_remembered_is_weighed() {
    let mut streams = Streams::default();
    streams.learn(vec![(1, Box::new([1, 2, 3])), (2, Box::new([4]))]);
    let weight = streams.weight();
    streams.learn(vec![(1, Box::new([5, 6, 7]))]);
    assert_eq!(streams.weight(), weight, "replaced, not added");
    streams.forget();
    assert_eq!(streams.weight(), 0);
}
