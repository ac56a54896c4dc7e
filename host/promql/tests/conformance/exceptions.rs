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

/// Cases whose answer depends on names being dropped at the end of the evaluation: file and query.
const DELAYED_ONLY: &[(&str, &str)] = &[
    (
        "name_label_dropping.test",
        r#"label_replace(rate({env="1"}[10m]), "__name__", "rate_$1", "__name__", "(.+)")"#,
    ),
    (
        "name_label_dropping.test",
        r#"label_join(rate({env="1"}[10m]), "__name__", "_", "__name__", "env")"#,
    ),
    (
        "name_label_dropping.test",
        r#"sum(rate({env="1"}[10m])) by (env)"#,
    ),
    (
        "name_label_dropping.test",
        r#"label_replace(sum by (__name__) (rate(metric_total{env="2"}[5m])), "__name__", "$1", "__name__", "(.+)")"#,
    ),
    (
        "name_label_dropping.test",
        r#"sum by (__name__) (metric_total{env="1"} or rate(metric_total{env="2"}[5m]))"#,
    ),
    (
        "name_label_dropping.test",
        r#"sum by (__name__) (rate(metric_total{env="2"}[5m]) or metric_total{env="1"})"#,
    ),
    (
        "type_and_unit.test",
        r#"(http_requests_total{group="canary"} + 1) and http_requests_total{instance="0"}"#,
    ),
    (
        "type_and_unit.test",
        r#"(http_requests_total{group="canary"} + 1) or http_requests_total{instance="1"}"#,
    ),
];

/// Whether a case needs names to be dropped at the end.
pub(crate) fn needs_delay(file: &str, query: &str) -> bool {
    DELAYED_ONLY.contains(&(file, query))
}

/// Why a case may fail.
pub(crate) fn reason(file: &str, query: &str) -> Option<&'static str> {
    let mut all = EXCEPTIONS.iter();
    let found = all.find(|(in_file, of_query, _)| *in_file == file && *of_query == query);
    found.map(|(_, _, reason)| *reason)
}
