//! What the active series consist of, in steps: each looks at a bounded part, so that commits do not wait for the whole.

use std::ops::Bound;
use std::sync::Arc;

use roaring::RoaringBitmap;
use shoal_model::labels::{Labels, METRIC_NAME};

use super::TenantHead;

/// A label's value with how many series have it.
pub(crate) type ValueCount = (Arc<str>, u64);

impl TenantHead {
    /// How many active series a metric has.
    pub(crate) fn series_of_metric(&self, metric: &str) -> u64 {
        self.slots_of_metric(metric).map_or(0, RoaringBitmap::len)
    }

    /// The slots of a metric's series.
    pub(crate) fn slots_of_metric(&self, metric: &str) -> Option<&RoaringBitmap> {
        self.index.names.get(METRIC_NAME)?.get(metric)
    }

    /// The label of a series that is not there by which there are ever more series, and how many values it has: one
    /// whose value no series has, or else the one with the most values.
    pub(crate) fn growing_label<'a>(&self, labels: &'a Labels) -> Option<(&'a str, u64)> {
        let others = labels.iter().filter(|label| &*label.name != METRIC_NAME);
        let weighed = others.map(|label| {
            let values = self.index.names.get(&label.name);
            let is_new = values.is_none_or(|values| !values.contains_key(&label.value));
            let count = values.map_or(0, |values| values.len() as u64);
            ((is_new, count), &*label.name)
        });
        let ((_, count), name) = weighed.max_by_key(|(weight, _)| *weight)?;
        Some((name, count))
    }

    /// Every label's name, with how many values it has.
    pub(crate) fn label_names(&self) -> Vec<(Arc<str>, u64)> {
        let names = self.index.names.iter();
        names
            .map(|(name, values)| (name.clone(), values.len() as u64))
            .collect()
    }

    /// At most `max` of a label's values after one.
    pub(crate) fn values_after(
        &self,
        name: &str,
        after: Option<&Arc<str>>,
        max: usize,
    ) -> Vec<ValueCount> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let values = self.index.names.get(name).into_iter();
        let values =
            values.flat_map(|values| values.range::<Arc<str>, _>((from, Bound::Unbounded)));
        values
            .take(max)
            .map(|(value, slots)| (value.clone(), slots.len()))
            .collect()
    }

    /// The labels of the series with serial numbers from `serial` on, of at most `max` places from `slot` on; `None` when
    /// there are no more places.
    pub(crate) fn born_since(&self, serial: u64, slot: usize, max: usize) -> Option<Vec<Labels>> {
        if slot >= self.entries.len() {
            return None;
        }
        let places = self.entries[slot..].iter().take(max).flatten();
        let born = places.filter(|entry| entry.serial >= serial);
        Some(born.map(|entry| entry.labels.clone()).collect())
    }

    /// The serial numbers and labels of the series in some slots.
    pub(crate) fn labels_of(&self, slots: &[u32]) -> Vec<(u64, Labels)> {
        let entries = slots.iter().filter_map(|slot| self.entry(*slot));
        entries
            .map(|entry| (entry.serial, entry.labels.clone()))
            .collect()
    }
}
