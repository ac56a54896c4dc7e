//! The head's inverted index: label names and values to series.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;

use roaring::RoaringBitmap;
use shoal_model::labels::{Label, Labels};

use crate::postings::LabelIndex;

/// Which slots have which labels.
#[derive(Debug, Default)]
pub(crate) struct HeadIndex {
    all: RoaringBitmap,
    pub(super) names: HashMap<Arc<str>, BTreeMap<Arc<str>, RoaringBitmap>>,
}

impl HeadIndex {
    /// Adds a series; returns its labels with texts shared between series.
    pub(crate) fn insert(&mut self, slot: u32, labels: &Labels) -> Labels {
        self.all.insert(slot);
        let shared = labels.iter().map(|label| self.insert_label(slot, label));
        Labels::from_labels(shared.collect())
    }

    fn insert_label(&mut self, slot: u32, label: &Label) -> Label {
        let name = match self.names.get_key_value(&label.name) {
            Some((name, _)) => name.clone(),
            None => label.name.clone(),
        };
        let values = self.names.entry(name.clone()).or_default();
        let value = match values.get_key_value(&label.value) {
            Some((value, _)) => value.clone(),
            None => label.value.clone(),
        };
        values.entry(value.clone()).or_default().insert(slot);
        Label { name, value }
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
