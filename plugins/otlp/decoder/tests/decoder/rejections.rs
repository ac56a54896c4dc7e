//! Points that OTLP forbids are left out, counted and named; the others arrive.

use prost::Message;
use shoal_otlp_decoder::{Decoder, REJECTIONS_MAX, decode_protobuf};

use crate::consistency::check;
use crate::messages::*;
use crate::readable::lines;

/// Decodes `bad` between two good metrics: those must arrive, and the rejections read as expected.
#[track_caller]
fn rejected(bad: Metric, expected: &[&str]) {
    let good = |name| metric(name, "", gauge(vec![point(&[], 5, Number::AsInt(1))]));
    let body = request(vec![good("before"), bad, good("after")]).encode_to_vec();
    let mut decoder = Decoder::default();
    let decoded = decode_protobuf(&body, &mut decoder).expect("good bytes");
    check(decoder.columns());
    let messages: Vec<String> = decoded.rejections.iter().map(|r| r.to_string()).collect();
    assert_eq!(messages, expected);
    let points: u64 = decoded.rejections.iter().map(|r| r.points).sum();
    assert_eq!(decoded.rejected_points, points);
    let lines = lines(decoder.columns());
    assert!(lines.iter().any(|line| line.starts_with("gauge before ")));
    assert!(lines.iter().any(|line| line.starts_with("gauge after ")));
    assert_eq!(lines.len() as u64, decoded.points);
}

fn int(value: i64) -> NumberDataPoint {
    point(&[("a", "1")], 5, Number::AsInt(value))
}

#[test]
fn a_metric_without_a_name() {
    rejected(
        metric("", "s", gauge(vec![int(1), int(2)])),
        &["a metric without a name: 2 points: the metric has no name"],
    );
}

#[test]
fn a_temporality_that_is_unspecified_or_unknown() {
    let unspecified = "aggregation_temporality is unspecified; send cumulative (2) or delta (1)";
    rejected(
        metric("m", "", sum(0, true, vec![int(1)])),
        &[&format!("m: 1 point: {unspecified}")],
    );
    rejected(
        metric(
            "m",
            "",
            histogram(0, vec![explicit_point(), explicit_point()]),
        ),
        &[&format!("m: 2 points: {unspecified}")],
    );
    rejected(
        metric("m", "", exponential(-1, vec![exponential_point(3)])),
        &["m: 1 point: aggregation_temporality -1 is unknown; send cumulative (2) or delta (1)"],
    );
}

#[test]
fn a_point_without_a_time_or_a_value() {
    let mut timeless = int(1);
    timeless.time_unix_nano = 0;
    let mut empty = int(1);
    empty.value = None;
    rejected(
        metric(
            "m",
            "",
            gauge(vec![timeless.clone(), timeless, int(3), empty]),
        ),
        &[
            "m: 2 points: time_unix_nano is missing or 0",
            "m: 1 point: the point has neither a value nor the flag that says so",
        ],
    );
    let mut histogram_point = explicit_point();
    histogram_point.time_unix_nano = 0;
    rejected(
        metric("m", "", histogram(DELTA, vec![histogram_point])),
        &["m: 1 point: time_unix_nano is missing or 0"],
    );
    let data_points = vec![SummaryDataPoint::default()];
    rejected(
        metric("m", "", Data::Summary(Summary { data_points })),
        &["m: 1 point: time_unix_nano is missing or 0"],
    );
}

#[test]
fn buckets_that_do_not_fit_their_bounds() {
    let with = |bucket_counts: &[u64], explicit_bounds: &[f64]| {
        let point = HistogramDataPoint {
            bucket_counts: bucket_counts.to_vec(),
            explicit_bounds: explicit_bounds.to_vec(),
            ..explicit_point()
        };
        metric("m", "", histogram(DELTA, vec![point]))
    };
    let few = "m: 1 point: 2 bucket_counts do not fit 2 explicit_bounds; there must be one more";
    rejected(with(&[1, 2], &[0.5, 1.0]), &[few]);
    let none = "m: 1 point: 0 bucket_counts do not fit 1 explicit_bounds; there must be one more";
    rejected(with(&[], &[0.5]), &[none]);
    let bounds = "m: 1 point: explicit_bounds must be finite and rise";
    rejected(with(&[1, 2, 3], &[1.0, 1.0]), &[bounds]);
    rejected(with(&[1, 2], &[f64::NAN]), &[bounds]);
    rejected(with(&[1, 2], &[f64::INFINITY]), &[bounds]);
}

