//! Cases that are known to fail, each with its reason.

/// File, query, reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "aggregators.test",
        r#"count_values("a\xc5z", version)"#,
        "fails as it should, but earlier and in other words: strings that are not UTF-8 do not parse",
    ),
    ("start_timestamps.test", "increase(cumulative[5m])", STARTS),
    (
        "start_timestamps.test",
        "round(increase(cumulative[5m1ms]))",
        STARTS,
    ),
    ("start_timestamps.test", "resets(cumulative[5m])", STARTS),
    ("start_timestamps.test", "increase(delta[5m])", STARTS),
    ("start_timestamps.test", "rate(delta[5m])", STARTS),
    ("start_timestamps.test", "increase(series[5m])", STARTS),
    (
        "start_timestamps.test",
        "round(increase(series[1m1ms]))",
        STARTS,
    ),
    (
        "start_timestamps.test",
        r#"rate(counter_total{type!="overlap"}[3m])"#,
        STARTS,
    ),
    (
        "start_timestamps.test",
        "start_timestamp(series * 1)",
        STARTS,
    ),
];

const STARTS: &str = "series have no start timestamps, which are behind a flag in Prometheus";

/// Why a case may fail.
pub(crate) fn reason(file: &str, query: &str) -> Option<&'static str> {
    let mut all = EXCEPTIONS.iter();
    let found = all.find(|(in_file, of_query, _)| *in_file == file && *of_query == query);
    found.map(|(_, _, reason)| *reason)
}
