//! Samples in the order of their commits, with each series' samples chained backwards.
//!
//! Appending touches the ends of four vectors and one place per series; reading a series follows its chain; a
//! flush sorts once. A per-series vector would cost more memory and several times the time to append.

/// Marks the end of a chain.
const NONE: u32 = u32::MAX;

/// Bytes of memory that a sample takes.
pub(crate) const SAMPLE_BYTES: u64 = 4 + 8 + 8;

/// Samples of one tenant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns {
    times_ms: Vec<i64>,
    values: Vec<f64>,
    /// The sample of the same series before it.
    previous: Vec<u32>,
    /// By slot: the series' last sample.
    last: Vec<u32>,
    min_time_ms: i64,
    max_time_ms: i64,
}

impl Columns {
    pub(crate) fn len(&self) -> usize {
        self.times_ms.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.times_ms.is_empty()
    }

    /// Whether more samples than `u32` counts would be in it.
    pub(crate) fn has_room_for(&self, samples: usize) -> bool {
        self.len() + samples < NONE as usize
    }

    /// Whether any sample may lie in the range.
    pub(crate) fn overlaps(&self, from_ms: i64, to_ms: i64) -> bool {
        !self.is_empty() && self.min_time_ms <= to_ms && self.max_time_ms >= from_ms
    }

    /// Whether a series has samples.
    pub(crate) fn has(&self, slot: u32) -> bool {
        self.last_of(slot) != NONE
    }

    fn last_of(&self, slot: u32) -> u32 {
        self.last.get(slot as usize).copied().unwrap_or(NONE)
    }

    /// The slots that have samples, ascending.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> {
        (0u32..)
            .zip(&self.last)
            .filter(|(_, last)| **last != NONE)
            .map(|(slot, _)| slot)
    }

    pub(crate) fn push(&mut self, slot: u32, time_ms: i64, value: f64) {
        if self.last.len() <= slot as usize {
            self.last.resize(slot as usize + 1, NONE);
        }
        if self.is_empty() {
            (self.min_time_ms, self.max_time_ms) = (time_ms, time_ms);
        }
        self.min_time_ms = self.min_time_ms.min(time_ms);
        self.max_time_ms = self.max_time_ms.max(time_ms);
        let last = &mut self.last[slot as usize];
        self.previous.push(*last);
        *last = self.times_ms.len() as u32;
        self.times_ms.push(time_ms);
        self.values.push(value);
    }

    /// These samples and then later ones.
    pub(crate) fn followed_by(mut self, later: &Columns) -> Columns {
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for slot in later.slots() {
            later.read(slot, (i64::MIN, i64::MAX), &mut times, &mut values);
            for (time, value) in times.drain(..).zip(values.drain(..)) {
                self.push(slot, time, value);
            }
        }
        self
    }

    /// Appends a series' samples in the range to `times_ms` and `values`, in the order of their commits.
    pub(crate) fn read(
        &self,
        slot: u32,
        (from_ms, to_ms): (i64, i64),
        times_ms: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) {
        let begin = times_ms.len();
        let mut at = self.last_of(slot);
        while at != NONE {
            let time = self.times_ms[at as usize];
            if (from_ms..=to_ms).contains(&time) {
                times_ms.push(time);
                values.push(self.values[at as usize]);
            }
            at = self.previous[at as usize];
        }
        times_ms[begin..].reverse();
        values[begin..].reverse();
    }
}

/// Sorts samples that are in the order of their commits by time; of equal times the last stays.
pub(crate) fn sort_last_wins(times_ms: &mut Vec<i64>, values: &mut Vec<f64>) {
    if times_ms.is_sorted_by(|a, b| a < b) {
        return;
    }
    let mut order: Vec<u32> = (0..times_ms.len() as u32).collect();
    order.sort_by_key(|at| times_ms[*at as usize]);
    let mut sorted_times: Vec<i64> = Vec::with_capacity(order.len());
    let mut sorted_values = Vec::with_capacity(order.len());
    for at in order {
        let (time, value) = (times_ms[at as usize], values[at as usize]);
        if sorted_times.last() == Some(&time) {
            sorted_values.pop();
        } else {
            sorted_times.push(time);
        }
        sorted_values.push(value);
    }
    *times_ms = sorted_times;
    *values = sorted_values;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_reads_in_the_order_of_its_commits() {
        let mut columns = Columns::default();
        for (slot, time, value) in [(2, 20, 1.0), (0, 10, 2.0), (2, 10, 3.0), (2, 30, 4.0)] {
            columns.push(slot, time, value);
        }
        let (mut times, mut values) = (Vec::new(), Vec::new());
        columns.read(2, (0, 25), &mut times, &mut values);
        assert_eq!((times, values), (vec![20, 10], vec![1.0, 3.0]));
        assert_eq!(columns.slots().collect::<Vec<_>>(), [0, 2]);
        assert!(!columns.has(1) && !columns.has(7));
        assert!(columns.overlaps(30, 99) && !columns.overlaps(31, 99));

        let mut later = Columns::default();
        later.push(2, 10, 5.0);
        let columns = columns.followed_by(&later);
        let (mut times, mut values) = (Vec::new(), Vec::new());
        columns.read(2, (0, 10), &mut times, &mut values);
        assert_eq!((times, values), (vec![10, 10], vec![3.0, 5.0]));
    }

    #[test]
    fn of_equal_times_the_last_commit_stays() {
        let (mut times, mut values) = (vec![3, 1, 3, 2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0]);
        sort_last_wins(&mut times, &mut values);
        assert_eq!((times, values), (vec![1, 2, 3], vec![2.0, 4.0, 5.0]));
    }
}
