//! Queries made up at random.

use proptest::prelude::*;

/// Selectors. With `any_time` they also look at the start and the end of the query.
fn selector() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "a",
        "b",
        "a{l=\"x\"}",
        "a{l!=\"x\"}",
        "{__name__=~\"a|b\"}",
        "{\"a\", m=~\"1|2\"}",
    ]);
    let times = prop::sample::select(vec![
        "",
        "",
        " offset 30s",
        " offset -20s",
        " @ 100",
        " @ 100 offset 1m",
        " offset (10s * 2)",
    ]);
    (name, times).prop_map(|(name, times)| format!("{name}{times}"))
}

fn range_vector(vector: BoxedStrategy<String>) -> BoxedStrategy<String> {
    let of_selector = (
        selector(),
        prop::sample::select(vec!["[30s]", "[1m]", "[125s]"]),
    )
        .prop_map(
            |(selector, range)| match selector.find(" offset").or(selector.find(" @")) {
                Some(at) => {
                    let at = selector.find(" @").map_or(at, |other| at.min(other));
                    format!("{}{range}{}", &selector[..at], &selector[at..])
                }
                None => format!("{selector}{range}"),
            },
        );
    let of_subquery = (
        vector,
        prop::sample::select(vec!["[1m:20s]", "[70s:15s] offset 10s", "[3m:]"]),
    )
        .prop_map(|(vector, window)| format!("({vector}){window}"));
    prop_oneof![of_selector, of_subquery].boxed()
}

/// Instant vectors whose value at a step depends on nothing but the step's time.
pub(crate) fn vector() -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        4 => selector(),
        1 => Just("vector(time())".to_owned()),
        1 => Just("vector(3)".to_owned()),
        1 => selector().prop_map(|selector| format!("timestamp({selector})")),
        1 => selector().prop_map(|selector| format!("topk(2, {selector})")),
        1 => selector().prop_map(|selector| format!("absent({selector})")),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let inner = inner.boxed();
        let function = prop::sample::select(vec![
            "abs",
            "ceil",
            "sgn",
            "hour",
            "-",
            "sort",
            "vector(1) + on ()",
            "round",
            "scalar",
        ]);
        let of_range = prop::sample::select(vec![
            "rate",
            "increase",
            "delta",
            "irate",
            "idelta",
            "deriv",
            "changes",
            "resets",
            "sum_over_time",
            "avg_over_time",
            "min_over_time",
            "max_over_time",
            "count_over_time",
            "last_over_time",
            "first_over_time",
            "stddev_over_time",
            "mad_over_time",
            "present_over_time",
            "absent_over_time",
            "ts_of_max_over_time",
        ]);
        let aggregation = prop::sample::select(vec![
            "sum", "avg", "min", "max", "count", "group", "stddev", "stdvar",
        ]);
        let grouping =
            prop::sample::select(vec!["", " by (l)", " without (l)", " by (m, __name__)"]);
        let operator = prop::sample::select(vec![
            "+", "-", "*", "/", "%", "^", "atan2", "==", "!=", ">", "<=", "> bool", "and", "or",
            "unless",
        ]);
        let matching = prop::sample::select(vec!["", "", " on (l, m)", " ignoring (m)"]);
        prop_oneof![
            (function, inner.clone()).prop_map(|(function, inner)| match function {
                "scalar" => format!("({inner}) * scalar({inner})"),
                function => format!("{function}({inner})"),
            }),
            (of_range, range_vector(inner.clone()))
                .prop_map(|(function, range)| format!("{function}({range})")),
            range_vector(inner.clone())
                .prop_map(|range| format!("quantile_over_time(scalar(a), {range})")),
            range_vector(inner.clone()).prop_map(|range| format!("predict_linear({range}, 60)")),
            (aggregation, grouping, inner.clone())
                .prop_map(|(op, grouping, inner)| format!("{op}{grouping} ({inner})")),
            inner
                .clone()
                .prop_map(|inner| format!("quantile by (m) (0.3, {inner})")),
            inner
                .clone()
                .prop_map(|inner| format!("count_values(\"v\", {inner})")),
            inner
                .clone()
                .prop_map(|inner| format!("clamp({inner}, 1, 5)")),
            inner.clone().prop_map(|inner| {
                format!("label_replace({inner}, \"m\", \"$1\", \"l\", \"(.*)\")")
            }),
            (inner.clone(), operator, matching, inner.clone())
                .prop_map(|(lhs, op, matching, rhs)| format!("({lhs}) {op}{matching} ({rhs})")),
            (inner.clone(), inner)
                .prop_map(|(lhs, rhs)| format!("({lhs}) * on (l) group_left (m) ({rhs})")),
        ]
    })
    .boxed()
}

