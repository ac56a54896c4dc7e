//! Names dropped and kept, and series that became the same.

use std::collections::HashMap;

use shoal_model::labels::{Labels, METRIC_NAME};

use super::{Evaluator, Series, is_absent};
use crate::query::EvalError;
use crate::span::Span;

/// Labels that say what a metric is. What changes values makes them untrue.
const METADATA: [&str; 3] = [METRIC_NAME, "__type__", "__unit__"];

pub(crate) fn is_metadata(name: &str) -> bool {
    METADATA.contains(&name)
}

/// The labels without the metric's name, type and unit.
pub(crate) fn without_name(labels: &Labels) -> Labels {
    match labels.iter().any(|label| is_metadata(&label.name)) {
        true => labels.filtered(|name| !is_metadata(name)),
        false => labels.clone(),
    }
}

impl Evaluator<'_> {
    /// Drops the metric names, now or at the end of the evaluation.
    pub(crate) fn drop_names(
        &self,
        mut series: Vec<Series>,
        span: Span,
    ) -> Result<Vec<Series>, EvalError> {
        for one in &mut series {
            if self.query.delays_name_removal {
                one.drops_name = true;
            } else {
                one.labels = without_name(&one.labels);
            }
        }
        match self.query.delays_name_removal {
            true => Ok(series),
            false => merge_same(self, series, span),
        }
    }
}

/// Makes one series of those with equal labels. They may not have values at the same step.
pub(crate) fn merge_same(
    evaluator: &Evaluator<'_>,
    series: Vec<Series>,
    span: Span,
) -> Result<Vec<Series>, EvalError> {
    let mut places: HashMap<Labels, usize> = HashMap::with_capacity(series.len());
    let mut merged: Vec<Series> = Vec::with_capacity(series.len());
    for one in series {
        let place = *places.entry(one.labels.clone()).or_insert(merged.len());
        let Some(earlier) = merged.get_mut(place) else {
            merged.push(one);
            continue;
        };
        evaluator.checkpoint()?;
        earlier.drops_name |= one.drops_name;
        for (into, value) in earlier.values.iter_mut().zip(one.values) {
            if is_absent(value) {
                continue;
            }
            if !is_absent(*into) {
                let message = "vector cannot contain metrics with the same labelset";
                return Err(evaluator.invalid(span, message));
            }
            *into = value;
        }
    }
    Ok(merged)
}
