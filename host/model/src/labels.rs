//! Names and values that say what a series is about.

use std::fmt;
use std::sync::Arc;

/// The label that holds a series' metric name.
pub const METRIC_NAME: &str = "__name__";

/// One name-value pair.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label {
    /// Its name; not empty.
    pub name: Arc<str>,
    /// Its value; not empty (an empty value means that the label is absent).
    pub value: Arc<str>,
}

/// The identity of a series: labels sorted by name, each name once. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Arc<[Label]>);

impl Labels {
    /// Makes a set from pairs in any order. Pairs with an empty value are left out; of pairs with the
    /// same name the last one stays.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        Self::from_labels(
            pairs
                .into_iter()
                .map(|(name, value)| Label {
                    name: Arc::from(name.as_ref()),
                    value: Arc::from(value.as_ref()),
                })
                .collect(),
        )
    }

    /// Makes a set from labels in any order, under the rules of [`Labels::from_pairs`].
    pub fn from_labels(mut labels: Vec<Label>) -> Self {
        if !labels.is_sorted_by(|a, b| a.name < b.name) {
            labels.reverse();
            labels.sort_by(|a, b| a.name.cmp(&b.name));
            labels.dedup_by(|later, first| later.name == first.name);
        }
        labels.retain(|label| !label.value.is_empty());
        Self(labels.into())
    }

    /// The value of a label; `None` when it is absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self
            .0
            .binary_search_by(|label| (*label.name).cmp(name))
            .ok()?;
        Some(&self.0[at].value)
    }

    /// The metric name, if it has one.
    pub fn metric_name(&self) -> Option<&str> {
        self.get(METRIC_NAME)
    }

    /// The labels, sorted by name.
    pub fn iter(&self) -> std::slice::Iter<'_, Label> {
        self.0.iter()
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps the labels that `keep` likes.
    pub fn filtered(&self, keep: impl Fn(&str) -> bool) -> Labels {
        Self(
            self.0
                .iter()
                .filter(|label| keep(&label.name))
                .cloned()
                .collect(),
        )
    }

    /// The same set with one label put or, when `value` is empty, taken away.
    pub fn with(&self, name: &str, value: &str) -> Labels {
        let mut labels: Vec<Label> = self
            .0
            .iter()
            .filter(|label| &*label.name != name)
            .cloned()
            .collect();
        labels.push(Label {
            name: Arc::from(name),
            value: Arc::from(value),
        });
        Self::from_labels(labels)
    }

    /// A 128-bit fingerprint of the content, the same on every machine and release.
    pub fn fingerprint(&self) -> u128 {
        fingerprint(self.iter().map(|label| (&*label.name, &*label.value)))
    }
}

/// [`Labels::fingerprint`] of a set that is not made: pairs sorted by name, each name once, no value empty.
pub fn fingerprint<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> u128 {
    // In one piece: hashing piece by piece takes several times as long.
    let mut bytes = Vec::with_capacity(512);
    for (name, value) in pairs {
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0xff);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0xfe);
    }
    xxhash_rust::xxh3::xxh3_128(&bytes)
}

impl<'a> IntoIterator for &'a Labels {
    type Item = &'a Label;
    type IntoIter = std::slice::Iter<'a, Label>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// As PromQL writes it: `up{job="api"}`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric_name().unwrap_or_default())?;
        let mut rest = self
            .iter()
            .filter(|label| &*label.name != METRIC_NAME)
            .peekable();
        if rest.peek().is_none() && self.metric_name().is_some() {
            return Ok(());
        }
        f.write_str("{")?;
        for (at, label) in rest.enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{}={:?}", label.name, label.value)?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_does_not_depend_on_the_order_of_its_pairs() {
        let one = Labels::from_pairs([("b", "2"), ("a", "1"), ("c", "")]);
        let other = Labels::from_pairs([("a", "1"), ("b", "2")]);
        assert_eq!(one, other);
        assert_eq!(one.fingerprint(), other.fingerprint());
    }

    #[test]
    fn the_last_of_equal_names_stays() {
        assert_eq!(
            Labels::from_pairs([("a", "1"), ("a", "2")]).get("a"),
            Some("2")
        );
    }

    #[test]
    fn a_fingerprint_stays_what_it_was() {
        for count in [0, 1, 3, 100] {
            let pairs = (0..count).map(|at| (format!("name-{at}"), "value".repeat(at + 1)));
            let labels = Labels::from_pairs(pairs);
            let mut hasher = xxhash_rust::xxh3::Xxh3::new();
            for label in &labels {
                hasher.update(label.name.as_bytes());
                hasher.update(&[0xff]);
                hasher.update(label.value.as_bytes());
                hasher.update(&[0xfe]);
            }
            assert_eq!(labels.fingerprint(), hasher.digest128(), "{count} labels");
        }
    }

    #[test]
    fn labels_show_as_a_selector() {
        let labels = Labels::from_pairs([("__name__", "up"), ("job", "api")]);
        assert_eq!(labels.to_string(), r#"up{job="api"}"#);
        assert_eq!(labels.with("job", "").to_string(), "up");
    }
}
