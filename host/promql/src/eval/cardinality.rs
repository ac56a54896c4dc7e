//! Whether no more series match each other than an operator allows.

use shoal_model::labels::Labels;

use super::matching::{MatchGroup, Sides};
use super::{Evaluator, Grid, Series, is_absent};
use crate::query::EvalError;
use crate::span::Span;

/// A group of matching series whose numbers are checked, at each step by themselves.
pub(super) struct Cardinality<'a> {
    pub(super) evaluator: &'a Evaluator<'a>,
    pub(super) sides: &'a Sides,
    pub(super) group: &'a MatchGroup,
    pub(super) grid: &'a Grid,
    pub(super) span: Span,
}

impl Cardinality<'_> {
    /// At most one series of a group may have a value on the one side, where there is anything for it to match.
    pub(super) fn check_one(&self, key: &Labels, fill_many: Option<f64>) -> Result<(), EvalError> {
        if self.group.one.len() < 2 {
            return Ok(());
        }
        self.evaluator.checkpoint()?;
        let one = &self.sides.one;
        let has_many = |step: usize| {
            let mut many = self.sides.many.iter();
            fill_many.is_some() || many.any(|many| !is_absent(many.values[step]))
        };
        let is_ambiguous = |step: usize| present(one, &self.group.one, step).count() > 1;
        let mut steps = 0..self.grid.len;
        let Some(step) = steps.find(|step| is_ambiguous(*step) && has_many(*step)) else {
            return Ok(());
        };
        let mut found: Vec<&Labels> = present(one, &self.group.one, step)
            .map(|series| &series.labels)
            .collect();
        found.sort();
        let side = if self.sides.is_swapped {
            "left"
        } else {
            "right"
        };
        let message = format!(
            "found duplicate series for the match group {} on the {side} hand-side of the operation: \
             [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
            in_braces(key),
            in_braces(found[0]),
            in_braces(found[1])
        );
        Err(self.evaluator.invalid(self.span, message))
    }

    /// Without a group modifier the other side may have only one too, where it has a partner.
    pub(super) fn check_many(&self, fill_one: Option<f64>) -> Result<(), EvalError> {
        let Cardinality { sides, group, .. } = self;
        if group.many.len() < 2 || (group.one.is_empty() && fill_one.is_none()) {
            return Ok(());
        }
        self.evaluator.checkpoint()?;
        let has_partner = |step: usize| {
            fill_one.is_some() || present(&sides.one, &group.one, step).next().is_some()
        };
        let is_ambiguous = |step: usize| present(&sides.many, &group.many, step).count() > 1;
        match (0..self.grid.len).any(|step| is_ambiguous(step) && has_partner(step)) {
            false => Ok(()),
            true => Err(self.evaluator.invalid(
                self.span,
                "multiple matches for labels: many-to-one matching must be explicit \
                 (group_left/group_right)",
            )),
        }
    }
}

/// Those of the series that have a value at a step.
fn present<'a>(
    series: &'a [Series],
    indices: &'a [usize],
    step: usize,
) -> impl Iterator<Item = &'a Series> {
    let chosen = indices.iter().map(|index| &series[*index]);
    chosen.filter(move |one| !is_absent(one.values[step]))
}

/// Labels as Prometheus' messages show them, the name among the others.
fn in_braces(labels: &Labels) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|label| format!("{}={:?}", label.name, label.value))
        .collect();
    format!("{{{}}}", pairs.join(", "))
}
