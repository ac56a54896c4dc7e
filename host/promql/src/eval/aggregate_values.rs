//! Aggregations over the values of a group at each step: `quantile` and `count_values`.

use std::collections::HashMap;

use shoal_model::labels::Labels;

use super::aggregate::{group, group_labels};
use super::{ABSENT, Evaluator, Grid, Series, is_absent};
use crate::ast::Aggregate;
use crate::display::format_number;
use crate::functions::over_time::quantile_of;
use crate::query::EvalError;

impl Evaluator<'_> {
    pub(super) fn quantile(
        &self,
        aggregate: &Aggregate,
        grid: &Grid,
    ) -> Result<Vec<Series>, EvalError> {
        let parameter = self.parameter(aggregate)?;
        let quantiles = self.scalar(parameter, grid)?;
        self.check_quantiles(&quantiles, parameter.span);
        let series = self.vector(&aggregate.expr, grid)?;
        let groups = group(&series, &aggregate.grouping);
        self.hold_columns(groups.len(), grid)?;
        let mut results = Vec::with_capacity(groups.len());
        let mut present = Vec::new();
        for group in groups {
            let mut values = Vec::with_capacity(grid.len);
            for (step, quantile) in quantiles.iter().enumerate() {
                self.checkpoint()?;
                present.clear();
                let here = group
                    .members
                    .iter()
                    .map(|index| series[*index].values[step]);
                present.extend(here.filter(|value| !is_absent(*value)));
                values.push(match present.is_empty() {
                    true => ABSENT,
                    false => quantile_of(*quantile, &mut present),
                });
            }
            results.push(Series {
                labels: group.labels,
                drops_name: group.drops_name,
                values,
            });
        }
        Ok(results)
    }

    pub(super) fn count_values(
        &self,
        aggregate: &Aggregate,
        grid: &Grid,
    ) -> Result<Vec<Series>, EvalError> {
        let parameter = self.parameter(aggregate)?;
        let name = self.string(parameter, grid)?;
        if name.is_empty() {
            return Err(self.invalid(parameter.span, format!("invalid label name {name:?}")));
        }
        let series = self.vector(&aggregate.expr, grid)?;
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut results: Vec<Series> = Vec::new();
        for one in &series {
            self.checkpoint()?;
            let base = group_labels(&one.labels, &aggregate.grouping);
            // Values repeat from step to step.
            let mut last: Option<(u64, usize)> = None;
            for (step, value) in one.values.iter().enumerate() {
                if is_absent(*value) {
                    continue;
                }
                let place = match last {
                    Some((bits, place)) if bits == value.to_bits() => place,
                    _ => {
                        let labels = base.with(&name, &format_number(*value));
                        match places.get(&labels) {
                            Some(place) => *place,
                            None => {
                                self.hold_columns(1, grid)?;
                                places.insert(labels.clone(), results.len());
                                results.push(Series {
                                    labels,
                                    drops_name: false,
                                    values: vec![ABSENT; grid.len],
                                });
                                results.len() - 1
                            }
                        }
                    }
                };
                last = Some((value.to_bits(), place));
                results[place].drops_name |= one.drops_name;
                let count = &mut results[place].values[step];
                *count = if is_absent(*count) { 1.0 } else { *count + 1.0 };
            }
        }
        Ok(results)
    }
}
