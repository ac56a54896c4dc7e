//! How one column's values are stored: a constant, decimals as integers, or floats; exactly, bit by bit.

use super::integers::{Order, best_order};
use crate::append::STALE_NAN_BITS;
use crate::codec::{Malformed, Reader, put_varint};

/// Place and bits of values that no integer or smooth float stands for: stale markers and other NaNs, infinities,
/// minus zero.
pub(crate) type Patches = Vec<(u32, u64)>;

/// One column's values, ready to be stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Classified {
    pub(crate) body: Body,
    /// The values that differ from the body.
    pub(crate) patches: Patches,
}

/// What the values are but for the patches.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Body {
    /// All the same; the bits.
    Constant(u64),
    /// Decimals.
    Integers(Integers),
    /// As they are.
    Floats(Vec<f64>),
}

/// A column of integers with what makes them small.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Integers {
    pub(crate) scale: Scale,
    pub(crate) order: Order,
    /// Columns with like residuals share chunks; this is how large they are, in half bits.
    pub(crate) residual_bits: u32,
    pub(crate) steps: Vec<i64>,
}

/// The value of a step: (`first` + `factor` · step) / 10^`exponent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scale {
    pub(crate) exponent: u8,
    /// At least 1.
    pub(crate) factor: i64,
    pub(crate) first: i64,
}

/// 10^0 to 10^12, exact in an `f64`: nanoseconds are 10^-9 s, and few senders are finer.
const POWERS_OF_TEN: [f64; 13] = [
    1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12,
];

/// Below it every integer is an `f64`.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
/// Adding and subtracting it rounds numbers below a quarter of [`EXACT_MAX`], in two instructions everywhere.
const ROUNDER: f64 = 0.75 * EXACT_MAX;

impl Scale {
    /// Finds what all integers have in common. `integers` is not empty.
    fn of(integers: &[i64], exponent: u8) -> Scale {
        let first = integers[0];
        let mut factor = 0u64;
        for integer in integers {
            let step = integer.wrapping_sub(first).unsigned_abs();
            if factor == 0 || step % factor != 0 {
                factor = greatest_common_divisor(factor, step);
                if factor == 1 {
                    break;
                }
            }
        }
        Scale {
            exponent,
            factor: i64::try_from(factor).unwrap_or(1).max(1),
            first,
        }
    }

    pub(crate) fn is_known(self) -> bool {
        usize::from(self.exponent) < POWERS_OF_TEN.len() && self.factor > 0
    }

    fn integer(self, step: i64) -> i64 {
        step.wrapping_mul(self.factor).wrapping_add(self.first)
    }

