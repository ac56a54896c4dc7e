//! Operators between two vectors: which series belong together, and what becomes of their labels.

use std::collections::HashMap;

use shoal_model::labels::{Labels, METRIC_NAME};

use super::binary::Operation;
use super::cardinality::Cardinality;
use super::{ABSENT, Evaluator, Grid, Series, is_absent, merge_same, without_name};
use crate::ast::{Binary, BinaryOp, Group, Matching, MatchingLabels};
use crate::query::EvalError;
use crate::span::Span;

/// The series of one side that agree in the labels that decide.
#[derive(Default)]
pub(super) struct MatchGroup {
    /// Indices into the side with possibly many series per group; the left one if both have one.
    pub(super) many: Vec<usize>,
    /// Indices into the other side.
    pub(super) one: Vec<usize>,
}

/// Both sides, grouped. Without `group_right` the left side is the many.
pub(super) struct Sides {
    pub(super) many: Vec<Series>,
    pub(super) one: Vec<Series>,
    groups: Vec<(Labels, MatchGroup)>,
    /// The group of each series of `many`.
    group_of: Vec<usize>,
    pub(super) is_swapped: bool,
}

impl Sides {
    fn of(matching: &Matching, lhs: Vec<Series>, rhs: Vec<Series>) -> Sides {
        let is_swapped = matches!(matching.group, Some(Group::Right(_)));
        let (many, one) = if is_swapped { (rhs, lhs) } else { (lhs, rhs) };
        let mut places = HashMap::new();
        let mut groups: Vec<(Labels, MatchGroup)> = Vec::new();
        let mut place_of = |series: &Series, groups: &mut Vec<(Labels, MatchGroup)>| {
            let key = signature(&series.labels, matching);
            *places.entry(key.clone()).or_insert_with(|| {
                groups.push((key, MatchGroup::default()));
                groups.len() - 1
            })
        };
        let mut group_of = Vec::with_capacity(many.len());
        for (index, series) in many.iter().enumerate() {
            let place = place_of(series, &mut groups);
            groups[place].1.many.push(index);
            group_of.push(place);
        }
        for (index, series) in one.iter().enumerate() {
            let place = place_of(series, &mut groups);
            groups[place].1.one.push(index);
        }
        Sides {
            many,
            one,
            groups,
            group_of,
            is_swapped,
        }
    }
}

/// The labels that decide which series belong together.
fn signature(labels: &Labels, matching: &Matching) -> Labels {
    match &matching.labels {
        Some(MatchingLabels::On(names)) => labels.filtered(|name| names.iter().any(|n| n == name)),
        Some(MatchingLabels::Ignoring(names)) => {
            labels.filtered(|name| name != METRIC_NAME && !names.iter().any(|n| n == name))
        }
        None => labels.filtered(|name| name != METRIC_NAME),
    }
}

/// At which steps any of the series has a value.
fn presence(series: &[Series], indices: &[usize], grid: &Grid) -> Vec<bool> {
    let mut present = vec![false; grid.len];
    for index in indices {
        for (present, value) in present.iter_mut().zip(&series[*index].values) {
            *present |= !is_absent(*value);
        }
    }
    present
}

