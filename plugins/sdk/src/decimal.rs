//! Exact decimal numbers for money and quantities: billionths in an integer, never floating point.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::value::RawValue;

use crate::Failure;

/// Billionths in one.
const NANO: i128 = 1_000_000_000;

/// An exact number with nine digits after the point, between ±9.2 · 10^18.
///
/// In settings it is a JSON number (`1833`, `0.05`) or a string (`"0.05"`); both are read as text.
///
/// ```
/// use shoal_sdk::Decimal;
///
/// let price: Decimal = "0.005".parse().expect("a number");
/// assert_eq!(price.multiply(Decimal::from(300), 0), Ok(Decimal::from(2)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Decimal {
    nanos: i128,
}

/// A result is beyond ±9.2 · 10^18.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange;

/// Text is not a decimal number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotANumber(String);

impl Decimal {
    /// Nothing.
    pub const ZERO: Decimal = Decimal { nanos: 0 };

    /// The sum.
    ///
    /// # Errors
    /// [`OutOfRange`].
    #[expect(
        clippy::should_implement_trait,
        reason = "an operator could not say that the sum is out of range"
    )]
    pub fn add(self, other: Decimal) -> Result<Decimal, OutOfRange> {
        in_range(self.nanos.checked_add(other.nanos))
    }

    /// The product, rounded half up (away from zero) to `digits` (0 to 9) digits after the point.
    ///
    /// # Errors
    /// [`OutOfRange`].
    pub fn multiply(self, other: Decimal, digits: u8) -> Result<Decimal, OutOfRange> {
        let product = self.nanos.checked_mul(other.nanos).ok_or(OutOfRange)?;
        let step = NANO * 10i128.pow(u32::from(9 - digits.min(9)));
        let rounded = (product.abs() + step / 2) / step * product.signum();
        in_range(rounded.checked_mul(step / NANO))
    }
}

fn in_range(nanos: Option<i128>) -> Result<Decimal, OutOfRange> {
    nanos
        .filter(|nanos| i64::try_from(nanos / NANO).is_ok())
        .map(|nanos| Decimal { nanos })
        .ok_or(OutOfRange)
}

impl From<i64> for Decimal {
    fn from(units: i64) -> Decimal {
        Decimal {
            nanos: i128::from(units) * NANO,
        }
    }
}

impl From<Decimal> for crate::bindings::check::shoal::plugin::types::Decimal {
    fn from(decimal: Decimal) -> Self {
        // Both fit: every constructor checks the range.
        Self {
            units: (decimal.nanos / NANO) as i64,
            nanos: (decimal.nanos % NANO) as i32,
        }
    }
}

impl From<crate::bindings::check::shoal::plugin::types::Decimal> for Decimal {
    fn from(parts: crate::bindings::check::shoal::plugin::types::Decimal) -> Self {
        Decimal {
            nanos: i128::from(parts.units) * NANO + i128::from(parts.nanos),
        }
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
    type Err = NotANumber;

    fn from_str(text: &str) -> Result<Decimal, NotANumber> {
        let wrong = || NotANumber(text.chars().take(100).collect());
        let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
        let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
        let is_digits = |s: &str, most: usize| {
            (1..=most).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit())
        };
        if !is_digits(whole, 19) || !is_digits(part, 9) {
            return Err(wrong());
        }
        let whole: i128 = whole.parse().map_err(|_| wrong())?;
        let part: i128 = format!("{part:0<9}").parse().map_err(|_| wrong())?;
        in_range(Some(sign * (whole * NANO + part))).map_err(|OutOfRange| wrong())
    }
}

/// Reads the number's own text, so that `0.1` is a tenth.
impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Decimal, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = raw.get();
        let inner = text
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .unwrap_or(text);
        inner.parse().map_err(D::Error::custom)
    }
}

impl fmt::Display for NotANumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is not a decimal number such as 1833 or 0.5 with at most nine digits after the point",
            self.0
        )
    }
}

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number is beyond ±9.2e18")
    }
}

impl std::error::Error for NotANumber {}

impl std::error::Error for OutOfRange {}

impl From<OutOfRange> for Failure {
    fn from(error: OutOfRange) -> Failure {
        Failure::rejected("out-of-range", error.to_string())
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
        for text in ["0", "1833", "-0.5", "0.000000001", "9223372036854775807"] {
            let parts = crate::bindings::check::shoal::plugin::types::Decimal::from(decimal(text));
            assert_eq!(Decimal::from(parts), decimal(text));
            assert_eq!(decimal(text).to_string(), text);
        }
    }

    #[test]
    fn a_product_is_rounded_half_up_to_the_digits_of_the_currency() {
        for (a, b, digits, expected) in [
            ("3", "1833", 0, "5499"),
            ("0.5", "1", 0, "1"),
            ("0.499999999", "1", 0, "0"),
            ("1.005", "1", 2, "1.01"),
            ("-0.5", "1", 0, "-1"),
            ("2.5", "0.05", 2, "0.13"),
        ] {
            let product = decimal(a).multiply(decimal(b), digits).expect("in range");
            assert_eq!(product, decimal(expected), "{a} x {b} to {digits} digits");
        }
    }

    #[test]
    fn a_result_that_does_not_fit_is_refused() {
        let most = decimal("9223372036854775807");
        assert_eq!(most.add(decimal("1")), Err(OutOfRange));
        assert_eq!(most.multiply(decimal("2"), 0), Err(OutOfRange));
        assert_eq!(most.multiply(most, 0), Err(OutOfRange));
    }

    #[test]
    fn json_numbers_and_strings_are_read_as_text() {
        for (json, expected) in [
            ("1833", "1833"),
            ("\"0.1\"", "0.1"),
            ("0.1", "0.1"),
            ("0.123456789", "0.123456789"),
            ("9007199254740993", "9007199254740993"),
        ] {
            let read: Decimal = serde_json::from_str(json).expect(json);
            assert_eq!(read, decimal(expected), "{json}");
        }
        for json in [
            "true",
            "\"\"",
            "1e3",
            "0.1234567891",
            "\"-\"",
            "null",
            "[1]",
        ] {
            assert!(serde_json::from_str::<Decimal>(json).is_err(), "{json}");
        }
        let value = serde_json::json!("0.25");
        assert_eq!(
            serde_json::from_value::<Decimal>(value).expect("a number"),
            decimal("0.25")
        );
    }
}
