//! The order of an instant query's answer.

use std::cmp::Ordering;

use super::Call;
use super::natural::natural_order;
use crate::eval::{Series, ascending, descending};
use crate::function::Function;
use crate::query::EvalError;

impl Call<'_> {
    pub(super) fn sort(&self) -> Result<Vec<Series>, EvalError> {
        let names = (1..self.args.len())
            .map(|index| self.evaluator.string(&self.args[index], self.grid))
            .collect::<Result<Vec<_>, _>>()?;
        let mut series = self.input()?;
        if self.evaluator.query.is_range {
            self.evaluator.warn(
                self.call.span,
                "sort is ineffective for range queries since results are always ordered by labels",
            );
            return Ok(series);
        }
        // Inside of a subquery there are many steps and no order.
        if self.grid.len != 1 {
            return Ok(series);
        }
        let value = |one: &Series| one.values[0];
        match self.function {
            Function::Sort => series.sort_by(|a, b| ascending(value(a), value(b))),
            Function::SortDesc => series.sort_by(|a, b| descending(value(a), value(b))),
            Function::SortByLabel => series.sort_by(|a, b| by_labels(a, b, &names)),
            _ => series.sort_by(|a, b| by_labels(b, a, &names)),
        }
        Ok(series)
    }
}

/// By the labels named, then by all labels.
fn by_labels(a: &Series, b: &Series, names: &[String]) -> Ordering {
    let of = |series: &Series, name: &str| series.labels.get(name).unwrap_or_default().to_owned();
    names
        .iter()
        .map(|name| natural_order(&of(a, name), &of(b, name)))
        .find(|order| order.is_ne())
        .unwrap_or_else(|| a.labels.cmp(&b.labels))
}
