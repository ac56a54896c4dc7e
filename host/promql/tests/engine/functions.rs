//! Functions, each on data small enough to see.

use crate::source::Memory;

/// A counter that is reset, every 10 seconds from 0 to 50.
const RESET: &[(i64, f64)] = &[
    (0, 10.0),
    (10, 20.0),
    (20, 30.0),
    (30, 5.0),
    (40, 15.0),
    (50, 25.0),
];

#[track_caller]
fn gives(text: &str, seconds: i64, wanted: &[&str]) {
    let memory = Memory::of(&[
        ("c_total{l=\"x\"}", RESET),
        ("h_bucket{le=\"1\"}", &[(0, 4.0)]),
        ("h_bucket{le=\"2\"}", &[(0, 8.0)]),
        ("h_bucket{le=\"+Inf\"}", &[(0, 10.0)]),
        ("up{instance=\"i\", job=\"j\"}", &[(0, 1.0)]),
        (
            "target_info{instance=\"i\", job=\"j\", version=\"7\"}",
            &[(0, 1.0)],
        ),
    ]);
    assert_eq!(memory.shown(text, seconds), wanted, "{text}");
}

#[test]
fn a_rate_minds_resets_and_reaches_for_the_bounds_of_its_window() {
    // 20 to 25 by way of a reset is 25 in 40 seconds; the window begins 10 seconds before.
    gives("increase(c_total[50s])", 50, &[r#"{l="x"} 43.75"#]);
    gives("rate(c_total[50s])", 50, &[r#"{l="x"} 0.875"#]);
    gives("delta(c_total[50s])", 50, &[r#"{l="x"} 6.25"#]);
    gives("irate(c_total[50s])", 35, &[r#"{l="x"} 0.5"#]);
    gives("idelta(c_total[50s])", 35, &[r#"{l="x"} -25"#]);
    gives("resets(c_total[1m])", 50, &[r#"{l="x"} 1"#]);
    gives("changes(c_total[1m])", 50, &[r#"{l="x"} 5"#]);
    gives("rate(c_total[10s])", 50, &[]);
}

#[test]
fn a_counter_is_not_extrapolated_below_zero() {
    // 5 at 30 seconds, growing by 1 a second: it was 0 at 25.
    gives("increase(c_total[25s])", 50, &[r#"{l="x"} 25"#]);
}

#[test]
fn windows_can_end_at_samples_or_between_them() {
    gives("increase(c_total[20s] anchored)", 25, &[r#"{l="x"} 20"#]);
    gives("increase(c_total[10s] smoothed)", 15, &[r#"{l="x"} 10"#]);
    gives("c_total smoothed", 15, &[r#"c_total{l="x"} 25"#]);
}

#[test]
fn windows_are_summed_up_in_many_ways() {
    gives("sum_over_time(c_total[1m])", 50, &[r#"{l="x"} 105"#]);
    gives("avg_over_time(c_total[1m])", 50, &[r#"{l="x"} 17.5"#]);
    gives("min_over_time(c_total[1m])", 50, &[r#"{l="x"} 5"#]);
    gives("max_over_time(c_total[20s])", 50, &[r#"{l="x"} 25"#]);
    gives("ts_of_max_over_time(c_total[1m])", 50, &[r#"{l="x"} 20"#]);
    gives("last_over_time(c_total[1m])", 45, &[r#"c_total{l="x"} 15"#]);
    gives(
        "first_over_time(c_total[15s])",
        45,
        &[r#"c_total{l="x"} 15"#],
    );
    gives(
        "quantile_over_time(0.5, c_total[1m])",
        50,
        &[r#"{l="x"} 17.5"#],
    );
    gives("mad_over_time(c_total[1m])", 50, &[r#"{l="x"} 7.5"#]);
    gives("count_over_time(c_total[40s:20s])", 50, &[r#"{l="x"} 2"#]);
    gives(
        "predict_linear(c_total[30s] @ 20, 10)",
        20,
        &[r#"{l="x"} 40"#],
    );
    gives("deriv(c_total[30s])", 20, &[r#"{l="x"} 1"#]);
}

#[test]
fn histograms_are_interpolated_within_their_buckets() {
    gives("histogram_quantile(0.2, h_bucket)", 0, &["{} 0.5"]);
    gives("histogram_quantile(0.6, h_bucket)", 0, &["{} 1.5"]);
    gives("histogram_quantile(0.95, h_bucket)", 0, &["{} 2"]);
    gives("histogram_quantile(2, h_bucket)", 0, &["{} inf"]);
    gives("histogram_fraction(0, 1.5, h_bucket)", 0, &["{} 0.6"]);
    gives(
        "histogram_quantiles(h_bucket, \"q\", 0.2, 1)",
        0,
        &[r#"{q="0.2"} 0.5"#, r#"{q="1.0"} 2"#],
    );
}

#[test]
fn labels_can_be_rewritten() {
    gives(
        r#"label_replace(up, "where", "$2-$1", "job", "(.)()")"#,
        0,
        &[r#"up{instance="i", job="j", where="-j"} 1"#],
    );
    gives(
        r#"label_join(up, "both", "/", "job", "instance")"#,
        0,
        &[r#"up{both="j/i", instance="i", job="j"} 1"#],
    );
    gives(
        "info(up)",
        0,
        &[r#"up{instance="i", job="j", version="7"} 1"#],
    );
    gives("info(up, {other=~\".+\"})", 0, &[]);
}

#[test]
fn what_is_not_there_can_be_asked_for() {
    gives(r#"absent(nothing{a="1", b=~"2"})"#, 0, &[r#"{a="1"} 1"#]);
    gives("absent(up)", 0, &[]);
    gives(r#"absent_over_time(up[1m])"#, 100, &["{} 1"]);
    gives("vector(scalar(nothing))", 0, &["{} NaN"]);
}

#[test]
fn times_have_calendar_parts() {
    gives(
        "year() * 10000 + month() * 100 + day_of_month()",
        1_709_164_800,
        &["{} 20240229"],
    );
    gives("day_of_week()", 1_709_164_800, &["{} 4"]);
    gives("days_in_month()", 1_709_164_800, &["{} 29"]);
    gives(
        "hour(vector(-1)) + minute(vector(-1)) / 100",
        0,
        &["{} 23.59"],
    );
    gives("timestamp(c_total)", 47, &[r#"{l="x"} 40"#]);
    gives("timestamp(-c_total)", 47, &[r#"{l="x"} 47"#]);
}

#[test]
fn values_are_clamped_and_rounded() {
    gives("clamp(c_total, 8, 12)", 0, &[r#"{l="x"} 10"#]);
    gives("clamp(c_total, 12, 8)", 0, &[]);
    gives("round(c_total + 0.16, 0.1)", 0, &[r#"{l="x"} 10.2"#]);
    gives("sgn(-c_total)", 0, &[r#"{l="x"} -1"#]);
    gives("round(vector(-2.5))", 0, &["{} -2"]);
}
