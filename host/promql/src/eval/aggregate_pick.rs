//! Aggregations that choose among series: `topk`, `bottomk`, `limitk`, `limit_ratio`.

use std::cmp::Ordering;

use super::aggregate::group;
use super::{ABSENT, Evaluator, Grid, Series, is_absent};
use crate::ast::{Aggregate, AggregateOp, Expr};
use crate::display::format_number;
use crate::query::EvalError;

impl Evaluator<'_> {
    pub(super) fn pick(
        &self,
        aggregate: &Aggregate,
        grid: &Grid,
    ) -> Result<Vec<Series>, EvalError> {
        let counts = self.counts(self.parameter(aggregate)?, grid)?;
        let series = self.vector(&aggregate.expr, grid)?;
        self.hold_columns(series.len(), grid)?;
        let mut picked: Vec<Series> = series.iter().map(absent_like).collect();
        let mut order = Vec::new();
        let mut candidates: Vec<usize> = Vec::new();
        for group in group(&series, &aggregate.grouping) {
            for (step, count) in counts.iter().enumerate() {
                self.checkpoint()?;
                let is_here = |index: &usize| !is_absent(series[*index].values[step]);
                candidates.clear();
                candidates.extend(group.members.iter().copied().filter(is_here));
                let value = |index: &usize| series[*index].values[step];
                choose(aggregate.op, *count, &mut candidates, value);
                for index in &candidates {
                    picked[*index].values[step] = series[*index].values[step];
                }
            }
            order.extend(candidates.iter().copied());
        }
        if !self.query.is_range && grid.len == 1 {
            // The order of the choice, best first.
            let mut picked: Vec<Option<Series>> = picked.into_iter().map(Some).collect();
            return Ok(order
                .into_iter()
                .filter_map(|index| picked[index].take())
                .collect());
        }
        picked.retain(|one| one.values.iter().any(|value| !is_absent(*value)));
        Ok(picked)
    }

    pub(super) fn limit_ratio(
        &self,
        aggregate: &Aggregate,
        grid: &Grid,
    ) -> Result<Vec<Series>, EvalError> {
        let parameter = self.parameter(aggregate)?;
        let mut ratios = self.scalar(parameter, grid)?;
        if ratios.iter().any(|ratio| ratio.is_nan()) {
            return Err(self.invalid(parameter.span, "Ratio value is NaN"));
        }
        for ratio in &mut ratios {
            let capped = ratio.clamp(-1.0, 1.0);
            if capped != *ratio {
                self.warn(
                    parameter.span,
                    format!(
                        "ratio value should be between -1 and 1, got {}, capping to {}",
                        format_number(*ratio),
                        format_number(capped)
                    ),
                );
                *ratio = capped;
            }
        }
        let mut series = self.vector(&aggregate.expr, grid)?;
        for one in &mut series {
            self.checkpoint()?;
            // The same series are chosen on every machine and at every time.
            let place = (one.labels.fingerprint() >> 64) as u64 as f64 / u64::MAX as f64;
            for (value, ratio) in one.values.iter_mut().zip(&ratios) {
                let is_in = match *ratio >= 0.0 {
                    true => place < *ratio,
                    false => place >= 1.0 + *ratio,
                };
                if !is_in {
                    *value = ABSENT;
                }
            }
        }
        series.retain(|one| one.values.iter().any(|value| !is_absent(*value)));
        Ok(series)
    }

    pub(super) fn parameter<'b>(&self, aggregate: &'b Aggregate) -> Result<&'b Expr, EvalError> {
        aggregate.parameter.as_deref().ok_or_else(|| {
            let message = format!("{} needs a parameter", aggregate.op.as_str());
            self.invalid(aggregate.expr.span, message)
        })
    }

    /// How many series to choose at each step.
    fn counts(&self, parameter: &Expr, grid: &Grid) -> Result<Vec<usize>, EvalError> {
        let values = self.scalar(parameter, grid)?;
        if values.iter().any(|value| value.is_nan()) {
            return Err(self.invalid(parameter.span, "Parameter value is NaN"));
        }
        let is_large = |value: &&f64| value.abs() >= 9_223_372_036_854_775_807.0;
        if let Some(value) = values.iter().find(is_large) {
            let message = format!("Scalar value {} overflows int64", format_number(*value));
            return Err(self.invalid(parameter.span, message));
        }
        Ok(values
            .into_iter()
            .map(|value| value.max(0.0) as usize)
            .collect())
    }
}

fn absent_like(series: &Series) -> Series {
    Series {
        labels: series.labels.clone(),
        drops_name: series.drops_name,
        values: vec![ABSENT; series.values.len()],
    }
}

/// Leaves the chosen ones, best first.
fn choose(
    op: AggregateOp,
    count: usize,
    candidates: &mut Vec<usize>,
    value: impl Fn(&usize) -> f64,
) {
    let by_value = |a: &usize, b: &usize| {
        let (x, y) = (value(a), value(b));
        let order = match op {
            AggregateOp::Topk => descending(x, y),
            _ => ascending(x, y),
        };
        order.then(a.cmp(b))
    };
    if op != AggregateOp::Limitk {
        if 0 < count && count < candidates.len() {
            candidates.select_nth_unstable_by(count - 1, by_value);
            candidates.truncate(count);
        }
        candidates.sort_unstable_by(by_value);
    }
    candidates.truncate(count);
}

/// From small to large, NaN last.
pub(crate) fn ascending(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b)
        .unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// From large to small, NaN last.
pub(crate) fn descending(a: f64, b: f64) -> Ordering {
    b.partial_cmp(&a)
        .unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}