#[test]
fn exponential_buckets_out_of_range() {
    let with = |change: fn(&mut ExponentialHistogramDataPoint)| {
        let mut point = exponential_point(3);
        change(&mut point);
        metric("m", "", exponential(DELTA, vec![point]))
    };
    rejected(
        with(|p| p.scale = -11),
        &["m: 1 point: scale -11 is below -10"],
    );
    rejected(
        with(|p| p.positive.as_mut().expect("set").offset = i32::MAX),
        &["m: 1 point: buckets from offset 2147483647 on pass the largest index"],
    );
    rejected(
        with(|p| p.zero_threshold = -1.0),
        &["m: 1 point: zero_threshold -1 is not a width"],
    );
}

#[test]
fn a_scale_above_the_range_is_brought_down_and_not_rejected() {
    let body = request(vec![metric(
        "m",
        "",
        exponential(DELTA, vec![exponential_point(21)]),
    )]);
    let mut decoder = Decoder::default();
    let decoded = decode_protobuf(&body.encode_to_vec(), &mut decoder).expect("good bytes");
    assert_eq!(decoded.rejected_points, 0);
    let line = &lines(decoder.columns())[0];
    let expected = "scale 20 zero 2±0.25 positive -1+[1, 302] negative 2+[4]";
    assert!(line.ends_with(expected), "{line}");
}

#[test]
fn a_quantile_that_is_none() {
    let point = |wrong| SummaryDataPoint {
        time_unix_nano: 5,
        quantile_values: vec![quantile(0.5, 1.0), quantile(wrong, 1.0)],
        ..SummaryDataPoint::default()
    };
    let data_points = vec![point(1.5), point(f64::NAN)];
    rejected(
        metric("m", "", Data::Summary(Summary { data_points })),
        &[
            "m: 1 point: quantile 1.5 is not from 0 to 1",
            "m: 1 point: quantile NaN is not from 0 to 1",
        ],
    );
}

#[test]
fn all_are_counted_and_the_first_sixteen_described() {
    let metrics = (0..40).map(|number| {
        let name = format!("{number}-{}", "é".repeat(1000));
        metric(&name, "", sum(0, true, vec![int(1), int(2)]))
    });
    let body = request(metrics.collect()).encode_to_vec();
    let mut decoder = Decoder::default();
    let decoded = decode_protobuf(&body, &mut decoder).expect("good bytes");
    assert_eq!((decoded.points, decoded.rejected_points), (0, 80));
    assert_eq!(decoded.rejections.len(), REJECTIONS_MAX);
    assert!(decoded.rejections[3].metric.starts_with("3-é"));
    assert!(decoded.rejections.iter().all(|r| r.metric.len() <= 256));
    assert!(decoder.columns().is_empty());
    check(decoder.columns());

    let quantiles = (0..40).map(|number| SummaryDataPoint {
        time_unix_nano: 5,
        quantile_values: vec![quantile(2.0 + f64::from(number), 1.0)],
        ..SummaryDataPoint::default()
    });
    let data_points = quantiles.collect();
    let body = request(vec![metric(
        "m",
        "",
        Data::Summary(Summary { data_points }),
    )]);
    let decoded = decode_protobuf(&body.encode_to_vec(), &mut decoder).expect("good bytes");
    assert_eq!(decoded.rejected_points, 40);
    assert_eq!(decoded.rejections.len(), REJECTIONS_MAX);
}

#[test]
fn an_attribute_without_a_name_is_left_out() {
    let pairs = &[("", "x"), ("a", "1"), ("", "y")][..];
    let body = request(vec![metric(
        "m",
        "",
        gauge(vec![
            point(&[("", "x")], 5, Number::AsInt(1)),
            point(pairs, 5, Number::AsInt(2)),
        ]),
    )]);
    assert_eq!(
        lines(&crate::golden::columns(&body)),
        [
            r#"gauge m "" {} {} {} 1..5 = 1"#,
            r#"gauge m "" {} {} {a=1} 1..5 = 2"#
        ]
    );
}
