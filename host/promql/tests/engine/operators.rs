//! Operators and aggregations, each rule on data small enough to see.

use shoal_promql::{Value, parse};

use crate::source::Memory;

fn requests() -> Memory {
    Memory::of(&[
        ("errors{path=\"/a\", code=\"500\"}", &[(0, 2.0)]),
        ("errors{path=\"/a\", code=\"404\"}", &[(0, 4.0)]),
        ("errors{path=\"/b\", code=\"500\"}", &[(0, 6.0)]),
        ("requests{path=\"/a\", team=\"red\"}", &[(0, 10.0)]),
        ("requests{path=\"/c\", team=\"blue\"}", &[(0, 30.0)]),
    ])
}

#[track_caller]
fn gives(text: &str, wanted: &[&str]) {
    assert_eq!(requests().shown(text, 0), wanted, "{text}");
}

#[track_caller]
fn fails(text: &str, message: &str) {
    let error = requests().instant(text, 0).expect_err("should fail");
    assert!(error.to_string().contains(message), "{text}: {error}");
}

#[track_caller]
fn is_number(text: &str, wanted: f64) {
    let answer = Memory::default().instant(text, 90).expect("an answer");
    let Value::Scalar(point) = answer.value else {
        panic!("{text} is no scalar");
    };
    assert_eq!(
        point.value.to_bits(),
        wanted.to_bits(),
        "{text} is {}",
        point.value
    );
}

#[test]
fn scalars_follow_arithmetic() {
    is_number("1 + 2 * 3 ^ 2", 19.0);
    is_number("-2 ^ 2", -4.0);
    is_number("-7 % 3", -1.0);
    is_number("1 / 0", f64::INFINITY);
    is_number("2 > bool 1", 1.0);
    is_number("1h30m", 5400.0);
    is_number("time() + 0x10", 106.0);
    is_number("max_of(1, min_of(2, 3))", 2.0);
}

#[test]
fn many_series_match_one_only_when_told_so() {
    fails(
        "errors / on (path) requests",
        "many-to-one matching must be explicit",
    );
    gives(
        "errors / on (path) group_left (team) requests",
        &[
            r#"{code="404", path="/a", team="red"} 0.4"#,
            r#"{code="500", path="/a", team="red"} 0.2"#,
        ],
    );
    gives(
        "requests * on (path) group_right errors",
        &[
            r#"{code="404", path="/a"} 40"#,
            r#"{code="500", path="/a"} 20"#,
        ],
    );
    fails(
        "requests / on (path) errors",
        "found duplicate series for the match group",
    );
}

#[test]
fn a_comparison_filters_and_keeps_the_left_value() {
    gives(
        "errors > 3",
        &[
            r#"errors{code="404", path="/a"} 4"#,
            r#"errors{code="500", path="/b"} 6"#,
        ],
    );
    gives(
        "3 < errors{path=\"/b\"}",
        &[r#"errors{code="500", path="/b"} 6"#],
    );
    gives(
        "errors{path=\"/b\"} > bool 10",
        &[r#"{code="500", path="/b"} 0"#],
    );
}

#[test]
fn set_operators_look_at_labels_only() {
    gives(
        "errors and on (path) requests",
        &[
            r#"errors{code="404", path="/a"} 4"#,
            r#"errors{code="500", path="/a"} 2"#,
        ],
    );
    gives(
        "errors unless on (path) requests",
        &[r#"errors{code="500", path="/b"} 6"#],
    );
    gives(
        "requests or on (path) errors",
        &[
            r#"errors{code="500", path="/b"} 6"#,
            r#"requests{path="/a", team="red"} 10"#,
            r#"requests{path="/c", team="blue"} 30"#,
        ],
    );
}

#[test]
fn missing_partners_can_be_filled_in() {
    gives(
        "sum by (path) (errors) + fill(0) sum by (path) (requests)",
        &[r#"{path="/a"} 16"#, r#"{path="/b"} 6"#, r#"{path="/c"} 30"#],
    );
    gives(
        "sum by (path) (errors) + fill_right(1) sum by (path) (requests)",
        &[r#"{path="/a"} 16"#, r#"{path="/b"} 7"#],
    );
}

#[test]
fn aggregations_keep_the_labels_they_are_told_to() {
    gives("sum(errors)", &["{} 12"]);
    gives(
        "sum by (path) (errors)",
        &[r#"{path="/a"} 6"#, r#"{path="/b"} 6"#],
    );
    gives(
        "avg without (path) (errors)",
        &[r#"{code="404"} 4"#, r#"{code="500"} 4"#],
    );
    gives("count by (none) (errors)", &["{} 3"]);
    gives("stdvar(errors)", &["{} 2.6666666666666665"]);
    gives("quantile(0.25, errors)", &["{} 3"]);
    gives("count_values(\"v\", errors * 0 + 1.5)", &[r#"{v="1.5"} 3"#]);
    gives("group(errors)", &["{} 1"]);
}

#[test]
fn the_largest_come_first_and_keep_their_names() {
    let answer = requests().instant("topk(2, errors)", 0).expect("an answer");
    let Value::Vector(samples) = answer.value else {
        panic!("a vector");
    };
    let values: Vec<f64> = samples.iter().map(|sample| sample.point.value).collect();
    assert_eq!(values, [6.0, 4.0]);
    gives(
        "bottomk by (path) (1, errors)",
        &[
            r#"errors{code="500", path="/a"} 2"#,
            r#"errors{code="500", path="/b"} 6"#,
        ],
    );
    gives("topk(0, errors)", &[]);
    fails("topk(NaN, errors)", "Parameter value is NaN");
    gives("count(limitk(2, errors))", &["{} 2"]);
}

#[test]
fn two_ratios_that_complete_each_other_choose_all_series_once() {
    gives(
        "count(limit_ratio(0.3, errors) or limit_ratio(-0.7, errors))",
        &["{} 3"],
    );
    gives(
        "limit_ratio(0.3, errors) and limit_ratio(-0.7, errors)",
        &[],
    );
}

#[test]
fn an_expression_knows_its_type_before_it_is_evaluated() {
    let type_of = |text: &str| parse(text).expect("parses").value_type().as_str();
    assert_eq!(type_of("1 + 1"), "scalar");
    assert_eq!(type_of("1 + x"), "instant vector");
    assert_eq!(type_of("(x[5m:])"), "range vector");
    assert_eq!(type_of("'text'"), "string");
    assert_eq!(type_of("scalar(x)"), "scalar");
}
