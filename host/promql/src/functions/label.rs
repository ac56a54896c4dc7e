//! `label_replace` and `label_join`.

use shoal_model::labels::{Labels, METRIC_NAME};

use super::Call;
use crate::eval::{Series, merge_same};
use crate::matcher::anchored_regex;
use crate::query::EvalError;

/// The longest label value that a function may make, in bytes. Labels that people write are far shorter; without a
/// bound, nested calls would double a value again and again.
const VALUE_MAX_BYTES: usize = 64 * 1024;

impl Call<'_> {
    pub(super) fn label_replace(&self) -> Result<Vec<Series>, EvalError> {
        let target = self.target()?;
        let (replacement, source) = (self.text(2)?, self.text(3)?);
        let pattern = self.text(4)?;
        let regex = anchored_regex(&pattern).map_err(|error| {
            let message = format!("invalid regular expression in label_replace(): {error}");
            self.evaluator.invalid(self.args[4].span, message)
        })?;
        let references = replacement.matches('$').count();
        self.relabelled(&target, |labels| {
            let source = labels.get(&source).unwrap_or_default();
            let Some(found) = regex.captures(source) else {
                return Ok(None);
            };
            // The most that can come of it, so that it is refused before it is made.
            self.check_length(replacement.len() + references * source.len())?;
            let mut value = String::new();
            found.expand(&replacement, &mut value);
            Ok(Some(value))
        })
    }

    pub(super) fn label_join(&self) -> Result<Vec<Series>, EvalError> {
        let target = self.target()?;
        let separator = self.text(2)?;
        let sources = (3..self.args.len())
            .map(|index| self.text(index))
            .collect::<Result<Vec<_>, _>>()?;
        self.relabelled(&target, |labels| {
            let values = sources
                .iter()
                .map(|name| labels.get(name).unwrap_or_default());
            let values: Vec<&str> = values.collect();
            let length: usize = values.iter().map(|value| value.len()).sum();
            self.check_length(length + separator.len() * values.len())?;
            Ok(Some(values.join(&separator)))
        })
    }

    fn check_length(&self, bytes: usize) -> Result<(), EvalError> {
        match bytes <= VALUE_MAX_BYTES {
            true => self.evaluator.hold(bytes as u64 / 8),
            false => {
                let name = self.function.name();
                let message = format!(
                    "{name}() would make a label value of up to {bytes} bytes, at most \
                     {VALUE_MAX_BYTES} are allowed"
                );
                Err(self.evaluator.invalid(self.call.span, message))
            }
        }
    }

    fn text(&self, index: usize) -> Result<String, EvalError> {
        self.evaluator.string(&self.args[index], self.grid)
    }

    /// The label to put.
    fn target(&self) -> Result<String, EvalError> {
        let name = self.text(1)?;
        match name.is_empty() {
            false => Ok(name),
            true => {
                let message = format!(
                    "invalid destination label name in {}(): {name:?}",
                    self.function.name()
                );
                Err(self.evaluator.invalid(self.args[1].span, message))
            }
        }
    }

    fn relabelled(
        &self,
        target: &str,
        value: impl Fn(&Labels) -> Result<Option<String>, EvalError>,
    ) -> Result<Vec<Series>, EvalError> {
        let mut series = self.input()?;
        for one in &mut series {
            self.evaluator.checkpoint()?;
            if let Some(value) = value(&one.labels)? {
                one.labels = one.labels.with(target, &value);
                // A name that was put is meant to stay.
                one.drops_name &= target != METRIC_NAME;
            }
        }
        merge_same(self.evaluator, series, self.call.span)
    }
}
