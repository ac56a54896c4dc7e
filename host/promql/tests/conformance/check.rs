//! Whether an answer is what a case expects.

use std::collections::BTreeMap;

use regex::Regex;
use shoal_model::labels::Labels;
use shoal_promql::{
    Answer, Expr, Limits, MatrixSeries, Point, Query, Severity, Value, ValueType, evaluate, parse,
};

use crate::script::{Case, Described, Expectation, Sample, Text, When};
use crate::storage::Storage;

/// How far values may be apart, relative to their size.
const TOLERANCE: f64 = 1e-6;

/// When functions drop metric names. Prometheus' tests delay it; Prometheus, and we, do not by default.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Names {
    Delayed,
    AtOnce,
}

pub(crate) fn check(case: &Case, storage: &Storage, names: Names) -> Result<(), String> {
    let answer = answer(case.when, &case.query, storage, names);
    let wanted_failure = case
        .expectations
        .iter()
        .find_map(|expectation| match expectation {
            Expectation::Fail(text) => Some(text),
            _ => None,
        });
    let answer = match (answer, wanted_failure) {
        (Err(message), None) => return Err(format!("failed: {message}")),
        (Ok(answer), Some(_)) => return Err(format!("should fail, gave {:?}", answer.value)),
        (Err(message), Some(text)) => {
            // The position is ours; Prometheus adds its own in other ways.
            return match is_text(text, &message) {
                true => Ok(()),
                false => Err(format!(
                    "failed as it should, but says {message:?}, not {text:?}"
                )),
            };
        }
        (Ok(answer), None) => answer,
    };
    check_notes(case, &answer)?;
    check_value(case, &answer.value)?;
    check_as_range(case, storage, names)
}

fn answer(when: When, text: &str, storage: &Storage, names: Names) -> Result<Answer, String> {
    let expr = parse(text).map_err(|error| error.message)?;
    answer_expr(when, expr, storage, names)
}

fn answer_expr(when: When, expr: Expr, storage: &Storage, names: Names) -> Result<Answer, String> {
    let mut query = match when {
        When::Instant(at_ms) => Query::instant(expr, at_ms),
        When::Range {
            start_ms,
            end_ms,
            step_ms,
        } => Query::range(expr, start_ms, end_ms, step_ms),
    };
    query.delays_name_removal = names == Names::Delayed;
    evaluate(&query, storage, &Limits::default()).map_err(|error| error.to_string())
}

fn is_text(wanted: &Text, found: &str) -> bool {
    match wanted {
        Text::Any => true,
        Text::Exactly(text) => found == text,
        Text::Like(pattern) => Regex::new(pattern).expect("a good pattern").is_match(found),
    }
}

fn check_notes(case: &Case, answer: &Answer) -> Result<(), String> {
    let of = |severity: Severity| -> Vec<String> {
        let notes = answer.notes.iter().filter(|note| note.severity == severity);
        notes.map(|note| note.render(&case.query)).collect()
    };
    let (warnings, infos) = (of(Severity::Warning), of(Severity::Info));
    for expectation in &case.expectations {
        let is_met = match expectation {
            Expectation::Warn(text) => warnings.iter().any(|note| is_text(text, note)),
            Expectation::Info(text) => infos.iter().any(|note| is_text(text, note)),
            Expectation::NoWarn => warnings.is_empty(),
            Expectation::NoInfo => infos.is_empty(),
            _ => true,
        };
        if !is_met {
            return Err(format!(
                "{expectation:?} is not met by {warnings:?}, {infos:?}"
            ));
        }
    }
    Ok(())
}

fn check_value(case: &Case, value: &Value) -> Result<(), String> {
    for expectation in &case.expectations {
        match (expectation, value) {
            (Expectation::String(text), Value::String(found)) if text == found => return Ok(()),
            (Expectation::String(text), found) => return Err(format!("{found:?} is not {text:?}")),
            (Expectation::RangeVector(when), Value::Matrix(found)) => {
                return check_matrix(&case.series, found, *when);
            }
            _ => {}
        }
    }
    match (value, case.when) {
        (Value::Scalar(point), _) => {
            let wanted = case.scalar.ok_or("no scalar is expected")?;
            is_near(wanted, point.value)
                .then_some(())
                .ok_or_else(|| format!("{} is not {wanted}", point.value))
        }
        (Value::Vector(found), _) => {
            let ordered: Vec<(Labels, f64)> = found
                .iter()
                .map(|sample| (sample.labels.clone(), sample.point.value))
                .collect();
            check_vector(case, &ordered)
        }
        (Value::Matrix(found), when) => check_matrix(&case.series, found, when),
        (Value::String(text), _) => Err(format!("no string is expected, got {text:?}")),
    }
}