    /// Appends the values of steps; an exponent that is not [`Scale::is_known`] counts as none.
    pub(crate) fn extend_floats(self, steps: &[i64], out: &mut Vec<f64>) {
        match POWERS_OF_TEN.get(usize::from(self.exponent)) {
            Some(power) if self.exponent > 0 => {
                out.extend(steps.iter().map(|step| self.integer(*step) as f64 / power));
            }
            _ => out.extend(steps.iter().map(|step| self.integer(*step) as f64)),
        }
    }
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn scaled(mut integers: Vec<i64>, exponent: u8) -> Integers {
    let scale = Scale::of(&integers, exponent);
    for integer in &mut integers {
        *integer = integer.wrapping_sub(scale.first);
        if scale.factor != 1 {
            *integer /= scale.factor;
        }
    }
    let (order, residual_bits) = best_order(&integers);
    Integers {
        scale,
        order,
        residual_bits,
        steps: integers,
    }
}

/// Decides how values are stored. `values` is not empty.
pub(crate) fn classify(mut values: Vec<f64>) -> Classified {
    if let Some(bits) = constant(&values) {
        return Classified {
            body: Body::Constant(bits),
            patches: Vec::new(),
        };
    }
    let patches = take_special(&mut values);
    let body = match constant(&values) {
        Some(bits) => Body::Constant(bits),
        None => match decimals(&values) {
            Some((exponent, integers)) => Body::Integers(scaled(integers, exponent)),
            None => Body::Floats(values),
        },
    };
    Classified { body, patches }
}

fn constant(values: &[f64]) -> Option<u64> {
    let first = values.first()?.to_bits();
    values
        .iter()
        .all(|value| value.to_bits() == first)
        .then_some(first)
}

/// Moves special values into patches and puts their neighbours in their place.
fn take_special(values: &mut [f64]) -> Patches {
    let is_special = |value: f64| !value.is_finite() || value.to_bits() == (-0.0f64).to_bits();
    let mut patches = Vec::new();
    let ordinary = values.iter().copied().find(|value| !is_special(*value));
    let mut last = ordinary.unwrap_or(0.0);
    for (at, value) in values.iter_mut().enumerate() {
        if is_special(*value) {
            patches.push((at as u32, value.to_bits()));
            *value = last;
        }
        last = *value;
    }
    patches
}

/// A value's integer with an exponent, if it is exactly that; checked bit by bit.
#[inline]
fn decimal(value: f64, power: f64) -> Option<i64> {
    let scaled = value * power;
    let integer = if scaled.abs() < EXACT_MAX / 4.0 {
        (scaled + ROUNDER - ROUNDER) as i64
    } else if scaled.abs() < EXACT_MAX {
        scaled.round_ties_even() as i64
    } else {
        return None;
    };
    ((integer as f64 / power).to_bits() == value.to_bits()).then_some(integer)
}

/// A value as a decimal with the smallest exponent that is exact.
pub(crate) fn shortest_decimal(value: f64) -> Option<(u8, i64)> {
    (0u8..)
        .zip(POWERS_OF_TEN)
        .find_map(|(exponent, power)| Some((exponent, decimal(value, power)?)))
}

/// The float of a decimal.
pub(crate) fn decimal_value(exponent: u8, integer: i64) -> Option<f64> {
    let power = POWERS_OF_TEN.get(usize::from(exponent))?;
    Some(integer as f64 / power)
}

/// Looks at so many values before all are tried with an exponent.
const PROBES: usize = 16;

/// The smallest exponent with which all values are integers, and these.
fn decimals(values: &[f64]) -> Option<(u8, Vec<i64>)> {
    // What is exact with one exponent is exact with larger ones, but for its size: so the exponent only grows.
    let mut exponent = 0;
    for value in values.iter().step_by(values.len().div_ceil(PROBES)) {
        exponent = exponent_of(*value, exponent)?;
    }
    let mut integers = Vec::with_capacity(values.len());
    loop {
        let power = POWERS_OF_TEN[exponent];
        integers.clear();
        let exact = values.iter().map_while(|value| decimal(*value, power));
        integers.extend(exact);
        match values.get(integers.len()) {
            None => return Some((exponent as u8, integers)),
            // Too large, when no larger exponent will do.
            Some(value) => exponent = exponent_of(*value, exponent + 1)?,
        }
    }
}

/// The smallest exponent, from one on, with which a value is an integer.
fn exponent_of(value: f64, from: usize) -> Option<usize> {
    (from..POWERS_OF_TEN.len()).find(|exponent| decimal(value, POWERS_OF_TEN[*exponent]).is_some())
}

/// Patches as bytes: the stale marker, which is nearly all of them, takes a byte or two.
pub(crate) fn encode_patches(patches: &Patches, out: &mut Vec<u8>) {
    put_varint(out, patches.len() as u64);
    let mut before = 0;
    for (at, bits) in patches {
        let is_other = *bits != STALE_NAN_BITS;
        put_varint(out, u64::from(at - before) << 1 | u64::from(is_other));
        if is_other {
            out.extend_from_slice(&bits.to_le_bytes());
        }
        before = *at;
    }
}

pub(crate) fn decode_patches(reader: &mut Reader<'_>) -> Result<Patches, Malformed> {
    let mut patches = Vec::new();
    let mut at = 0u32;
    for _ in 0..reader.len(1)? {
        let number = reader.varint()?;
        at = u32::try_from(number >> 1)
            .ok()
            .and_then(|step| at.checked_add(step))
            .ok_or(Malformed("a patch is out of range"))?;
        let bits = match number & 1 {
            0 => STALE_NAN_BITS,
            _ => reader.u64()?,
        };
        patches.push((at, bits));
    }
    Ok(patches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn body(values: &[f64]) -> (Body, usize) {
        let classified = classify(values.to_vec());
        (classified.body, classified.patches.len())
    }

    #[test]
    fn values_are_stored_in_the_smallest_exact_way() {
        let stale = f64::from_bits(STALE_NAN_BITS);
        assert_eq!(body(&[0.1; 3]), (Body::Constant(0.1f64.to_bits()), 0));
        assert_eq!(body(&[stale, stale]), (Body::Constant(STALE_NAN_BITS), 0));
        assert_eq!(
            body(&[2.0, stale, 2.0, -0.0]),
            (Body::Constant(2.0f64.to_bits()), 2)
        );
        assert_eq!(body(&[-0.0, f64::INFINITY]), (Body::Constant(0), 2));
        for (values, wanted) in [
            (&[1.0, 2.0, 9.0], 0),
            (&[0.25, 0.5, 1.0], 2),
            (&[1e-9, 0.5, 7.0], 9),
        ] {
            match body(values) {
                (Body::Integers(integers), 0) => assert_eq!(integers.scale.exponent, wanted),
                other => panic!("{values:?} became {other:?}"),
            }
        }
        for values in [[0.1 + 0.2, 1.0], [1e300, 1.0], [1e-13, 1.0]] {
            assert!(matches!(body(&values), (Body::Floats(_), 0)), "{values:?}");
        }
    }

    #[test]
    fn what_all_values_are_a_multiple_of_is_taken_out() {
        let (Body::Integers(integers), _) = body(&[8192.0, 4096.0, 20480.0, 8192.0]) else {
            panic!("they are integers");
        };
        assert_eq!(integers.scale.factor, 4096);
        assert_eq!(integers.steps, [0, -1, 3, 0]);
        let mut back = Vec::new();
        integers.scale.extend_floats(&integers.steps, &mut back);
        assert_eq!(back, [8192.0, 4096.0, 20480.0, 8192.0]);
    }

    #[test]
    fn patches_survive_a_trip_through_bytes() {
        let patches = vec![(0, STALE_NAN_BITS), (7, 1), (u32::MAX, STALE_NAN_BITS)];
        let mut bytes = Vec::new();
        encode_patches(&patches, &mut bytes);
        assert_eq!(bytes.len(), 1 + 1 + 1 + 8 + 5);
        assert_eq!(decode_patches(&mut Reader::new(&bytes)), Ok(patches));
    }
}
