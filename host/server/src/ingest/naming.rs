//! How OpenTelemetry names become Prometheus names.
//!
//! The rules are those of the OpenTelemetry specification "Prometheus and OpenMetrics Compatibility", strategy
//! *underscore escaping with suffixes*, so that dashboards made for Prometheus work: `system.cpu.time` in
//! seconds becomes `system_cpu_time_seconds_total`.

use shoal_model::telemetry::MetricKind;

/// The Prometheus name of a metric.
///
/// `name` and `unit` are as the sender gave them; `unit` is UCUM and may be empty.
pub fn metric_name(name: &str, unit: &str, kind: MetricKind) -> String {
    let is_token = |c: char| c.is_ascii_alphanumeric() || c == ':';
    let mut tokens: Vec<&str> = name
        .split(|c| !is_token(c))
        .filter(|token| !token.is_empty())
        .collect();
    let unit_tokens = unit_tokens(unit);
    let (main, per) = (unit_tokens.0.as_str(), unit_tokens.1.as_str());
    if !main.is_empty() && !tokens.contains(&main) {
        tokens.push(main);
    }
    if !per.is_empty() && !tokens.contains(&per) {
        tokens.push("per");
        tokens.push(per);
    }
    match kind {
        MetricKind::Counter | MetricKind::DeltaCounter => move_to_end(&mut tokens, "total"),
        MetricKind::Gauge if unit.trim() == "1" => move_to_end(&mut tokens, "ratio"),
        _ => {}
    }
    let joined = tokens.join("_");
    match joined.chars().next() {
        None => "_".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("_{joined}"),
        Some(_) => joined,
    }
}

/// The Prometheus name of an attribute.
pub fn label_name(name: &str) -> String {
    let mut label: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '_' {
                c
            } else {
                '_'
            }
        })
        .collect();
    if label.starts_with(|c: char| c.is_ascii_digit()) {
        label.insert_str(0, "key_");
    } else if label.starts_with('_') {
        // A leading underscore is Prometheus' own; a sender's attribute must not pass for `__name__`.
        label.insert_str(0, "key");
    }
    label
}

/// A number as Prometheus writes it in `le` and `quantile`.
pub fn number_label(value: f64) -> String {
    if value == f64::INFINITY {
        "+Inf".to_owned()
    } else if value == f64::NEG_INFINITY {
        "-Inf".to_owned()
    } else {
        value.to_string()
    }
}

fn move_to_end<'a>(tokens: &mut Vec<&'a str>, last: &'a str) {
    tokens.retain(|token| *token != last);
    tokens.push(last);
}

/// The words of a unit: what is measured, and per what. Empty where there is nothing to add.
fn unit_tokens(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let word = |unit: &str, words: &[(&str, &str)]| {
        let unit = unit.trim();
        if unit.contains(['{', '}']) {
            return String::new();
        }
        match words.iter().find(|(symbol, _)| *symbol == unit) {
            Some((_, word)) => (*word).to_owned(),
            None => {
                let clean = unit
                    .split(|c: char| !c.is_ascii_alphanumeric())
                    .filter(|part| !part.is_empty());
                clean.collect::<Vec<_>>().join("_")
            }
        }
    };
    (word(main, UNITS), word(per, PER_UNITS))
}

/// UCUM symbols and their words, as the specification lists them.
const UNITS: &[(&str, &str)] = &[
    ("1", ""),
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("%", "percent"),
];

const PER_UNITS: &[(&str, &str)] = &[
    ("s", "second"),
    ("m", "minute"),
    ("min", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_names_follow_the_compatibility_specification() {
        use MetricKind::*;
        for (name, unit, kind, wanted) in [
            (
                "system.cpu.time",
                "s",
                Counter,
                "system_cpu_time_seconds_total",
            ),
            (
                "system.memory.usage",
                "By",
                UpDownCounter,
                "system_memory_usage_bytes",
            ),
            (
                "system.cpu.utilization",
                "1",
                Gauge,
                "system_cpu_utilization_ratio",
            ),
            (
                "system.network.io",
                "By",
                DeltaCounter,
                "system_network_io_bytes_total",
            ),
            (
                "http.server.requests",
                "{request}",
                Counter,
                "http_server_requests_total",
            ),
            ("http_requests_total", "", Counter, "http_requests_total"),
            ("total.things", "", Counter, "things_total"),
            ("disk.speed", "By/s", Gauge, "disk_speed_bytes_per_second"),
            (
                "request.duration.seconds",
                "s",
                Histogram,
                "request_duration_seconds",
            ),
            ("1st", "", Gauge, "_1st"),
            ("a--b..c", "", Gauge, "a_b_c"),
            ("°", "", Gauge, "_"),
        ] {
            assert_eq!(metric_name(name, unit, kind), wanted, "{name} in {unit}");
        }
    }

    #[test]
    fn label_names_are_legal_and_never_prometheus_own() {
        for (name, wanted) in [
            ("cpu.mode", "cpu_mode"),
            ("1st", "key_1st"),
            ("_private", "key_private"),
            ("__name__", "key__name__"),
            ("ünï", "key_n_"),
        ] {
            assert_eq!(label_name(name), wanted);
        }
    }

    #[test]
    fn numbers_show_as_in_prometheus() {
        assert_eq!(number_label(0.5), "0.5");
        assert_eq!(number_label(1.0), "1");
        assert_eq!(number_label(f64::INFINITY), "+Inf");
    }
}
