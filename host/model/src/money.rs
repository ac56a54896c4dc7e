//! Exact decimal numbers for money and quantities. No floating point anywhere.

use std::fmt;
use std::str::FromStr;

/// Billionths in one.
const NANO: i128 = 1_000_000_000;

/// An exact number with nine digits after the point, between ±9.2 · 10^18.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Decimal {
    /// The number in billionths.
    nanos: i128,
}

/// A number does not fit, or is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Units and nanos have different signs, or nanos reach a whole.
    #[error(
        "units {units} and nanos {nanos} do not make a number: nanos lie within ±999999999 and share the sign of units"
    )]
    MixedSigns {
        /// The whole part given.
        units: i64,
        /// The billionths given.
        nanos: i32,
    },
    /// Text is not a decimal number.
    #[error(
        "{0:?} is not a decimal number such as 1833 or 0.5 with at most nine digits after the point"
    )]
    NotANumber(String),
    /// The result is beyond ±9.2 · 10^18.
    #[error("a number is beyond ±9.2e18")]
    OutOfRange,
}

impl Decimal {
    /// Nothing.
    pub const ZERO: Decimal = Decimal { nanos: 0 };

    /// A whole number.
    pub fn from_units(units: i64) -> Decimal {
        Decimal {
            nanos: i128::from(units) * NANO,
        }
    }

    /// The number `units + nanos / 10^9`.
    ///
    /// # Errors
    /// [`DecimalError::MixedSigns`].
    pub fn from_parts(units: i64, nanos: i32) -> Result<Decimal, DecimalError> {
        let agrees = nanos == 0 || units == 0 || (units > 0) == (nanos > 0);
        if !agrees || i128::from(nanos).abs() >= NANO {
            return Err(DecimalError::MixedSigns { units, nanos });
        }
        Ok(Decimal {
            nanos: i128::from(units) * NANO + i128::from(nanos),
        })
    }

    /// The whole part and the billionths, both with the number's sign.
    pub fn parts(self) -> (i64, i32) {
        ((self.nanos / NANO) as i64, (self.nanos % NANO) as i32)
    }

    /// Whether the number is below zero.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// The sum.
    ///
    /// # Errors
    /// [`DecimalError::OutOfRange`].
    #[expect(
        clippy::should_implement_trait,
        reason = "an operator could not say that the sum is out of range"
    )]
    pub fn add(self, other: Decimal) -> Result<Decimal, DecimalError> {
        Self::in_range(self.nanos.checked_add(other.nanos))
    }

    /// The product, rounded half away from zero to `digits` (0 to 9) digits after the point.
    ///
    /// # Errors
    /// [`DecimalError::OutOfRange`].
    pub fn multiply(self, other: Decimal, digits: u8) -> Result<Decimal, DecimalError> {
        let product = self
            .nanos
            .checked_mul(other.nanos)
            .ok_or(DecimalError::OutOfRange)?;
        let step = NANO * 10i128.pow(u32::from(9 - digits.min(9)));
        let rounded = (product.abs() + step / 2) / step * product.signum();
        Self::in_range(rounded.checked_mul(step / NANO))
    }

    fn in_range(nanos: Option<i128>) -> Result<Decimal, DecimalError> {
        nanos
            .filter(|nanos| i64::try_from(nanos / NANO).is_ok())
            .map(|nanos| Decimal { nanos })
            .ok_or(DecimalError::OutOfRange)
    }
}

/// Without trailing zeros: `1833`, `0.5`, `-2.25`.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.nanos < 0 { "-" } else { "" };
        let (whole, part) = (self.nanos.abs() / NANO, self.nanos.abs() % NANO);
        if part == 0 {
            return write!(f, "{sign}{whole}");
        }
        let digits = format!("{part:09}");
        write!(f, "{sign}{whole}.{}", digits.trim_end_matches('0'))
    }
}

impl FromStr for Decimal {
    type Err = DecimalError;
    fn from_str(text: &str) -> Result<Decimal, DecimalError> {
        let wrong = || DecimalError::NotANumber(text.chars().take(100).collect());
        let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
        let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
        let is_digits =
            |s: &str| !s.is_empty() && s.len() <= 19 && s.bytes().all(|b| b.is_ascii_digit());
        if !is_digits(whole) || !is_digits(part) || part.len() > 9 {
            return Err(wrong());
        }
        let whole: i128 = whole.parse().map_err(|_| wrong())?;
        let part: i128 = format!("{part:0<9}").parse().map_err(|_| wrong())?;
        Self::in_range(Some(sign * (whole * NANO + part)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().expect("a number")
    }

    #[test]
    fn a_number_survives_a_trip_through_text_and_parts() {
        for text in [
            "0",
            "1833",
            "-0.5",
            "0.000000001",
            "9223372036854775807",
            "-2.25",
        ] {
            let number = decimal(text);
            assert_eq!(number.to_string(), text);
            let (units, nanos) = number.parts();
            assert_eq!(Decimal::from_parts(units, nanos), Ok(number));
        }
    }

    #[test]
    fn products_round_half_away_from_zero() {
        assert_eq!(decimal("2.5").multiply(decimal("1"), 0), Ok(decimal("3")));
        assert_eq!(decimal("-2.5").multiply(decimal("1"), 0), Ok(decimal("-3")));
        assert_eq!(
            decimal("0.125").multiply(decimal("1"), 2),
            Ok(decimal("0.13"))
        );
        assert_eq!(
            decimal("6").multiply(decimal("1833"), 0),
            Ok(decimal("10998"))
        );
    }

    #[test]
    fn what_is_no_number_or_too_large_is_an_error() {
        for text in [
            "",
            "-",
            "1.",
            ".5",
            "1e3",
            "1.0000000001",
            "٣",
            "99999999999999999999",
        ] {
            assert!(text.parse::<Decimal>().is_err(), "{text}");
        }
        assert!(Decimal::from_parts(1, -1).is_err());
        assert!(Decimal::from_parts(0, 1_000_000_000).is_err());
        let huge = decimal("9223372036854775807");
        assert_eq!(huge.add(huge), Err(DecimalError::OutOfRange));
        assert_eq!(huge.multiply(huge, 0), Err(DecimalError::OutOfRange));
    }
}
