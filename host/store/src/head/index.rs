//! The head's inverted index: label names and values to series.
//!
//! Series enter one by one, or in bulk through an [`IndexBuilder`]; both give the same index.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

use roaring::RoaringBitmap;
use shoal_model::labels::{Label, Labels};

use crate::postings::LabelIndex;

/// Which slots have which labels.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct HeadIndex {
    all: RoaringBitmap,
    pub(super) names: HashMap<Arc<str>, BTreeMap<Arc<str>, RoaringBitmap>>,
}

impl HeadIndex {
    /// Adds a series; returns its labels with texts shared between series.
    pub(crate) fn insert(&mut self, slot: u32, labels: &Labels) -> Labels {
        self.all.insert(slot);
        let mut shared = Vec::with_capacity(labels.len());
        for label in labels {
            let label = self.shared(&label.name, &label.value);
            self.insert_range(&label, slot..slot + 1);
            shared.push(label);
        }
        Labels::from_labels(shared)
    }

    /// A label whose texts all series share; it has a place in the index from here on.
    fn shared(&mut self, name: &str, value: &str) -> Label {
        let name = match self.names.get_key_value(name) {
            Some((name, _)) => name.clone(),
            None => Arc::from(name),
        };
        let values = self.names.entry(name.clone()).or_default();
        let value = match values.get_key_value(value) {
            Some((value, _)) => value.clone(),
            None => {
                let value: Arc<str> = Arc::from(value);
                values.insert(value.clone(), RoaringBitmap::new());
                value
            }
        };
        Label { name, value }
    }

    /// Adds series to a label that has a place in the index.
    fn insert_range(&mut self, label: &Label, slots: Range<u32>) {
        let values = self.names.get_mut(&label.name);
        if let Some(series) = values.and_then(|values| values.get_mut(&label.value)) {
            series.insert_range(slots);
        }
    }

    /// Takes a series away.
    pub(crate) fn remove(&mut self, slot: u32, labels: &Labels) {
        self.all.remove(slot);
        for label in labels {
            let Some(values) = self.names.get_mut(&label.name) else {
                continue;
            };
            if let Some(slots) = values.get_mut(&label.value) {
                slots.remove(slot);
                if slots.is_empty() {
                    values.remove(&label.value);
                }
            }
            if values.is_empty() {
                self.names.remove(&label.name);
            }
        }
    }
}

/// Makes an index of series that come one after the other. Neighbours mostly share labels (they are of one sender), so
/// it looks a label up when it differs from its neighbour's, and enters all that shared it as one range.
#[derive(Debug, Default)]
pub(crate) struct IndexBuilder {
    index: HeadIndex,
    /// Where the neighbours begin, and the slot that would be the next of them.
    slots: Range<u32>,
    /// The labels of the last series, each with the slot from which on all had it in this place.
    runs: Vec<(Label, u32)>,
}

impl IndexBuilder {
    /// [`HeadIndex::insert`] of labels that are sorted by name, each name once, no value empty.
    pub(crate) fn insert(&mut self, slot: u32, labels: &[(&str, &str)]) -> Labels {
        if slot != self.slots.end {
            self.enter();
            self.slots = slot..slot;
        }
        for (label, from) in self.runs.drain(labels.len().min(self.runs.len())..) {
            self.index.insert_range(&label, from..slot);
        }
        for (at, (name, value)) in labels.iter().enumerate() {
            match self.runs.get_mut(at) {
                Some((label, _)) if *label.value == **value && *label.name == **name => {}
                Some(run) => {
                    self.index.insert_range(&run.0, run.1..slot);
                    *run = (self.index.shared(name, value), slot);
                }
                None => self.runs.push((self.index.shared(name, value), slot)),
            }
        }
        self.slots.end = slot + 1;
        Labels::from_labels(self.runs.iter().map(|(label, _)| label.clone()).collect())
    }

    /// [`HeadIndex::remove`].
    pub(crate) fn remove(&mut self, slot: u32, labels: &Labels) {
        self.enter();
        self.index.remove(slot, labels);
    }

    /// The index, its sets as if they had grown one by one: sets of ranges are small only until they are changed.
    pub(crate) fn finish(mut self) -> HeadIndex {
        self.enter();
        let index = &mut self.index;
        let sets = index.names.values_mut().flat_map(BTreeMap::values_mut);
        for set in sets.chain([&mut index.all]) {
            set.remove_run_compression();
        }
        self.index
    }

    /// Enters what the neighbours share; who comes next has none.
    fn enter(&mut self) {
        let slots = std::mem::take(&mut self.slots);
        for (label, from) in self.runs.drain(..) {
            self.index.insert_range(&label, from..slots.end);
        }
        self.index.all.insert_range(slots);
    }
}

impl LabelIndex for HeadIndex {
    type Error = Infallible;

    fn all(&self) -> Result<RoaringBitmap, Infallible> {
        Ok(self.all.clone())
    }

    fn with_value(&self, name: &str, value: &str) -> Result<RoaringBitmap, Infallible> {
        let found = self.names.get(name).and_then(|values| values.get(value));
        Ok(found.cloned().unwrap_or_default())
    }

    fn with_values(
        &self,
        name: &str,
        is_wanted: &mut dyn FnMut(&str) -> bool,
    ) -> Result<RoaringBitmap, Infallible> {
        let mut found = RoaringBitmap::new();
        for (value, slots) in self.names.get(name).into_iter().flatten() {
            if is_wanted(value) {
                found |= slots;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matcher::{MatchOp, Matcher};
    use crate::postings::matching;

    #[test]
    fn matchers_select_as_a_scan_would() {
        let series = [
            Labels::from_pairs([("__name__", "up"), ("job", "api")]),
            Labels::from_pairs([("__name__", "up"), ("job", "web"), ("zone", "b")]),
            Labels::from_pairs([("__name__", "down"), ("zone", "a")]),
            Labels::default(),
        ];
        let mut index = HeadIndex::default();
        for (slot, labels) in (0..).zip(&series) {
            index.insert(slot, labels);
        }
        index.insert(4, &series[0]);
        index.remove(4, &series[0]);
        for op in [
            MatchOp::Equal,
            MatchOp::NotEqual,
            MatchOp::Regex,
            MatchOp::NotRegex,
        ] {
            for value in ["", "api", ".+", ".*", "a.*|web", "up"] {
                for name in ["__name__", "job", "zone", "absent"] {
                    let matcher = Matcher::new(name, op, value).expect("a good pattern");
                    let wanted: Vec<u32> = (0..)
                        .zip(&series)
                        .filter(|(_, labels)| matcher.matches(labels.get(name).unwrap_or("")))
                        .map(|(slot, _)| slot)
                        .collect();
                    let Ok(found) = matching(&index, std::slice::from_ref(&matcher));
                    assert_eq!(found.iter().collect::<Vec<_>>(), wanted, "{matcher}");
                }
            }
        }
    }
}
