//! Lines and trends through the samples of a window.

use super::Call;
use super::sum::Sum;
use crate::eval::{Series, Window};
use crate::function::Function;
use crate::query::EvalError;

impl Call<'_> {
    pub(super) fn regression(&self) -> Result<Vec<Series>, EvalError> {
        match self.function {
            Function::Deriv => self.each_window(|| {
                |window: Window<'_>| {
                    let origin_ms = *window.times_ms.first()?;
                    has_two(window).then(|| line(window, origin_ms).0)
                }
            }),
            Function::PredictLinear => {
                let ahead = self.parameter(1)?;
                self.each_window(|| {
                    |window: Window<'_>| {
                        has_two(window).then(|| {
                            let (slope, now) = line(window, window.step_ms);
                            slope * ahead[window.step] + now
                        })
                    }
                })
            }
            _ => {
                let smoothing = self.factor(1, "smoothing")?;
                let trend = self.factor(2, "trend")?;
                self.each_window(|| {
                    |window: Window<'_>| {
                        has_two(window).then(|| {
                            smooth(window.values, smoothing[window.step], trend[window.step])
                        })
                    }
                })
            }
        }
    }

    fn factor(&self, index: usize, name: &str) -> Result<Vec<f64>, EvalError> {
        let factors = self.parameter(index)?;
        let is_bad = |factor: &&f64| !(**factor > 0.0 && **factor < 1.0);
        match factors.iter().find(is_bad) {
            None => Ok(factors),
            Some(factor) => {
                let symbol = &name[..1];
                let message =
                    format!("invalid {name} factor. Expected: 0 < {symbol}f < 1, got: {factor:.6}");
                Err(self.evaluator.invalid(self.args[index].span, message))
            }
        }
    }
}

fn has_two(window: Window<'_>) -> bool {
    window.values.len() >= 2
}

/// The line of least squares: its slope per second, and its value at `origin_ms`.
fn line(window: Window<'_>, origin_ms: i64) -> (f64, f64) {
    let first = window.values[0];
    if window.values.iter().all(|value| *value == first) {
        return match first.is_infinite() {
            true => (f64::NAN, f64::NAN),
            false => (0.0, first),
        };
    }
    let count = window.values.len() as f64;
    let (mut xs, mut ys) = (Sum::default(), Sum::default());
    let (mut products, mut squares) = (Sum::default(), Sum::default());
    for (time_ms, y) in window.times_ms.iter().zip(window.values) {
        let x = (time_ms - origin_ms) as f64 / 1000.0;
        xs.add(x);
        ys.add(*y);
        products.add(x * y);
        squares.add(x * x);
    }
    let (xs, ys) = (xs.value(), ys.value());
    let covariance = products.value() - xs * ys / count;
    let variance = squares.value() - xs * xs / count;
    let slope = covariance / variance;
    (slope, ys / count - slope * xs / count)
}

/// Holt's double exponential smoothing: the last smoothed value.
fn smooth(values: &[f64], smoothing: f64, trend_factor: f64) -> f64 {
    let (mut before, mut smoothed) = (0.0, values[0]);
    let mut trend = values[1] - values[0];
    for (index, value) in values.iter().enumerate().skip(1) {
        if index > 1 {
            trend = trend_factor * (smoothed - before) + (1.0 - trend_factor) * trend;
        }
        let next = smoothing * value + (1.0 - smoothing) * (smoothed + trend);
        (before, smoothed) = (smoothed, next);
    }
    smoothed
}
