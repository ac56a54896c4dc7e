//! The times at which a node is evaluated.

use crate::query::{EvalError, Limits, Query};

/// Times further from the epoch than this are refused, in milliseconds. Half of it is left for offsets and ranges.
const TIME_MAX_MS: i64 = 1 << 61;

/// Equally spaced times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) start_ms: i64,
    pub(crate) step_ms: i64,
    pub(crate) len: usize,
}

impl Grid {
    /// The grid of a query.
    pub(super) fn of(query: &Query, limits: &Limits<'_>) -> Result<Grid, EvalError> {
        let is_near = |time_ms: i64| (-TIME_MAX_MS..=TIME_MAX_MS).contains(&time_ms);
        let bad = |message: String| Err(EvalError::BadTimes(message));
        if !is_near(query.start_ms) || !is_near(query.end_ms) {
            return bad(format!(
                "the time range {} to {} is out of bounds",
                query.start_ms, query.end_ms
            ));
        }
        let is_near_zero = |length_ms: i64| (0..=TIME_MAX_MS / 2).contains(&length_ms);
        if !is_near_zero(query.lookback_ms) || !is_near_zero(query.subquery_step_ms) {
            return bad(format!(
                "the lookback of {}ms or the step of subqueries of {}ms is out of bounds",
                query.lookback_ms, query.subquery_step_ms
            ));
        }
        if !query.is_range {
            return Ok(Grid {
                start_ms: query.start_ms,
                step_ms: 1,
                len: 1,
            });
        }
        if query.step_ms <= 0 {
            return bad("the step of a range query must be greater than 0".to_owned());
        }
        if query.end_ms < query.start_ms {
            return bad("the end of a range query must not be before its start".to_owned());
        }
        let grid = Grid::between(query.start_ms, query.end_ms, query.step_ms);
        match grid.len <= limits.steps_max {
            true => Ok(grid),
            false => Err(EvalError::TooManySteps {
                steps: grid.len as u64,
                max: limits.steps_max,
            }),
        }
    }

    /// Times from `start_ms` up to and including `end_ms`; none when it is before.
    pub(super) fn between(start_ms: i64, end_ms: i64, step_ms: i64) -> Grid {
        let span = end_ms.saturating_sub(start_ms);
        let steps = if span < 0 { 0 } else { span / step_ms + 1 };
        Grid {
            start_ms,
            step_ms,
            len: usize::try_from(steps).unwrap_or(usize::MAX),
        }
    }

    /// The time of a step.
    pub(crate) fn time(&self, step: usize) -> i64 {
        self.start_ms + self.step_ms * step as i64
    }

    /// The time of the last step; the start when there are none.
    pub(crate) fn last(&self) -> i64 {
        self.time(self.len.saturating_sub(1))
    }
}
