//! Integers as small residuals: the values of a run or their differences about their middle, or second differences.
//!
//! A run carries what its residuals are relative to, so that it decodes alone and runs of different series can lie
//! side by side and share one set of `pco` tables.

use crate::codec::{Malformed, Reader, put_signed};

/// How often differences are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    /// Values less the middle one.
    Values = 0,
    /// What follows less what precedes, less the middle of these: a counter's steps about its rate.
    Differences = 1,
    /// Differences of differences: counters whose rate drifts.
    SecondDifferences = 2,
}

/// What a run's residuals are relative to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunHead {
    /// The middle, or the first value.
    base: i64,
    /// The middle of the differences; of second differences the first.
    slope: i64,
}

impl Order {
    pub(crate) fn from_number(number: u8) -> Option<Order> {
        [Order::Values, Order::Differences, Order::SecondDifferences]
            .get(usize::from(number))
            .copied()
    }

    /// Residuals of a run of so many values.
    pub(crate) fn residuals(self, values: usize) -> usize {
        values.saturating_sub(self as usize)
    }

    /// Appends a run's residuals; `run` is not empty.
    pub(crate) fn split(self, run: &[i64], residuals: &mut Vec<i64>) -> RunHead {
        let mut head = RunHead {
            base: run[0],
            slope: 0,
        };
        match self {
            Order::Values => {
                head.base = middle(run);
                residuals.extend(run.iter().map(|value| value.wrapping_sub(head.base)));
            }
            Order::Differences => {
                let begin = residuals.len();
                residuals.extend(run.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])));
                let differences = &mut residuals[begin..];
                head.slope = middle(differences);
                for difference in differences {
                    *difference = difference.wrapping_sub(head.slope);
                }
            }
            Order::SecondDifferences => {
                if let [first, second, ..] = run {
                    head.slope = second.wrapping_sub(*first);
                }
                residuals.extend(run.windows(3).map(|three| {
                    let before = three[1].wrapping_sub(three[0]);
                    three[2].wrapping_sub(three[1]).wrapping_sub(before)
                }));
            }
        }
        head
    }

    /// Puts a run's values into `values`, which is as long as the run; `residuals` as long as [`Order::residuals`] says.
    pub(crate) fn join(self, head: RunHead, residuals: &[i64], values: &mut [i64]) {
        match self {
            Order::Values => {
                for (value, residual) in values.iter_mut().zip(residuals) {
                    *value = residual.wrapping_add(head.base);
                }
            }
            Order::Differences => {
                let mut value = head.base;
                values[0] = value;
                for (out, residual) in values[1..].iter_mut().zip(residuals) {
                    value = value.wrapping_add(head.slope).wrapping_add(*residual);
                    *out = value;
                }
            }
            Order::SecondDifferences => {
                let mut value = head.base;
                let mut slope = head.slope;
                values[0] = value;
                let [_, rest @ ..] = values else { return };
                let slopes = std::iter::once(&0).chain(residuals);
                for (out, residual) in rest.iter_mut().zip(slopes) {
                    slope = slope.wrapping_add(*residual);
                    value = value.wrapping_add(slope);
                    *out = value;
                }
            }
        }
    }

    pub(crate) fn encode_head(self, head: RunHead, out: &mut Vec<u8>) {
        put_signed(out, head.base);
        if self != Order::Values {
            put_signed(out, head.slope);
        }
    }

    pub(crate) fn decode_head(self, reader: &mut Reader<'_>) -> Result<RunHead, Malformed> {
        Ok(RunHead {
            base: reader.signed()?,
            slope: match self {
                Order::Values => 0,
                Order::Differences | Order::SecondDifferences => reader.signed()?,
            },
        })
    }
}

/// Looks at this many places of a series at most to choose its order.
const PROBES: usize = 256;

/// The median, of long runs about the median; 0 when there are none.
fn middle(numbers: &[i64]) -> i64 {
    let mut some = [0; PROBES];
    let step = numbers.len().div_ceil(PROBES).max(1);
    let mut count = 0;
    for (some, number) in some.iter_mut().zip(numbers.iter().step_by(step)) {
        *some = *number;
        count += 1;
    }
    match count {
        0 => 0,
        count => *some[..count].select_nth_unstable(count / 2).1,
    }
}

/// The order with the smallest residuals, and how many half bits they need on average. Source: the clustered block of
/// `store-bench`, where series that share chunks this way took counters from 0.64 to 0.50 bytes a sample.
pub(crate) fn best_order(integers: &[i64]) -> (Order, u32) {
    let bits = |number: i64| match number {
        0 => 0,
        number => 65 - number.unsigned_abs().leading_zeros(),
    };
    if integers.len() < 3 {
        let spread = integers.last().zip(integers.first());
        let spread = spread.map_or(0, |(last, first)| last.wrapping_sub(*first));
        return (Order::Values, 2 * bits(spread));
    }
    let step = (integers.len() / PROBES).max(1);
    let places = || (2..integers.len()).step_by(step).take(PROBES);
    let mut differences = [0; PROBES];
    for (difference, at) in differences.iter_mut().zip(places()) {
        *difference = integers[at].wrapping_sub(integers[at - 1]);
    }
    let slope = middle(&differences[..places().count()]);
    let middle = middle(integers);
    let mut sums = [0u32; 3];
    let mut probes = 0;
    for at in places() {
        let (now, before, earlier) = (integers[at], integers[at - 1], integers[at - 2]);
        let difference = now.wrapping_sub(before);
        sums[0] += bits(now.wrapping_sub(middle));
        sums[1] += bits(difference.wrapping_sub(slope));
        sums[2] += bits(difference.wrapping_sub(before.wrapping_sub(earlier)));
        probes += 1;
    }
    let (order, sum) = if sums[0] <= sums[1] && sums[0] <= sums[2] {
        (Order::Values, sums[0])
    } else if sums[1] <= sums[2] {
        (Order::Differences, sums[1])
    } else {
        (Order::SecondDifferences, sums[2])
    };
    (order, 2 * sum / probes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_order_with_the_smallest_residuals_is_chosen() {
        let order = |integers: Vec<i64>| best_order(&integers).0;
        assert_eq!(
            order((0..500).map(|n| n * 1_000).collect()),
            Order::Differences
        );
        assert_eq!(
            order((0..500).map(|n| n * n * 1_000).collect()),
            Order::SecondDifferences
        );
        let spikes = |n: i64| if n % 7 == 3 { 1000 } else { 0 };
        assert_eq!(order((0..500).map(spikes).collect()), Order::Values);
        let mut total = 0;
        let mut uneven = |n: i64| {
            total += 1_000 + ((n * 2_654_435_761) >> 7) % 500;
            total
        };
        assert_eq!(
            order((0..500).map(&mut uneven).collect()),
            Order::Differences
        );
    }

    proptest! {
        #[test]
        fn any_run_comes_back_in_every_order(
            run in prop::collection::vec(prop_oneof![any::<i64>(), -9i64..9], 1..40),
        ) {
            for order in [Order::Values, Order::Differences, Order::SecondDifferences] {
                let mut residuals = Vec::new();
                let head = order.split(&run, &mut residuals);
                prop_assert_eq!(residuals.len(), order.residuals(run.len()));
                let mut bytes = Vec::new();
                order.encode_head(head, &mut bytes);
                let read = order.decode_head(&mut Reader::new(&bytes)).expect("whole");
                let mut values = vec![0; run.len()];
                order.join(read, &residuals, &mut values);
                prop_assert_eq!(&values, &run);
            }
        }
    }
}
