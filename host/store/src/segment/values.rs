//! How one series' values are stored: a constant, decimals as integers, or floats; exactly, bit by bit.

/// The streams that values can be in; the times have one of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Stream {
    /// Times, in milliseconds.
    Times = 0,
    /// Integers best stored as they are.
    Integers0 = 1,
    /// Integers best stored as differences.
    Integers1 = 2,
    /// Integers best stored as differences of differences: steady counters.
    Integers2 = 3,
    /// What is not decimal.
    Floats = 4,
}

impl Stream {
    pub(crate) const ALL: [Stream; 5] = [
        Stream::Times,
        Stream::Integers0,
        Stream::Integers1,
        Stream::Integers2,
        Stream::Floats,
    ];

    /// How often differences are taken; `None` lets the encoder try.
    pub(crate) fn delta_order(self) -> Option<usize> {
        match self {
            Stream::Integers0 => Some(0),
            Stream::Integers1 => Some(1),
            Stream::Integers2 => Some(2),
            Stream::Times | Stream::Floats => None,
        }
    }
}

/// Values that no integer or smooth float stands for: stale markers and other NaNs, infinities, minus zero.
pub(crate) type Patches = Vec<(u32, u64)>;

/// One series' values, ready to be stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Classified {
    pub(crate) body: Body,
    /// Place and bits of the values that differ from the body.
    pub(crate) patches: Patches,
}

/// What the values are but for the patches.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Body {
    /// All the same; the bits.
    Constant(u64),
    /// Value × 10^exponent.
    Decimals {
        exponent: u8,
        stream: Stream,
        /// Series with like residuals share chunks; this is how large they are, in bits.
        residual_bits: u32,
        integers: Vec<i64>,
    },
    /// As they are.
    Floats(Vec<f64>),
}

/// 10^0 to 10^6, exact in an `f64`.
const POWERS_OF_TEN: [f64; 7] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6];

/// Below it every integer is an `f64`.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// The value of a decimal.
pub(crate) fn decimal_value(integer: i64, exponent: u8) -> Option<f64> {
    let power = POWERS_OF_TEN.get(usize::from(exponent))?;
    Some(integer as f64 / power)
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
            Some((exponent, integers)) => {
                let (stream, residual_bits) = delta_order(&integers);
                Body::Decimals {
                    exponent,
                    stream,
                    residual_bits,
                    integers,
                }
            }
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

/// The smallest exponent with which all values are integers, and these; checked bit by bit.
fn decimals(values: &[f64]) -> Option<(u8, Vec<i64>)> {
    let mut integers = Vec::with_capacity(values.len());
    'exponents: for (exponent, power) in (0u8..).zip(POWERS_OF_TEN) {
        integers.clear();
        for value in values {
            let scaled = (value * power).round_ties_even();
            if scaled.abs() >= EXACT_MAX {
                return None;
            }
            if (scaled / power).to_bits() != value.to_bits() {
                continue 'exponents;
            }
            integers.push(scaled as i64);
        }
        return Some((exponent, integers));
    }
    None
}

/// Samples at most this many places of a series to choose its stream.
const PROBES: usize = 256;

/// Which differences are smallest, and how many bits they need on average. Source: the clustered block of
/// `store-bench`, where sharing chunks this way took counters from 0.64 to 0.50 bytes a sample.
fn delta_order(integers: &[i64]) -> (Stream, u32) {
    let bits = |number: i64| match number {
        0 => 0,
        number => 65 - number.unsigned_abs().leading_zeros(),
    };
    if integers.len() < 3 {
        let widest = integers.iter().map(|number| bits(*number)).max();
        return (Stream::Integers0, 2 * widest.unwrap_or(0));
    }
    let middle = integers[integers.len() / 2];
    let step = (integers.len() / PROBES).max(1);
    let mut sums = [0u32; 3];
    let mut probes = 0;
    for at in (2..integers.len()).step_by(step) {
        let (now, before, earlier) = (integers[at], integers[at - 1], integers[at - 2]);
        let difference = now.wrapping_sub(before);
        sums[0] += bits(now.wrapping_sub(middle));
        sums[1] += bits(difference);
        sums[2] += bits(difference.wrapping_sub(before.wrapping_sub(earlier)));
        probes += 1;
    }
    let (stream, sum) = if sums[0] <= sums[1] && sums[0] <= sums[2] {
        (Stream::Integers0, sums[0])
    } else if sums[1] <= sums[2] + probes / 4 {
        (Stream::Integers1, sums[1])
    } else {
        (Stream::Integers2, sums[2])
    };
    (stream, 2 * sum / probes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::append::STALE_NAN_BITS;

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
        for (values, wanted) in [(&[1.0, 2.0, 9.0], 0), (&[0.25, 0.5, 1.0], 2)] {
            match body(values) {
                (Body::Decimals { exponent, .. }, 0) => assert_eq!(exponent, wanted),
                other => panic!("{values:?} became {other:?}"),
            }
        }
        for values in [[0.1 + 0.2, 1.0], [1e300, 1.0], [1e-7, 1.0]] {
            assert!(matches!(body(&values), (Body::Floats(_), 0)), "{values:?}");
        }
    }

    #[test]
    fn a_steady_counter_goes_to_the_second_differences() {
        let stream = |integers: Vec<i64>| delta_order(&integers).0;
        assert_eq!(
            stream((0..500).map(|n| n * 1_000).collect()),
            Stream::Integers2
        );
        let spikes = |n: i64| if n % 7 == 3 { 1000 } else { 0 };
        assert_eq!(stream((0..500).map(spikes).collect()), Stream::Integers0);
    }
}