impl Evaluator<'_> {
    /// `and`, `or` and `unless`.
    pub(super) fn set(
        &self,
        binary: &Binary,
        lhs: Vec<Series>,
        rhs: Vec<Series>,
        span: Span,
        grid: &Grid,
    ) -> Result<Vec<Series>, EvalError> {
        // What is filtered is the many; the other side says where.
        let (filtered, other) = match binary.op {
            BinaryOp::Or => (rhs, lhs),
            _ => (lhs, rhs),
        };
        let mut sides = Sides::of(&binary.matching, filtered, other);
        let keeps_present = binary.op == BinaryOp::And;
        let mut present: Vec<Option<Vec<bool>>> = vec![None; sides.groups.len()];
        for (index, series) in sides.many.iter_mut().enumerate() {
            self.checkpoint()?;
            let place = sides.group_of[index];
            let others = &sides.groups[place].1.one;
            let present = present[place].get_or_insert_with(|| presence(&sides.one, others, grid));
            for (value, is_present) in series.values.iter_mut().zip(present) {
                if *is_present != keeps_present {
                    *value = ABSENT;
                }
            }
        }
        let has_value = |series: &Series| series.values.iter().any(|value| !is_absent(*value));
        sides.many.retain(has_value);
        if binary.op != BinaryOp::Or {
            return Ok(sides.many);
        }
        self.hold_columns(sides.one.len(), grid)?;
        let mut all = sides.one;
        all.append(&mut sides.many);
        merge_same(self, all, span)
    }

    /// Arithmetic and comparisons.
    pub(super) fn matched(
        &self,
        binary: &Binary,
        lhs: Vec<Series>,
        rhs: Vec<Series>,
        span: Span,
        grid: &Grid,
    ) -> Result<Vec<Series>, EvalError> {
        let matching = &binary.matching;
        let sides = Sides::of(matching, lhs, rhs);
        // As in Prometheus the left fill is for the many, even when `group_right` says that they are on the right.
        let fill_many = matching.fill_left.map(|number| number.value);
        let fill_one = matching.fill_right.map(|number| number.value);
        for (key, group) in &sides.groups {
            let cardinality = Cardinality {
                evaluator: self,
                sides: &sides,
                group,
                grid,
                span,
            };
            cardinality.check_one(key, fill_many)?;
            if matching.group.is_none() {
                cardinality.check_many(fill_one)?;
            }
        }
        let pairing = Pairing {
            operation: Operation::of(binary),
            matching,
            sides: &sides,
            delays_names: self.query.delays_name_removal,
        };
        let mut results = Vec::new();
        for (index, many) in sides.many.iter().enumerate() {
            let (key, group) = &sides.groups[sides.group_of[index]];
            for one in group.one.iter().map(|one| &sides.one[*one]) {
                self.hold_columns(1, grid)?;
                let pairs = many.values.iter().zip(&one.values);
                let values = pairs.map(|(many, one)| pairing.value(*many, *one));
                results.push(pairing.series(many, Some(&one.labels), values.collect()));
            }
            if let Some(fill) = fill_one {
                self.hold_columns(1, grid)?;
                let present = presence(&sides.one, &group.one, grid);
                let values = many.values.iter().zip(present);
                let values = values.map(|(many, is_present)| match is_present {
                    true => ABSENT,
                    false => pairing.value(*many, fill),
                });
                results.push(pairing.series(many, Some(key), values.collect()));
            }
        }
        if let Some(fill) = fill_many {
            self.fill_many(&pairing, fill, grid, &mut results)?;
        }
        results.retain(|series| series.values.iter().any(|value| !is_absent(*value)));
        merge_same(self, results, span)
    }

    /// Results of series that have no partner on the many side, which `fill` stands in for.
    fn fill_many(
        &self,
        pairing: &Pairing<'_>,
        fill: f64,
        grid: &Grid,
        results: &mut Vec<Series>,
    ) -> Result<(), EvalError> {
        for (key, group) in &pairing.sides.groups {
            let present = presence(&pairing.sides.many, &group.many, grid);
            for one in group.one.iter().map(|one| &pairing.sides.one[*one]) {
                self.hold_columns(1, grid)?;
                let values = one.values.iter().zip(&present);
                let values = values.map(|(one, is_present)| match is_present {
                    true => ABSENT,
                    false => pairing.value(fill, *one),
                });
                let many = Series {
                    labels: without_name(key),
                    drops_name: false,
                    values: Vec::new(),
                };
                results.push(pairing.series(&many, Some(&one.labels), values.collect()));
            }
        }
        Ok(())
    }
}

/// How two series become one.
struct Pairing<'a> {
    operation: Operation,
    matching: &'a Matching,
    sides: &'a Sides,
    delays_names: bool,
}

impl Pairing<'_> {
    fn value(&self, many: f64, one: f64) -> f64 {
        if is_absent(many) || is_absent(one) {
            return ABSENT;
        }
        match self.sides.is_swapped {
            false => self.operation.apply(many, one, many),
            true => self.operation.apply(one, many, one),
        }
    }

    fn series(&self, many: &Series, one: Option<&Labels>, values: Vec<f64>) -> Series {
        let drops_name = self.operation.drops_name();
        let mut labels = match drops_name && !self.delays_names {
            true => without_name(&many.labels),
            false => many.labels.clone(),
        };
        match (&self.matching.group, &self.matching.labels) {
            (Some(Group::Left(taken) | Group::Right(taken)), _) => {
                for name in taken {
                    let value = one.and_then(|one| one.get(name)).unwrap_or_default();
                    labels = labels.with(name, value);
                }
            }
            (None, Some(MatchingLabels::On(names))) => {
                labels = labels.filtered(|name| names.iter().any(|n| n == name));
            }
            (None, Some(MatchingLabels::Ignoring(names))) => {
                labels = labels.filtered(|name| !names.iter().any(|n| n == name));
            }
            (None, None) => {}
        }
        Series {
            labels,
            drops_name: self.delays_names && (drops_name || many.drops_name),
            values,
        }
    }
}
