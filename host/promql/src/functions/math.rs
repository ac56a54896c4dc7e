//! Functions of one value.

use super::Call;
use crate::eval::Series;
use crate::function::Function;
use crate::query::EvalError;

impl Call<'_> {
    pub(super) fn math(&self) -> Result<Vec<Series>, EvalError> {
        use Function as F;
        match self.function {
            F::Clamp => {
                let (least, most) = (self.parameter(1)?, self.parameter(2)?);
                let mut series = self.input()?;
                for one in &mut series {
                    for (step, value) in one.values.iter_mut().enumerate() {
                        if most[step] < least[step] {
                            *value = crate::eval::ABSENT;
                        }
                    }
                }
                self.map(series, |step, value| {
                    larger(least[step], smaller(most[step], value))
                })
            }
            F::ClampMax => {
                let most = self.parameter(1)?;
                self.map(self.input()?, |step, value| smaller(most[step], value))
            }
            F::ClampMin => {
                let least = self.parameter(1)?;
                self.map(self.input()?, |step, value| larger(least[step], value))
            }
            F::Round => {
                let nearest = match self.args.get(1) {
                    Some(_) => self.parameter(1)?,
                    None => vec![1.0; self.grid.len],
                };
                self.map(self.input()?, |step, value| {
                    // Dividing by the inverse is more exact than multiplying: 0.1 has none that is.
                    let inverse = 1.0 / nearest[step];
                    (value * inverse + 0.5).floor() / inverse
                })
            }
            _ => {
                let change = plain(self.function);
                self.map(self.input()?, |_, value| change(value))
            }
        }
    }

    pub(super) fn input(&self) -> Result<Vec<Series>, EvalError> {
        self.evaluator.vector(&self.args[0], self.grid)
    }

    pub(super) fn parameter(&self, index: usize) -> Result<Vec<f64>, EvalError> {
        self.evaluator.scalar(&self.args[index], self.grid)
    }

    fn map(
        &self,
        series: Vec<Series>,
        change: impl Fn(usize, f64) -> f64,
    ) -> Result<Vec<Series>, EvalError> {
        self.evaluator.map_values(series, self.call.span, change)
    }
}

fn plain(function: Function) -> fn(f64) -> f64 {
    use Function as F;
    match function {
        F::Abs => f64::abs,
        F::Acos => f64::acos,
        F::Acosh => f64::acosh,
        F::Asin => f64::asin,
        F::Asinh => f64::asinh,
        F::Atan => f64::atan,
        F::Atanh => f64::atanh,
        F::Ceil => f64::ceil,
        F::Cos => f64::cos,
        F::Cosh => f64::cosh,
        F::Deg => |value| value * 180.0 / std::f64::consts::PI,
        F::Exp => f64::exp,
        F::Floor => f64::floor,
        F::Ln => f64::ln,
        F::Log10 => f64::log10,
        F::Log2 => f64::log2,
        F::Rad => |value| value * std::f64::consts::PI / 180.0,
        F::Sgn => |value| {
            if value < 0.0 {
                -1.0
            } else if value > 0.0 {
                1.0
            } else {
                value
            }
        },
        F::Sin => f64::sin,
        F::Sinh => f64::sinh,
        F::Sqrt => f64::sqrt,
        F::Tan => f64::tan,
        F::Tanh => f64::tanh,
        // The families of all others are handled before.
        _ => |value| value,
    }
}

/// The larger one; NaN if one is.
pub(super) fn larger(a: f64, b: f64) -> f64 {
    match a.is_nan() || b.is_nan() {
        true => f64::NAN,
        false => a.max(b),
    }
}

/// The smaller one; NaN if one is.
pub(super) fn smaller(a: f64, b: f64) -> f64 {
    match a.is_nan() || b.is_nan() {
        true => f64::NAN,
        false => a.min(b),
    }
}
