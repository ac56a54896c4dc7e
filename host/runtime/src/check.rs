//! What a check answers. See `wit/check.wit`.

use shoal_model::alert::Severity;

use crate::bindings::exports::shoal::plugin::check as wit;
use crate::call::cut;

const SUMMARY_MAX_BYTES: usize = 4096;
const MEASUREMENTS_MAX: usize = 100;
const LABELS_MAX: usize = 32;
const LABEL_MAX_BYTES: usize = 1024;

/// What a check found.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckOutcome {
    /// How the target is.
    pub status: Severity,
    /// One sentence for people, at most 4,096 bytes.
    pub summary: String,
    /// At most 100 numbers.
    pub measurements: Vec<Measurement>,
}

/// One number that a check measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// Metric name: letters, digits, `_` and `:`.
    pub name: String,
    /// The value in the unit that the name says.
    pub value: f64,
    /// Labels beside those that the host adds; names of letters, digits and `_`, each once.
    pub labels: Vec<(String, String)>,
}

impl CheckOutcome {
    /// Takes what a plugin answered, if it keeps the contract.
    pub(crate) fn from_wit(outcome: wit::Outcome) -> Result<CheckOutcome, String> {
        if outcome.measurements.len() > MEASUREMENTS_MAX {
            return Err(format!(
                "{} measurements where {MEASUREMENTS_MAX} are the most",
                outcome.measurements.len()
            ));
        }
        Ok(CheckOutcome {
            status: match outcome.status {
                wit::Status::Ok => Severity::Ok,
                wit::Status::Warning => Severity::Warning,
                wit::Status::Critical => Severity::Critical,
                wit::Status::Unknown => Severity::Unknown,
            },
            summary: cut(outcome.summary, SUMMARY_MAX_BYTES),
            measurements: outcome
                .measurements
                .into_iter()
                .map(measurement)
                .collect::<Result<_, _>>()?,
        })
    }
}

fn measurement(m: wit::Measurement) -> Result<Measurement, String> {
    if !is_name(&m.name, ":") {
        return Err(format!(
            "measurement {:?} is not named by letters, digits, '_' and ':'",
            cut(m.name, 100)
        ));
    }
    if m.labels.len() > LABELS_MAX {
        return Err(format!(
            "measurement {} has {} labels where {LABELS_MAX} are the most",
            m.name,
            m.labels.len()
        ));
    }
    for (i, (name, value)) in m.labels.iter().enumerate() {
        if !is_name(name, "") || name.starts_with("__") {
            return Err(format!(
                "label {:?} of {} is not named by letters, digits and '_'",
                cut(name.clone(), 100),
                m.name
            ));
        }
        if value.len() > LABEL_MAX_BYTES {
            return Err(format!(
                "label {name} of {} is longer than {LABEL_MAX_BYTES} bytes",
                m.name
            ));
        }
        if m.labels[..i].iter().any(|(other, _)| other == name) {
            return Err(format!("label {name} of {} is there twice", m.name));
        }
    }
    Ok(Measurement {
        name: m.name,
        value: m.value,
        labels: m.labels,
    })
}

/// 1 to 200 letters, digits, `_` and what is in `also`, not beginning with a digit.
fn is_name(name: &str, also: &str) -> bool {
    (1..=200).contains(&name.len())
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || also.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(name: &str, labels: &[(&str, &str)]) -> Result<CheckOutcome, String> {
        CheckOutcome::from_wit(wit::Outcome {
            status: wit::Status::Ok,
            summary: "é".repeat(3000),
            measurements: vec![wit::Measurement {
                name: name.into(),
                value: 1.0,
                labels: labels
                    .iter()
                    .map(|(n, v)| ((*n).into(), (*v).into()))
                    .collect(),
            }],
        })
    }

    #[test]
    fn a_summary_is_cut_between_characters() {
        let outcome = outcome("http_check_duration_seconds", &[("step", "tls")]).expect("kept");
        assert_eq!(outcome.summary.len(), 4096);
    }

    #[test]
    fn a_measurement_that_is_no_series_is_refused() {
        for (name, labels, wanted) in [
            ("", &[][..], "is not named by"),
            ("1st", &[], "is not named by"),
            ("a b", &[], "is not named by"),
            ("a", &[("b c", "")], "label \"b c\" of a"),
            ("a", &[("__name__", "x")], "label \"__name__\" of a"),
            (
                "a",
                &[("b", "1"), ("b", "2")],
                "label b of a is there twice",
            ),
        ] {
            let error = outcome(name, labels).expect_err(wanted);
            assert!(error.contains(wanted), "{error}");
        }
    }
}
