//! Sums, means and spreads that keep small values beside large ones, with the same operations in the same order as
//! Prometheus, so that results are equal to the last bit.

/// A sum with Neumaier's compensation. Source: A. Neumaier, "Rundungsfehleranalyse einiger Verfahren zur Summation
/// endlicher Summen", 1974.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
    sum: f64,
    compensation: f64,
}

impl Sum {
    pub(crate) fn add(&mut self, value: f64) {
        let total = self.sum + value;
        if total.is_infinite() {
            self.compensation = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.compensation += (self.sum - total) + value;
        } else {
            self.compensation += (value - total) + self.sum;
        }
        self.sum = total;
    }

    pub(crate) fn value(&self) -> f64 {
        match self.sum.is_infinite() {
            true => self.sum,
            false => self.sum + self.compensation,
        }
    }
}

/// A mean: a sum divided by the count, or, once the sum does not fit into a number, a mean corrected by each value.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mean {
    count: f64,
    /// The sum, or the mean once it is incremental.
    sum: Sum,
    is_incremental: bool,
}

impl Mean {
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.sum.sum = value;
            return;
        }
        if !self.is_incremental {
            let mut sum = self.sum;
            sum.add(value);
            if !sum.sum.is_infinite() {
                self.sum = sum;
                return;
            }
            self.is_incremental = true;
            self.sum.sum /= self.count - 1.0;
            self.sum.compensation /= self.count - 1.0;
        }
        let part = (self.count - 1.0) / self.count;
        let mut mean = Sum {
            sum: part * self.sum.sum,
            compensation: part * self.sum.compensation,
        };
        mean.add(value / self.count);
        self.sum = mean;
    }

    pub(crate) fn value(&self) -> f64 {
        match self.is_incremental {
            true => self.sum.sum + self.sum.compensation,
            false => self.sum.sum / self.count + self.sum.compensation / self.count,
        }
    }
}

/// The spread of a group's values. Source: B. P. Welford, "Note on a method for calculating corrected sums of squares
/// and products", 1962.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Welford {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Welford {
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.mean = value;
            self.squares = if value.is_finite() { 0.0 } else { f64::NAN };
            return;
        }
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
    }

    pub(crate) fn stdvar(&self) -> f64 {
        self.squares / self.count
    }

    pub(crate) fn stddev(&self) -> f64 {
        self.stdvar().sqrt()
    }
}

/// The variance of a window's values: Welford's method with compensated sums.
pub(crate) fn variance(values: &[f64]) -> f64 {
    let mut count = 0.0;
    let mut mean = Sum::default();
    let mut squares = Sum::default();
    for value in values {
        count += 1.0;
        let delta = value - (mean.sum + mean.compensation);
        mean.add(delta / count);
        squares.add(delta * (value - (mean.sum + mean.compensation)));
    }
    (squares.sum + squares.compensation) / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_value_survives_between_large_ones() {
        let mut sum = Sum::default();
        for value in [1.0, 1e100, 1.0, -1e100] {
            sum.add(value);
        }
        assert_eq!(sum.value(), 2.0);
    }

    #[test]
    fn a_mean_of_values_whose_sum_overflows_is_finite() {
        let mut mean = Mean::default();
        for _ in 0..4 {
            mean.add(1e308);
        }
        assert_eq!(mean.value(), 1e308);
    }

    #[test]
    fn equal_values_have_no_spread() {
        assert_eq!(variance(&[1.5990505637277868; 3]), 0.0);
    }
}
