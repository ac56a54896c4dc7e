//! What holds for all queries and all data.

use std::collections::BTreeMap;

use proptest::prelude::*;
use shoal_model::labels::Labels;
use shoal_promql::{Limits, Query, STALE_BITS, SeriesData, Value, evaluate, parse};

use crate::queries::{extreme, noise, vector};
use crate::source::{Memory, labels};

fn data() -> impl Strategy<Value = Memory> {
    let value = prop_oneof![
        20 => (0i32..10).prop_map(f64::from),
        2 => Just(f64::NAN),
        2 => Just(f64::from_bits(STALE_BITS)),
        1 => Just(f64::INFINITY),
        1 => Just(-2.5),
    ];
    let samples = prop::collection::btree_map((-10i64..40).prop_map(|n| n * 10), value, 0..25);
    let names = [
        "a{l=\"x\", m=\"1\"}",
        "a{l=\"x\", m=\"2\"}",
        "a{l=\"y\", m=\"1\"}",
        "b{l=\"x\", m=\"1\"}",
        "b{l=\"y\"}",
    ];
    prop::collection::vec(samples, names.len()).prop_map(move |all| {
        let series = names.iter().zip(all).map(|(name, samples)| SeriesData {
            labels: labels(name),
            times_ms: samples.keys().map(|seconds| seconds * 1000).collect(),
            values: samples.into_values().collect(),
        });
        Memory {
            series: series.collect(),
            ..Memory::default()
        }
    })
}

/// Values by labels and time.
type Points = BTreeMap<(Labels, i64), f64>;

/// The points that a range query gives.
fn by_range(memory: &Memory, text: &str, from: i64, to: i64, step: i64) -> Option<Points> {
    let Value::Matrix(matrix) = memory.range(text, from, to, step).ok()?.value else {
        panic!("a range query gives a matrix");
    };
    let mut points = Points::new();
    for series in matrix {
        for point in series.points {
            points.insert((series.labels.clone(), point.time_ms), point.value);
        }
    }
    Some(points)
}

/// The points that instant queries at the same times give.
fn by_instants(memory: &Memory, text: &str, from: i64, to: i64, step: i64) -> Option<Points> {
    let mut points = Points::new();
    for seconds in (from..=to).step_by(step as usize) {
        let Value::Vector(samples) = memory.instant(text, seconds).ok()?.value else {
            panic!("the query is for a vector");
        };
        for sample in samples {
            let point = sample.point;
            points.insert((sample.labels, point.time_ms), point.value);
        }
    }
    Some(points)
}

/// Sums in another order may differ in their last bits.
fn is_near(a: f64, b: f64) -> bool {
    let size = a.abs().max(b.abs()).max(1.0);
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * size
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn nothing_makes_the_parser_panic(text in noise(), bytes in ".{0,60}") {
        let _ = parse(&text);
        let _ = parse(&bytes);
    }

    #[test]
    fn what_is_printed_parses_to_the_same(text in vector()) {
        let expr = parse(&text).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        let printed = expr.to_string();
        let again = parse(&printed)
            .map_err(|error| TestCaseError::fail(format!("{text} as {printed}: {error}")))?;
        prop_assert_eq!(&expr, &again, "{}", printed);
    }

    #[test]
    fn noise_that_parses_prints_to_the_same(text in noise()) {
        if let Ok(expr) = parse(&text) {
            let again = parse(&expr.to_string())
                .map_err(|error| TestCaseError::fail(format!("{text} as {expr}: {error}")))?;
            prop_assert_eq!(expr, again);
        }
    }

    #[test]
    fn nothing_makes_the_evaluator_panic(
        text in prop_oneof![extreme(), noise()],
        memory in data(),
        start_ms in prop::sample::select(vec![0, 1, -1, 1 << 61, -(1 << 61), i64::MAX, i64::MIN]),
        length_ms in prop::sample::select(vec![0, 1, 60_000, 1 << 61, i64::MAX]),
        step_ms in prop::sample::select(vec![1, 20_000, 1 << 61, i64::MAX]),
    ) {
        let Ok(expr) = parse(&text) else { return Ok(()) };
        let end_ms = start_ms.saturating_add(length_ms);
        let limits = Limits { samples_max: 10_000, ..Limits::default() };
        let _ = evaluate(&Query::instant(expr.clone(), start_ms), &memory, &limits);
        let _ = evaluate(&Query::range(expr, start_ms, end_ms, step_ms), &memory, &limits);
    }

    #[test]
    fn a_range_query_equals_a_loop_of_instant_queries(
        text in vector(),
        memory in data(),
        from in 0i64..100,
        step in 1i64..60,
    ) {
        let to = from + 5 * step;
        let range = by_range(&memory, &text, from, to, step);
        let instants = by_instants(&memory, &text, from, to, step);
        prop_assert_eq!(range.is_some(), instants.is_some(), "one of them fails: {}", text);
        let (Some(range), Some(instants)) = (range, instants) else { return Ok(()) };
        prop_assert_eq!(range.len(), instants.len(), "{}: {:?} {:?}", text, range, instants);
        for ((key, value), (other_key, other)) in range.iter().zip(&instants) {
            prop_assert_eq!(key, other_key, "{}", text);
            prop_assert!(is_near(*value, *other), "{}: {:?} {} {}", text, key, value, other);
        }
    }
}