/// Queries with times, ranges and numbers at the ends of what can be written.
pub(crate) fn extreme() -> impl Strategy<Value = String> {
    let length = || {
        prop::sample::select(vec![
            "1ms",
            "9999y",
            "5m",
            "1e11",
            "step()",
            "range()",
            "9999y*9999y",
            "1/0.1",
        ])
    };
    let time = prop::sample::select(vec![
        "",
        " @ 2305843009213693",
        " @ -2305843009213693",
        " @ 0",
        " @ end()",
        " offset 9999y",
        " offset -9999y",
        " @ start() offset (9999y * 2)",
        " @ 2305843009213693 offset -9999y",
    ]);
    let number = || {
        prop::sample::select(vec![
            "1e308", "-1e308", "NaN", "Inf", "-Inf", "0", "1e-320", "time()",
        ])
    };
    let function = prop::sample::select(vec![
        "rate",
        "increase smoothed",
        "delta anchored",
        "deriv",
        "sum_over_time",
        "stddev_over_time",
        "irate",
        "ts_of_min_over_time",
        "absent_over_time",
        "changes",
    ]);
    let vector = prop_oneof![
        time.clone().prop_map(|time| format!("a{time}")),
        time.clone().prop_map(|time| format!("a smoothed{time}")),
        (function, length(), time.clone()).prop_map(|(function, range, time)| {
            let (function, bounds) = function.split_once(' ').unwrap_or((function, ""));
            format!("{function}(a[{range}] {bounds}{time})")
        }),
        (length(), length(), time.clone())
            .prop_map(|(range, step, time)| format!("max_over_time(a[{range}:{step}]{time})")),
        time.prop_map(|time| format!("info(a{time})")),
        (number(), number()).prop_map(|(a, b)| format!("vector({a} % {b})")),
    ];
    let call = prop::sample::select(vec![
        "",
        "hour",
        "days_in_month",
        "year",
        "round",
        "sgn",
        "sum",
        "stdvar",
        "avg",
        "-",
    ]);
    let with_number = prop::sample::select(vec![
        "topk",
        "quantile",
        "limit_ratio",
        "limitk",
        "histogram_quantile",
    ]);
    (vector, call, with_number, number()).prop_map(|(vector, call, with_number, number)| {
        format!("{with_number}({number}, {call}({vector}))")
    })
}

/// Text that looks like PromQL here and there.
pub(crate) fn noise() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "@",
        "+",
        "-",
        "*",
        "/",
        "%",
        "^",
        "==",
        "!=",
        "=~",
        "!~",
        "<",
        ">=",
        "</",
        "\"a\"",
        "'",
        "\"",
        "`",
        "\\",
        "#",
        "\n",
        " ",
        "sum",
        "by",
        "on",
        "group_left",
        "ignoring",
        "bool",
        "offset",
        "1h",
        "5m",
        "0x",
        "1e",
        "1_",
        ".5",
        "Inf",
        "nan",
        "rate",
        "topk",
        "info",
        "start",
        "step()",
        "min_of",
        "fill",
        "anchored",
        "smoothed",
        "a:b",
        "é",
        "\u{0}",
        "and",
        "or",
        "unless",
        "atan2",
        "x",
        "=",
    ]);
    prop::collection::vec(pieces, 0..30).prop_map(|pieces| pieces.concat())
}
