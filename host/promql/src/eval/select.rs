//! Selectors: the value of each series at each step.

use super::{ABSENT, Evaluator, Grid, Series};
use crate::ast::{Bounds, Selector};
use crate::query::EvalError;
use crate::source::{SeriesData, is_stale};

/// What of a sample is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sampled {
    /// Its value.
    Value,
    /// Its time, in seconds.
    Time,
}

/// Which time is looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reference {
    /// Instead of the step's.
    pub(crate) at_ms: Option<i64>,
    /// How far before.
    pub(crate) offset_ms: i64,
}

impl Evaluator<'_> {
    /// The latest sample of each series at each step, at most the lookback old.
    pub(crate) fn selector(
        &self,
        selector: &Selector,
        grid: &Grid,
        sampled: Sampled,
    ) -> Result<Vec<Series>, EvalError> {
        let offset_ms = self.offset_ms(selector.offset.as_ref())?;
        let at_ms = self.at_ms(selector.at);
        self.selector_at(selector, Reference { at_ms, offset_ms }, grid, sampled)
    }

    /// The same, looking at other times than the selector says.
    pub(crate) fn selector_at(
        &self,
        selector: &Selector,
        reference: Reference,
        grid: &Grid,
        sampled: Sampled,
    ) -> Result<Vec<Series>, EvalError> {
        let Reference { at_ms, offset_ms } = reference;
        let is_smoothed = selector.bounds == Some(Bounds::Smoothed);
        let lookback_ms = self.query.lookback_ms;
        let after_ms = if is_smoothed { lookback_ms } else { 0 };
        let first_ms = at_ms.unwrap_or(grid.start_ms) - offset_ms;
        let last_ms = at_ms.unwrap_or(grid.last()) - offset_ms;
        let from_ms = first_ms - lookback_ms + 1;
        let data = self.fetch(selector, from_ms, last_ms + after_ms)?;
        self.hold_columns(data.len(), grid)?;
        let mut series = Vec::with_capacity(data.len());
        for one in data {
            self.checkpoint()?;
            let mut at = 0;
            let mut is_found = false;
            let mut value_at = |time_ms: i64| {
                while one.times_ms.get(at).is_some_and(|time| *time <= time_ms) {
                    at += 1;
                }
                let latest = at.checked_sub(1)?;
                let sample_ms = one.times_ms[latest];
                let value = one.values[latest];
                if sample_ms <= time_ms - lookback_ms || is_stale(value) {
                    return None;
                }
                Some(match sampled {
                    Sampled::Time => sample_ms as f64 / 1000.0,
                    Sampled::Value if is_smoothed => smoothed(&one, latest, time_ms, lookback_ms),
                    Sampled::Value => value,
                })
            };
            let mut next_value = |time_ms: i64| {
                let value = value_at(time_ms);
                is_found |= value.is_some();
                value.unwrap_or(ABSENT)
            };
            let values: Vec<f64> = match at_ms {
                Some(at_ms) => vec![next_value(at_ms - offset_ms); grid.len],
                None => (0..grid.len)
                    .map(|step| next_value(grid.time(step) - offset_ms))
                    .collect(),
            };
            if is_found {
                series.push(Series {
                    labels: one.labels,
                    drops_name: false,
                    values,
                });
            }
        }
        Ok(series)
    }

    /// Asks the source, once per selector and query.
    pub(super) fn fetch(
        &self,
        selector: &Selector,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<SeriesData>, EvalError> {
        self.checkpoint()?;
        let data = self.source.select(&selector.conditions(), from_ms, to_ms)?;
        let samples = data.iter().map(|one| one.times_ms.len() as u64).sum();
        self.hold(samples)?;
        Ok(data)
    }
}

/// The value on the line from the sample at `latest` to the next one; the sample's when nothing follows.
fn smoothed(data: &SeriesData, latest: usize, time_ms: i64, lookback_ms: i64) -> f64 {
    let (before_ms, before) = (data.times_ms[latest], data.values[latest]);
    let mut later = data.times_ms[latest + 1..]
        .iter()
        .zip(&data.values[latest + 1..]);
    let next = later.find(|(_, value)| !is_stale(**value));
    match next {
        Some((next_ms, next)) if before_ms < time_ms && *next_ms <= time_ms + lookback_ms => {
            let part = (time_ms - before_ms) as f64 / (next_ms - before_ms) as f64;
            before + (next - before) * part
        }
        _ => before,
    }
}
