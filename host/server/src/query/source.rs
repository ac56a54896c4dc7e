//! The store as the evaluator sees it: one tenant's series.

use std::cell::RefCell;

use shoal_model::TenantId;
use shoal_promql::{SeriesData, SeriesSource, SourceError};
use shoal_store::{Damage, InvalidMatcher, MatchOp, Matcher, ReadError, Store};

/// One tenant's series.
pub(super) struct StoreSource<'a> {
    pub(super) store: &'a Store,
    pub(super) tenant: TenantId,
    /// What could not be read, as warnings.
    pub(super) warnings: RefCell<Vec<String>>,
}

impl SeriesSource for StoreSource<'_> {
    fn select(
        &self,
        conditions: &[shoal_promql::Matcher],
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<SeriesData>, SourceError> {
        let matchers =
            matchers(conditions).map_err(|error| SourceError::TooMuch(error.to_string()))?;
        let selection = self.store.select(self.tenant, &matchers, from_ms, to_ms);
        let selection = selection.map_err(|error| match error {
            ReadError::TooManySamples { .. } | ReadError::TooManySeries { .. } => {
                SourceError::TooMuch(error.to_string())
            }
            ReadError::Damaged(_) | ReadError::Io { .. } => {
                tracing::error!(%error, "telemetry cannot be read");
                SourceError::Unavailable("a part of it is damaged; tell the operator".to_owned())
            }
        })?;
        add_warnings(&selection.damages, &mut self.warnings.borrow_mut());
        Ok(selection
            .series
            .into_iter()
            .map(|series| SeriesData {
                labels: series.labels,
                times_ms: series.times_ms.to_vec(),
                values: series.values,
            })
            .collect())
    }
}

/// Says what of an answer is missing, each damage once.
pub(super) fn add_warnings(damages: &[Damage], warnings: &mut Vec<String>) {
    for damage in damages {
        let what = damage.without_folder();
        let warning = format!("samples are missing from this result: {what}; tell the operator");
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
}

/// The store's word for each of the evaluator's matchers.
pub(super) fn matchers(
    conditions: &[shoal_promql::Matcher],
) -> Result<Vec<Matcher>, InvalidMatcher> {
    let of = |condition: &shoal_promql::Matcher| {
        let op = match condition.op {
            shoal_promql::MatchOp::Equal => MatchOp::Equal,
            shoal_promql::MatchOp::NotEqual => MatchOp::NotEqual,
            shoal_promql::MatchOp::Regex => MatchOp::Regex,
            shoal_promql::MatchOp::NotRegex => MatchOp::NotRegex,
        };
        Matcher::new(&*condition.name, op, &*condition.value)
    };
    conditions.iter().map(of).collect()
}
