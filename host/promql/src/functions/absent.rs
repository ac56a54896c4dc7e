//! `absent` and `absent_over_time`.

use shoal_model::labels::{Labels, METRIC_NAME};

use super::Call;
use crate::ast::{Expr, ExprKind};
use crate::eval::{ABSENT, Series, is_absent};
use crate::function::Function;
use crate::matcher::MatchOp;
use crate::query::EvalError;

impl Call<'_> {
    /// 1 where no series has a value.
    pub(super) fn absent(&self) -> Result<Vec<Series>, EvalError> {
        let mut is_missing = vec![true; self.grid.len];
        if self.function == Function::Absent {
            for one in self.input()? {
                for (is_missing, value) in is_missing.iter_mut().zip(one.values) {
                    *is_missing &= is_absent(value);
                }
            }
        } else {
            let windows = self.windows()?;
            for one in &windows.series {
                self.evaluator.checkpoint()?;
                windows.column(one, self.grid, |window| {
                    is_missing[window.step] = false;
                    None
                });
            }
        }
        let values = is_missing.into_iter();
        Ok(vec![Series {
            labels: missing_labels(&self.args[0]),
            drops_name: false,
            values: values
                .map(|missing| if missing { 1.0 } else { ABSENT })
                .collect(),
        }])
    }
}

/// The labels that a selector says the missing series would have.
fn missing_labels(arg: &Expr) -> Labels {
    let (ExprKind::Selector(selector) | ExprKind::Matrix(selector, _)) = &arg.without_parens().kind
    else {
        return Labels::default();
    };
    let all = &selector.matchers;
    let count = |name: &str| all.iter().filter(|other| other.name == name).count();
    let only = all.iter().filter(|matcher| {
        let is_value = matcher.op == MatchOp::Equal && matcher.name != METRIC_NAME;
        is_value && count(&matcher.name) == 1
    });
    Labels::from_pairs(only.map(|matcher| (&matcher.name, &matcher.value)))
}
