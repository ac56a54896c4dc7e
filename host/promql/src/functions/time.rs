//! Functions of time, and those that give numbers without looking at series.

use super::math::{larger, smaller};
use super::{Call, nameless};
use crate::ast::ExprKind;
use crate::eval::{Sampled, Series, is_absent};
use crate::function::Function;
use crate::query::EvalError;

const DAY_SECONDS: i64 = 86_400;

impl Call<'_> {
    pub(super) fn number(&self) -> Result<Vec<f64>, EvalError> {
        let query = self.evaluator.query;
        let seconds = |time_ms: i64| time_ms as f64 / 1000.0;
        let value = match self.function {
            Function::Time => return Ok(self.times()),
            Function::MinOf | Function::MaxOf => {
                let (a, b) = (self.parameter(0)?, self.parameter(1)?);
                let pick = match self.function {
                    Function::MinOf => smaller,
                    _ => larger,
                };
                return Ok(a.into_iter().zip(b).map(|(a, b)| pick(a, b)).collect());
            }
            Function::Start => seconds(query.start_ms),
            Function::End => seconds(query.end_ms),
            Function::Step => seconds(query.step_ms),
            Function::Range => seconds(query.end_ms - query.start_ms),
            _ => std::f64::consts::PI,
        };
        Ok(vec![value; self.grid.len])
    }

    fn times(&self) -> Vec<f64> {
        let steps = 0..self.grid.len;
        steps
            .map(|step| self.grid.time(step) as f64 / 1000.0)
            .collect()
    }

    /// The value of the only series; NaN when there is not one.
    pub(super) fn scalar(&self) -> Result<Vec<f64>, EvalError> {
        let series = self.input()?;
        let mut values = vec![f64::NAN; self.grid.len];
        for (step, value) in values.iter_mut().enumerate() {
            let mut present = series
                .iter()
                .map(|one| one.values[step])
                .filter(|value| !is_absent(*value));
            if let (Some(only), None) = (present.next(), present.next()) {
                *value = only;
            }
        }
        Ok(values)
    }

    /// When the samples were taken. Only a selector has samples; all else happens when it is evaluated.
    pub(super) fn timestamp(&self) -> Result<Vec<Series>, EvalError> {
        let arg = self.args[0].without_parens();
        let series = match &arg.kind {
            ExprKind::Selector(selector) => {
                self.evaluator
                    .selector(selector, self.grid, Sampled::Time)?
            }
            _ => {
                let mut series = self.input()?;
                for one in &mut series {
                    for (step, value) in one.values.iter_mut().enumerate() {
                        if !is_absent(*value) {
                            *value = self.grid.time(step) as f64 / 1000.0;
                        }
                    }
                }
                series
            }
        };
        self.evaluator.drop_names(series, self.call.span)
    }

    pub(super) fn calendar(&self) -> Result<Vec<Series>, EvalError> {
        let series = match self.args.is_empty() {
            true => vec![nameless(self.times())],
            false => self.input()?,
        };
        let part = |_: usize, value: f64| self.calendar_part(value);
        self.evaluator.map_values(series, self.call.span, part)
    }

    fn calendar_part(&self, seconds: f64) -> f64 {
        if !seconds.is_finite() {
            return f64::NAN;
        }
        let seconds = seconds as i64;
        let days = seconds.div_euclid(DAY_SECONDS);
        let in_day = seconds.rem_euclid(DAY_SECONDS);
        let date = civil_from_days(days);
        let part = match self.function {
            Function::Minute => in_day / 60 % 60,
            Function::Hour => in_day / 3600,
            // The epoch was a Thursday.
            Function::DayOfWeek => (days + 4).rem_euclid(7),
            Function::DayOfMonth => date.day,
            Function::DayOfYear => days - days_from_civil(date.year, 1, 1) + 1,
            Function::DaysInMonth => days_in_month(date.year, date.month),
            Function::Month => date.month,
            _ => date.year,
        };
        part as f64
    }
}

struct Date {
    year: i64,
    month: i64,
    day: i64,
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        12 => 31,
        _ => days_from_civil(year, month + 1, 1) - days_from_civil(year, month, 1),
    }
}

/// Days since the epoch to a date of the proleptic Gregorian calendar.
/// Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn civil_from_days(days: i64) -> Date {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = (shifted_month + 2) % 12 + 1;
    Date {
        year: year_of_era + era * 400 + i64::from(month <= 2),
        month,
        day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
    }
}

/// The inverse of [`civil_from_days`].
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_four_centuries_survives_a_trip_through_the_calendar() {
        for days in -146_097..146_097 {
            let date = civil_from_days(days);
            assert_eq!(days_from_civil(date.year, date.month, date.day), days);
        }
    }

    #[test]
    fn february_has_a_leap_day_in_leap_years() {
        assert_eq!(days_in_month(2024, 2), 29);
        assert_eq!(days_in_month(2100, 2), 28);
        assert_eq!(days_in_month(2023, 12), 31);
    }
}
