//! Aggregations: which series become one, and the operators that look at one series after the other.

use std::collections::HashMap;

use shoal_model::labels::Labels;

use super::labels::is_metadata;
use super::{Evaluator, Grid, Output, Series, is_absent};
use crate::ast::{Aggregate, AggregateOp, Grouping};
use crate::functions::sum::{Mean, Sum, Welford};
use crate::query::EvalError;

/// The series that become one.
pub(super) struct AggregateGroup {
    pub(super) labels: Labels,
    pub(super) drops_name: bool,
    /// Indices of its members, in the order of the input.
    pub(super) members: Vec<usize>,
}

impl Evaluator<'_> {
    pub(super) fn aggregate(
        &self,
        aggregate: &Aggregate,
        grid: &Grid,
    ) -> Result<Output, EvalError> {
        let series = match aggregate.op {
            AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk => {
                self.pick(aggregate, grid)?
            }
            AggregateOp::LimitRatio => self.limit_ratio(aggregate, grid)?,
            AggregateOp::Quantile => self.quantile(aggregate, grid)?,
            AggregateOp::CountValues => self.count_values(aggregate, grid)?,
            _ => self.fold(aggregate, grid)?,
        };
        Ok(Output::Vector(series))
    }

    fn fold(&self, aggregate: &Aggregate, grid: &Grid) -> Result<Vec<Series>, EvalError> {
        let series = self.vector(&aggregate.expr, grid)?;
        let groups = group(&series, &aggregate.grouping);
        self.hold_columns(groups.len(), grid)?;
        let mut results = Vec::with_capacity(groups.len());
        for group in groups {
            let members = Members {
                series: &series,
                indices: &group.members,
                evaluator: self,
            };
            let values = match aggregate.op {
                AggregateOp::Sum => members.fold(grid, Sum::add, |sum: &Sum| sum.value()),
                AggregateOp::Avg => members.fold(grid, Mean::add, |mean: &Mean| mean.value()),
                AggregateOp::Stddev => {
                    members.fold(grid, Welford::add, |spread: &Welford| spread.stddev())
                }
                AggregateOp::Stdvar => {
                    members.fold(grid, Welford::add, |spread: &Welford| spread.stdvar())
                }
                AggregateOp::Count => {
                    members.fold(grid, |count: &mut f64, _| *count += 1.0, |count| *count)
                }
                AggregateOp::Min => members.extreme(grid, |value, least| value < least),
                AggregateOp::Max => members.extreme(grid, |value, most| value > most),
                _ => members.fold(grid, |_: &mut (), _| {}, |()| 1.0),
            }?;
            results.push(Series {
                labels: group.labels,
                drops_name: group.drops_name,
                values,
            });
        }
        Ok(results)
    }
}

struct Members<'a> {
    series: &'a [Series],
    indices: &'a [usize],
    evaluator: &'a Evaluator<'a>,
}

impl Members<'_> {
    /// Adds up the members' values at each step.
    fn fold<S: Default + Clone>(
        &self,
        grid: &Grid,
        add: impl Fn(&mut S, f64),
        finish: impl Fn(&S) -> f64,
    ) -> Result<Vec<f64>, EvalError> {
        let state_samples = size_of::<Option<S>>() / size_of::<f64>();
        self.evaluator
            .check_room(state_samples as u64 * grid.len as u64)?;
        let mut states: Vec<Option<S>> = vec![None; grid.len];
        for index in self.indices {
            self.evaluator.checkpoint()?;
            for (state, value) in states.iter_mut().zip(&self.series[*index].values) {
                if !is_absent(*value) {
                    add(state.get_or_insert_default(), *value);
                }
            }
        }
        let finished = states.iter().map(|state| state.as_ref().map(&finish));
        Ok(finished
            .map(|value| value.unwrap_or(super::ABSENT))
            .collect())
    }

    /// The value that is `better` than all others; NaN only when there is nothing else.
    fn extreme(
        &self,
        grid: &Grid,
        better: impl Fn(f64, f64) -> bool,
    ) -> Result<Vec<f64>, EvalError> {
        let mut best = vec![super::ABSENT; grid.len];
        for index in self.indices {
            self.evaluator.checkpoint()?;
            for (best, value) in best.iter_mut().zip(&self.series[*index].values) {
                if !is_absent(*value) && (best.is_nan() || better(*value, *best)) {
                    *best = *value;
                }
            }
        }
        Ok(best)
    }
}

/// The labels that a series' group has.
pub(super) fn group_labels(labels: &Labels, grouping: &Grouping) -> Labels {
    match grouping {
        Grouping::By(names) => labels.filtered(|name| names.iter().any(|n| n == name)),
        Grouping::Without(names) => {
            labels.filtered(|name| !is_metadata(name) && !names.iter().any(|n| n == name))
        }
    }
}

/// Groups series in the order in which groups are first seen.
pub(super) fn group(series: &[Series], grouping: &Grouping) -> Vec<AggregateGroup> {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut groups: Vec<AggregateGroup> = Vec::new();
    for (index, one) in series.iter().enumerate() {
        let labels = group_labels(&one.labels, grouping);
        let place = *places.entry(labels.clone()).or_insert_with(|| {
            groups.push(AggregateGroup {
                labels,
                drops_name: false,
                members: Vec::new(),
            });
            groups.len() - 1
        });
        groups[place].members.push(index);
        groups[place].drops_name |= one.drops_name;
    }
    groups
}