fn check_vector(case: &Case, found: &[(Labels, f64)]) -> Result<(), String> {
    let wanted: Vec<(Labels, f64)> = case
        .series
        .iter()
        .map(|one| match one.samples.first() {
            Some(Sample::Float(value)) => Ok((one.labels.clone(), *value)),
            other => Err(format!("{other:?} is no number")),
        })
        .collect::<Result<_, _>>()?;
    let is_same = |a: &(Labels, f64), b: &(Labels, f64)| a.0 == b.0 && is_near(a.1, b.1);
    let is_ordered = case
        .expectations
        .iter()
        .any(|expectation| matches!(expectation, Expectation::Ordered));
    let is_met = match is_ordered {
        true => wanted.iter().zip(found).all(|(a, b)| is_same(a, b)),
        false => wanted.iter().all(|a| found.iter().any(|b| is_same(a, b))),
    };
    match is_met && wanted.len() == found.len() {
        true => Ok(()),
        false => Err(format!("wanted {}, got {}", show(&wanted), show(found))),
    }
}

fn show(samples: &[(Labels, f64)]) -> String {
    let shown: Vec<String> = samples
        .iter()
        .map(|(labels, value)| format!("{labels} {value}"))
        .collect();
    format!("[{}]", shown.join("; "))
}

fn check_matrix(wanted: &[Described], found: &[MatrixSeries], when: When) -> Result<(), String> {
    let When::Range {
        start_ms, step_ms, ..
    } = when
    else {
        return Err("a matrix for an instant query".to_owned());
    };
    let mut expected: BTreeMap<&Labels, Vec<(i64, f64)>> = BTreeMap::new();
    for one in wanted {
        let points = expected.entry(&one.labels).or_default();
        for (step, sample) in one.samples.iter().enumerate() {
            if let Sample::Float(value) = sample {
                points.push((start_ms + step as i64 * step_ms, *value));
            }
        }
    }
    expected.retain(|_, points| !points.is_empty());
    if expected.len() != found.len() {
        return Err(format!("wanted {} series, got {found:?}", expected.len()));
    }
    for one in found {
        let Some(points) = expected.get(&one.labels) else {
            return Err(format!(
                "unexpected series {}: {:?}",
                one.labels, one.points
            ));
        };
        let is_same = |(wanted, found): (&(i64, f64), &Point)| {
            wanted.0 == found.time_ms && is_near(wanted.1, found.value)
        };
        let is_met =
            points.len() == one.points.len() && points.iter().zip(&one.points).all(is_same);
        if !is_met {
            return Err(format!(
                "{}: wanted {points:?}, got {:?}",
                one.labels, one.points
            ));
        }
    }
    Ok(())
}

/// As Prometheus' tests do: an instant query gives the same in the middle of a range.
fn check_as_range(case: &Case, storage: &Storage, names: Names) -> Result<(), String> {
    let When::Instant(at_ms) = case.when else {
        return Ok(());
    };
    let expr = parse(&case.query).map_err(|error| error.message)?;
    let depends_on_query = ["step()", "range()", "start()", "end()", "sort"];
    let is_ordered = case
        .expectations
        .iter()
        .any(|expectation| matches!(expectation, Expectation::Ordered));
    let lower = case.query.to_ascii_lowercase();
    if !expr.can_be_ranged() || is_ordered || depends_on_query.iter().any(|f| lower.contains(f)) {
        return Ok(());
    }
    let when = When::Range {
        start_ms: at_ms - 60_000,
        end_ms: at_ms + 60_000,
        step_ms: 60_000,
    };
    let is_scalar = expr.value_type() == ValueType::Scalar;
    // Other steps may fail where this one does not.
    let Ok(answer) = answer_expr(when, expr, storage, names) else {
        return Ok(());
    };
    let Value::Matrix(matrix) = answer.value else {
        return Err("a range query gave no matrix".to_owned());
    };
    let middle: Vec<(Labels, f64)> = matrix
        .into_iter()
        .filter_map(|one| {
            let point = one.points.iter().find(|point| point.time_ms == at_ms)?;
            Some((one.labels, point.value))
        })
        .collect();
    if is_scalar {
        let is_met = middle.len() == 1 && case.scalar.is_some_and(|w| is_near(w, middle[0].1));
        return is_met
            .then_some(())
            .ok_or_else(|| format!("as a range: {}", show(&middle)));
    }
    check_vector(case, &middle).map_err(|fault| format!("as a range: {fault}"))
}

fn is_near(wanted: f64, found: f64) -> bool {
    if wanted == found || (wanted.is_nan() && found.is_nan()) {
        return true;
    }
    let size = wanted.abs() + found.abs();
    let difference = (wanted - found).abs();
    if wanted == 0.0 || found == 0.0 || size < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / size.min(f64::MAX) < TOLERANCE
}
