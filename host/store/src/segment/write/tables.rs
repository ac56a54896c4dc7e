//! The tables of a tenant whose series are all in memory: labels, kinds and units get their numbers.

use std::collections::{BTreeMap, HashMap};
use std::io;

use crate::codec::{put_text, put_varint};
use crate::segment::SeriesInput;
use crate::segment::postings::key;

/// Every label of the series, once, in the order of their keys.
pub(super) struct LabelTable<'a> {
    numbers: HashMap<(&'a str, &'a str), u32>,
    sorted: Vec<(&'a str, &'a str)>,
}

impl<'a> LabelTable<'a> {
    pub(super) fn of(series: &'a [SeriesInput]) -> LabelTable<'a> {
        let mut numbers: HashMap<(&str, &str), u32> = HashMap::new();
        for series in series {
            for label in &series.labels {
                numbers.insert((&label.name, &label.value), 0);
            }
        }
        let mut sorted: Vec<_> = numbers.keys().copied().collect();
        // By bytes of the whole key, which is not the same: one name may begin another.
        sorted.sort_by_cached_key(|(name, value)| key(name, value));
        for (label, number) in sorted.iter().zip(0..) {
            numbers.insert(*label, number);
        }
        LabelTable { numbers, sorted }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// The `fst` from labels to their numbers.
    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        let mut index = fst::MapBuilder::memory();
        for (number, (name, value)) in self.sorted.iter().enumerate() {
            index
                .insert(key(name, value), number as u64)
                .map_err(io::Error::other)?;
        }
        index.into_inner().map_err(io::Error::other)
    }

    pub(super) fn number(&self, label: (&str, &str)) -> u32 {
        self.numbers[&label]
    }

    pub(super) fn numbers(&self, series: &SeriesInput) -> Vec<u32> {
        let labels = series.labels.iter();
        labels
            .map(|label| self.number((&label.name, &label.value)))
            .collect()
    }
}

/// Every kind with its unit, once.
pub(super) struct MetaTable<'a> {
    numbers: BTreeMap<(u8, &'a str), u32>,
}

impl<'a> MetaTable<'a> {
    pub(super) fn of(series: &'a [SeriesInput]) -> MetaTable<'a> {
        let key = |series: &'a SeriesInput| (series.kind as u8, &*series.unit);
        let mut numbers: BTreeMap<_, u32> = series.iter().map(|series| (key(series), 0)).collect();
        for (number, meta) in numbers.values_mut().zip(0..) {
            *number = meta;
        }
        MetaTable { numbers }
    }

    pub(super) fn number(&self, series: &SeriesInput) -> u32 {
        self.numbers[&(series.kind as u8, &*series.unit)]
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let metas = self.numbers.keys();
        encode_metas(metas.map(|(kind, unit)| (*kind, *unit)))
    }
}

/// The table of kinds and units.
pub(crate) fn encode_metas<'a>(metas: impl ExactSizeIterator<Item = (u8, &'a str)>) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, metas.len() as u64);
    for (kind, unit) in metas {
        out.push(kind);
        put_text(&mut out, unit);
    }
    out
}
