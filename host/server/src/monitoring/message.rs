//! The one sentence that says what happened to a monitor's target.

use shoal_model::alert::{Comparison, Severity, Thresholds};

/// Such as `cpu is critical: 97.2 > 90`.
pub(super) fn of_query(
    name: &str,
    thresholds: &Thresholds,
    to: Severity,
    value: Option<f64>,
) -> String {
    let head = format!("{name} is {}", to.as_str());
    let Some(value) = value else {
        return format!("{head}: no data");
    };
    let (beyond, within) = match thresholds.comparison {
        Comparison::Above => (">", "<="),
        Comparison::Below => ("<", ">="),
    };
    let mildest = thresholds.warning.or(thresholds.critical);
    let compared = match to {
        Severity::Critical => thresholds.critical.map(|bound| (beyond, bound)),
        Severity::Warning => thresholds.warning.map(|bound| (beyond, bound)),
        Severity::Ok => mildest.map(|bound| (within, bound)),
        Severity::Unknown => None,
    };
    let value = shown(value);
    match compared {
        Some((sign, bound)) => format!("{head}: {value} {sign} {}", shown(bound)),
        None => format!("{head}: {value}"),
    }
}

/// A number with six significant digits, which is what people compare.
fn shown(value: f64) -> String {
    let size = value.abs();
    if value != 0.0 && !(1e-4..1e15).contains(&size) {
        return format!("{value:.5e}");
    }
    let rounded: f64 = format!("{value:.5e}").parse().unwrap_or(value);
    format!("{}", if size < 1e6 { rounded } else { value.round() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABOVE: Thresholds = Thresholds {
        comparison: Comparison::Above,
        warning: Some(80.0),
        critical: Some(90.0),
    };

    #[test]
    fn a_message_says_what_was_compared() {
        let said = |to, value| of_query("cpu", &ABOVE, to, value);
        assert_eq!(
            said(Severity::Critical, Some(97.2)),
            "cpu is critical: 97.2 > 90"
        );
        assert_eq!(
            said(Severity::Warning, Some(85.0)),
            "cpu is warning: 85 > 80"
        );
        assert_eq!(said(Severity::Ok, Some(80.0)), "cpu is ok: 80 <= 80");
        assert_eq!(said(Severity::Unknown, None), "cpu is unknown: no data");
        let below = Thresholds {
            comparison: Comparison::Below,
            warning: None,
            critical: Some(1.0),
        };
        assert_eq!(
            of_query("hosts", &below, Severity::Critical, Some(0.5)),
            "hosts is critical: 0.5 < 1"
        );
    }

    #[test]
    fn a_number_shows_with_six_significant_digits() {
        for (value, wanted) in [
            (0.1 + 0.2, "0.3"),
            (97.212_345_678, "97.2123"),
            (1_234_567.8, "1234568"),
            (2e20, "2.00000e20"),
            (0.000_012, "1.20000e-5"),
            (0.0, "0"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(shown(value), wanted);
        }
    }
}
