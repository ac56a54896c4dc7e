//! What Prometheus' own tests do not say, or say only with delayed name removal.

use shoal_promql::{
    EvalError, Query, STALE_BITS, SeriesData, SeriesSource, Severity, SourceError, Value, evaluate,
    parse,
};

use crate::source::Memory;

const STALE: f64 = f64::from_bits(STALE_BITS);

fn counters() -> Memory {
    Memory::of(&[
        ("a_total{l=\"x\"}", &[(0, 0.0), (60, 60.0), (120, 120.0)]),
        ("b_total{l=\"x\"}", &[(0, 1.0), (60, 2.0), (120, 3.0)]),
    ])
}

#[test]
fn names_are_dropped_at_once_unless_asked_otherwise() {
    let memory = counters();
    let text = "sum by (__name__) (rate(a_total[2m]))";
    assert_eq!(memory.shown(text, 120), ["{} 1"]);
    let kept = r#"label_replace(rate(a_total[2m]), "was", "$1", "__name__", "(.+)")"#;
    assert_eq!(memory.shown(kept, 120), [r#"{l="x"} 1"#]);

    let mut query = Query::instant(parse(kept).expect("parses"), 120_000);
    query.delays_name_removal = true;
    let answer = evaluate(&query, &memory, &Default::default()).expect("an answer");
    let Value::Vector(samples) = answer.value else {
        panic!("a vector");
    };
    assert_eq!(samples[0].labels.get("was"), Some("a_total"));
}

#[test]
fn series_that_become_the_same_are_an_error() {
    let error = counters()
        .instant(r#"rate({l="x"}[2m])"#, 120)
        .expect_err("twice the same");
    let message = "vector cannot contain metrics with the same labelset";
    assert_eq!(error.to_string(), message);
}

#[test]
fn windows_and_lookback_are_open_on_the_left() {
    let memory = Memory::of(&[("m", &[(0, 1.0), (60, 2.0)])]);
    assert_eq!(memory.shown("count_over_time(m[1m])", 60), ["{} 1"]);
    assert_eq!(memory.shown("count_over_time(m[61s])", 60), ["{} 2"]);
    assert_eq!(memory.shown("m", 359), ["m 2"]);
    assert_eq!(memory.shown("m", 360), [""; 0]);
}

#[test]
fn a_stale_marker_ends_a_series_and_other_nan_do_not() {
    let memory = Memory::of(&[("m", &[(0, f64::NAN), (10, STALE), (20, 3.0)])]);
    assert_eq!(memory.shown("m", 5), ["m NaN"]);
    assert_eq!(memory.shown("m", 15), [""; 0]);
    assert_eq!(memory.shown("m", 25), ["m 3"]);
    assert_eq!(memory.shown("count_over_time(m[1m])", 25), ["{} 2"]);
}

#[test]
fn the_source_is_asked_once_per_selector_for_all_that_is_needed() {
    let memory = counters();
    memory
        .range(
            "rate(a_total[2m] offset 1m) + max_over_time(b_total[3m:1m])",
            600,
            900,
            60,
        )
        .expect("an answer");
    let asked = memory.asked.borrow();
    let (rate, subquery) = (asked[0], asked[1]);
    assert_eq!(asked.len(), 2);
    assert_eq!(rate, (600_000 - 180_000 + 1, 900_000 - 60_000));
    assert_eq!(subquery, (480_000 - 300_000 + 1, 900_000));
}

#[test]
fn notes_say_where_in_the_query_they_belong() {
    let text = "quantile(2, m)";
    let answer = Memory::default().instant(text, 0).expect("an answer");
    let note = &answer.notes[0];
    assert_eq!(note.severity, Severity::Warning);
    assert_eq!(
        note.render(text),
        "PromQL warning: quantile value should be between 0 and 1, got 2 (1:10)"
    );
}

#[test]
fn a_range_query_for_text_is_refused() {
    let error = counters()
        .range("\"text\"", 0, 60, 60)
        .expect_err("refused");
    assert!(matches!(error, EvalError::NotRangeable { found: "string" }));
    let error = counters()
        .range("a_total[5m]", 0, 60, 60)
        .expect_err("refused");
    assert!(matches!(
        error,
        EvalError::NotRangeable {
            found: "range vector"
        }
    ));
}

#[test]
fn times_that_make_no_sense_are_refused() {
    let expr = parse("1").expect("parses");
    for (start, end, step) in [(0, 60, 0), (60, 0, 1), (i64::MIN, 0, 1), (0, i64::MAX, 1)] {
        let query = Query::range(expr.clone(), start, end, step);
        let error = evaluate(&query, &Memory::default(), &Default::default());
        assert!(
            matches!(error, Err(EvalError::BadTimes(_))),
            "{start} {end} {step}"
        );
    }
}

#[test]
fn what_the_source_says_is_passed_on() {
    struct Broken;
    impl SeriesSource for Broken {
        fn select(
            &self,
            _: &[shoal_promql::Matcher],
            _: i64,
            _: i64,
        ) -> Result<Vec<SeriesData>, SourceError> {
            Err(SourceError::TooMuch("select fewer series".to_owned()))
        }
    }
    let query = Query::instant(parse("m").expect("parses"), 0);
    let error = evaluate(&query, &Broken, &Default::default()).expect_err("refused");
    assert_eq!(error.to_string(), "select fewer series");
    assert!(matches!(error, EvalError::Source(SourceError::TooMuch(_))));
}
