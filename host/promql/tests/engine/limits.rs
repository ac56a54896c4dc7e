//! Every limit, reached.

use std::cell::Cell;

use shoal_promql::{DEPTH_MAX, EvalError, Limits, Query, Value, evaluate, parse};

use crate::source::Memory;

const SAMPLE: [(i64, f64); 1] = [(0, 1.0)];

fn series(count: usize) -> Memory {
    let names: Vec<String> = (0..count).map(|n| format!("m{{n=\"{n}\"}}")).collect();
    let all: Vec<(&str, &[(i64, f64)])> = names.iter().map(|name| (&**name, &SAMPLE[..])).collect();
    Memory::of(&all)
}

fn range(text: &str, steps: i64) -> Query {
    Query::range(parse(text).expect("parses"), 0, (steps - 1) * 1000, 1000)
}

#[test]
fn a_query_has_at_most_so_many_steps() {
    let memory = Memory::default();
    let answer = evaluate(&range("1", 11_000), &memory, &Limits::default());
    assert!(answer.is_ok());
    let error = evaluate(&range("1", 11_001), &memory, &Limits::default()).expect_err("refused");
    assert_eq!(
        error,
        EvalError::TooManySteps {
            steps: 11_001,
            max: 11_000
        }
    );
}

#[test]
fn a_query_holds_at_most_so_many_samples() {
    let memory = series(10);
    let limits = Limits {
        samples_max: 100,
        ..Limits::default()
    };
    let error = EvalError::TooManySamples { max: 100 };
    // 10 samples read and 10 columns of 9 steps.
    assert!(evaluate(&range("m", 9), &memory, &limits).is_ok());
    assert_eq!(
        evaluate(&range("m", 10), &memory, &limits),
        Err(error.clone())
    );
    // What is no longer needed is given back.
    let sums = ["sum(m)"; 5].join(" + ");
    assert!(evaluate(&range(&sums, 5), &memory, &limits).is_ok());
    // Subqueries make steps of their own, however many.
    for text in [
        "count_over_time(vector(1)[10000y:1ms])",
        "count_over_time(m[200s:1s])",
    ] {
        assert_eq!(
            evaluate(&range(text, 1), &memory, &limits),
            Err(error.clone()),
            "{text}"
        );
    }
}

#[test]
fn an_answer_has_at_most_so_many_series() {
    let memory = series(3);
    let limits = Limits {
        series_max: 2,
        ..Limits::default()
    };
    let error = EvalError::TooManySeries { series: 3, max: 2 };
    assert_eq!(
        evaluate(&range("m", 1), &memory, &limits),
        Err(error.clone())
    );
    let raw = Query::instant(parse("m[5m]").expect("parses"), 0);
    assert_eq!(evaluate(&raw, &memory, &limits), Err(error));
    assert!(evaluate(&range("sum(m)", 1), &memory, &limits).is_ok());
}

#[test]
fn a_cancelled_query_ends() {
    let memory = series(100);
    let asked = Cell::new(0);
    let cancel_later = || {
        asked.set(asked.get() + 1);
        asked.get() > 20
    };
    let limits = Limits {
        is_cancelled: &cancel_later,
        ..Limits::default()
    };
    let text = "sum by (n) (rate(m[5m])) / on (n) m";
    let error = evaluate(&range(text, 100), &memory, &limits).expect_err("cancelled");
    assert_eq!(error, EvalError::Cancelled);
    assert_eq!(asked.get(), 21);
}

#[test]
fn the_deepest_query_fits_into_a_usual_stack() {
    let memory = series(2);
    let nested = |open: &str, close: &str, levels: usize| {
        format!("{}m{}", open.repeat(levels), close.repeat(levels))
    };
    let deep = DEPTH_MAX - 1;
    let texts = [
        nested("abs(", ")", deep),
        nested("(", ")", deep),
        nested("-", "", deep),
        nested("sum by (n) (", ")", deep),
        nested("1 + (", ")", deep / 2),
        nested("max_over_time(", "[1m:1m])", deep / 2),
        nested("label_replace(", ", \"a\", \"$1\", \"n\", \"(.*)\")", deep),
        vec!["m"; deep].join(" or "),
    ];
    for text in texts {
        let query = Query::instant(parse(&text).expect("parses"), 0);
        let answer = evaluate(&query, &memory, &Limits::default()).expect("an answer");
        assert!(matches!(answer.value, Value::Vector(samples) if samples.len() == 2));
        assert_eq!(parse(&query.expr.to_string()).expect("parses"), query.expr);
    }
}

#[test]
fn labels_do_not_grow_without_bound() {
    let memory = series(1);
    let wide = "$1".repeat(100);
    let replace =
        |inner: &str| format!("label_replace({inner}, \"n\", \"{wide}\", \"n\", \"(.+)\")");
    let error = memory
        .instant(&replace(&replace(&replace("m"))), 0)
        .expect_err("refused");
    assert!(error.to_string().contains("label value"), "{error}");
    let join = |inner: &str| {
        let sources = vec!["\"n\""; 200].join(", ");
        format!("label_join({inner}, \"n\", \"-\", {sources})")
    };
    let error = memory
        .instant(&join(&join(&join("m"))), 0)
        .expect_err("refused");
    assert!(error.to_string().contains("label value"), "{error}");
}
