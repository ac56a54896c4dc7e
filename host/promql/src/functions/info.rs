//! `info`: adds the labels of info metrics, such as `target_info`, to series of the same instance and job.

use std::collections::HashMap;

use shoal_model::labels::{Label, Labels, METRIC_NAME};

use super::Call;
use crate::ast::{Expr, ExprKind, Selector};
use crate::eval::{ABSENT, Reference, Sampled, Series, is_absent, merge_same};
use crate::matcher::{MatchOp, Matcher};
use crate::query::EvalError;

/// The labels by which a series finds its info metrics.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// The info metric that is looked at unless others are named.
const TARGET_INFO: &str = "target_info";

impl Call<'_> {
    pub(super) fn info(&self) -> Result<Vec<Series>, EvalError> {
        let wanted = Wanted::of(self)?;
        let base = self.input()?;
        let reference = self.reference(&self.args[0], Reference::default())?;
        let times = self.evaluator.selector_at(
            &wanted.selector,
            reference.unwrap_or_default(),
            self.grid,
            Sampled::Time,
        )?;
        let mut by_identity: HashMap<Labels, Vec<usize>> = HashMap::new();
        for (index, info) in times.iter().enumerate() {
            by_identity
                .entry(identity(&info.labels))
                .or_default()
                .push(index);
        }
        let none = Vec::new();
        let mut results = Vec::new();
        for one in base {
            self.evaluator.checkpoint()?;
            if wanted.is_info(&one.labels) {
                results.push(one);
                continue;
            }
            let identity = identity(&one.labels);
            let candidates = match identity.is_empty() {
                true => &none,
                false => by_identity.get(&identity).unwrap_or(&none),
            };
            self.enrich(&one, candidates, &times, &wanted, &mut results)?;
        }
        merge_same(self.evaluator, results, self.call.span)
    }

    /// One result for each combination of info series that was current at some steps.
    fn enrich(
        &self,
        base: &Series,
        candidates: &[usize],
        times: &[Series],
        wanted: &Wanted,
        results: &mut Vec<Series>,
    ) -> Result<(), EvalError> {
        let mut places: HashMap<Vec<usize>, Option<usize>> = HashMap::new();
        let mut current = Vec::new();
        for (step, value) in base.values.iter().enumerate() {
            if is_absent(*value) {
                continue;
            }
            self.current(candidates, times, step, &mut current)?;
            let place = match places.get(&current) {
                Some(place) => *place,
                None => {
                    let place = match current.is_empty() && !wanted.may_be_missing {
                        true => None,
                        false => {
                            let infos = current.iter().map(|index| &times[*index].labels);
                            self.evaluator.hold_columns(1, self.grid)?;
                            results.push(Series {
                                labels: self.enriched(&base.labels, infos, wanted)?,
                                drops_name: base.drops_name,
                                values: vec![ABSENT; self.grid.len],
                            });
                            Some(results.len() - 1)
                        }
                    };
                    places.insert(current.clone(), place);
                    place
                }
            };
            if let Some(place) = place {
                results[place].values[step] = *value;
            }
        }
        Ok(())
    }

    /// The latest series of each info metric at a step.
    fn current(
        &self,
        candidates: &[usize],
        times: &[Series],
        step: usize,
        current: &mut Vec<usize>,
    ) -> Result<(), EvalError> {
        current.clear();
        for index in candidates {
            let time = times[*index].values[step];
            if is_absent(time) {
                continue;
            }
            let name = times[*index].labels.metric_name();
            let same = |other: &&mut usize| times[**other].labels.metric_name() == name;
            match current.iter_mut().find(same) {
                None => current.push(*index),
                Some(other) if times[*other].values[step] < time => *other = *index,
                Some(other) if times[*other].values[step] == time => {
                    let message = format!(
                        "found duplicate series for info metric: existing {}, new {}",
                        times[*other].labels, times[*index].labels
                    );
                    return Err(self.evaluator.invalid(self.call.span, message));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The base's labels and those of the info series that it does not have.
    fn enriched<'b>(
        &self,
        base: &Labels,
        infos: impl Iterator<Item = &'b Labels>,
        wanted: &Wanted,
    ) -> Result<Labels, EvalError> {
        let mut added: Vec<Label> = Vec::new();
        for label in infos.flatten() {
            let is_wanted =
                wanted.names.is_empty() || wanted.names.iter().any(|name| **name == *label.name);
            let is_new = &*label.name != METRIC_NAME && base.get(&label.name).is_none();
            if !is_wanted || !is_new {
                continue;
            }
            match added.iter().find(|other| other.name == label.name) {
                None => added.push(label.clone()),
                Some(other) if other.value == label.value => {}
                Some(_) => {
                    let message = format!("conflicting label: {}", label.name);
                    return Err(self.evaluator.invalid(self.call.span, message));
                }
            }
        }
        Ok(Labels::from_labels(
            base.iter().cloned().chain(added).collect(),
        ))
    }

    /// The time that the first selector of an expression looks at.
    fn reference(&self, expr: &Expr, outer: Reference) -> Result<Option<Reference>, EvalError> {
        let evaluator = self.evaluator;
        let moved = |at, offset| -> Result<Reference, EvalError> {
            let offset_ms = evaluator.offset_ms(offset)?;
            Ok(match evaluator.at_ms(at) {
                Some(at_ms) => Reference {
                    at_ms: Some(at_ms),
                    offset_ms,
                },
                None => Reference {
                    offset_ms: outer.offset_ms.saturating_add(offset_ms),
                    ..outer
                },
            })
        };
        let first = |exprs: &[&Expr]| {
            let mut found = exprs.iter().map(|expr| self.reference(expr, outer));
            found
                .find(|found| !matches!(found, Ok(None)))
                .unwrap_or(Ok(None))
        };
        match &expr.kind {
            ExprKind::Selector(selector) | ExprKind::Matrix(selector, _) => {
                moved(selector.at, selector.offset.as_ref()).map(Some)
            }
            ExprKind::Subquery(subquery) => {
                let inner = moved(subquery.at, subquery.offset.as_ref())?;
                self.reference(&subquery.expr, inner)
            }
            ExprKind::Paren(inner) | ExprKind::Unary(_, inner) => first(&[inner]),
            ExprKind::Aggregate(aggregate) => first(&[&aggregate.expr]),
            ExprKind::Binary(binary) => first(&[&binary.lhs, &binary.rhs]),
            ExprKind::Call(_, args) => first(&args.iter().collect::<Vec<_>>()),
            ExprKind::Number(_) | ExprKind::String(_) => Ok(None),
        }
    }
}

fn identity(labels: &Labels) -> Labels {
    labels.filtered(|name| IDENTIFYING.contains(&name))
}

/// Which info series are looked at, and which of their labels.
struct Wanted {
    selector: Selector,
    /// The labels that are taken over; empty means all.
    names: Vec<String>,
    /// Whether series without info series stay.
    may_be_missing: bool,
}

impl Wanted {
    fn of(call: &Call<'_>) -> Result<Wanted, EvalError> {
        let mut selector = Selector::default();
        if let Some(arg) = call.args.get(1) {
            let ExprKind::Selector(given) = &arg.kind else {
                let message = "info needs a selector in braces";
                return Err(call.evaluator.invalid(arg.span, message));
            };
            // A name in quotes is a matcher like others here.
            selector.matchers = given.conditions();
        }
        let is_name = |matcher: &&Matcher| matcher.name == METRIC_NAME;
        let data: Vec<&Matcher> = selector.matchers.iter().filter(|m| !is_name(m)).collect();
        let names = data.iter().map(|matcher| matcher.name.clone()).collect();
        let may_be_missing = data.iter().all(|matcher| matcher.matches(""));
        let mut of_names = selector.matchers.iter().filter(is_name).peekable();
        let added = if of_names.peek().is_none() {
            Some(Matcher::equal(METRIC_NAME, TARGET_INFO))
        } else if of_names.all(|matcher| matcher.op.is_negative()) {
            let all = Matcher::new(METRIC_NAME, MatchOp::Regex, ".+_info");
            Some(all.map_err(|error| call.evaluator.invalid(call.call.span, error.to_string()))?)
        } else {
            None
        };
        selector.matchers.extend(added);
        Ok(Wanted {
            selector,
            names,
            may_be_missing,
        })
    }

    /// Whether a series is itself one of the info series, which are not enriched.
    fn is_info(&self, labels: &Labels) -> bool {
        let name = labels.metric_name().unwrap_or_default();
        let mut of_names = self
            .selector
            .matchers
            .iter()
            .filter(|m| m.name == METRIC_NAME);
        of_names.all(|matcher| matcher.matches(name))
    }
}
