//! The labels, kinds and units of several segments under common numbers.
//!
//! Labels are numbered by their keys in the `fst`, as every segment has them. That is not the order of
//! [`shoal_model::labels::Labels`] where one name begins another, so each has a rank too: series whose labels compare
//! by rank come in the order of their labels, and no text has to be looked at.

use std::collections::BTreeMap;
use std::ops::Range;

use fst::Streamer as _;
use shoal_model::labels::METRIC_NAME;

use super::CompactError;
use super::Source;
use crate::codec::Malformed;
use crate::segment::postings::split_key;
use crate::segment::write::encode_metas;

/// The tables of what is being written.
pub(super) struct Symbols {
    /// From labels to their numbers.
    pub(super) index: Vec<u8>,
    /// By source, the rank of each label; what is not used has [`UNUSED`].
    pub(super) ranks: Vec<Vec<u32>>,
    /// By rank, the number.
    pub(super) numbers: Vec<u32>,
    /// Ranks of the labels that are metric names.
    pub(super) metric_names: Range<u32>,
    /// By source, the number of each kind and unit.
    pub(super) metas: Vec<Vec<u32>>,
    pub(super) encoded_metas: Vec<u8>,
}

/// The rank of a label that no series has.
const UNUSED: u32 = u32::MAX;

/// The labels that begin with one name.
struct NameGroup {
    name: String,
    numbers: Range<u32>,
}

impl Symbols {
    /// Unites the labels of the sources that `used` has, by source and number.
    pub(super) fn unite(
        sources: &[Source<'_>],
        used: &[Vec<bool>],
    ) -> Result<Symbols, CompactError> {
        let mut ranks: Vec<Vec<u32>> = used.iter().map(|used| vec![UNUSED; used.len()]).collect();
        let mut groups: Vec<NameGroup> = Vec::new();
        let mut builder = fst::MapBuilder::memory();
        let mut all = fst::map::OpBuilder::new();
        for source in sources {
            all.push(source.reader.index.postings.labels.stream());
        }
        let mut all = all.union();
        let mut next = 0;
        let failed = |error| CompactError::Symbols(std::io::Error::other(error));
        while let Some((key, places)) = all.next() {
            let is_used = |place: &fst::map::IndexedValue| used[place.index][place.value as usize];
            if !places.iter().any(is_used) {
                continue;
            }
            builder.insert(key, u64::from(next)).map_err(failed)?;
            for place in places {
                ranks[place.index][place.value as usize] = next;
            }
            let (name, _) = split_key(key).map_err(|Malformed(why)| failed(fst_error(why)))?;
            match groups.last_mut() {
                Some(group) if group.name == name => group.numbers.end += 1,
                _ => groups.push(NameGroup {
                    name: name.to_owned(),
                    numbers: next..next + 1,
                }),
            }
            next += 1;
        }
        let index = builder.into_inner().map_err(failed)?;
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        let numbers: Vec<u32> = groups
            .iter()
            .flat_map(|group| group.numbers.clone())
            .collect();
        let mut rank_of = vec![UNUSED; numbers.len()];
        for (rank, number) in (0u32..).zip(&numbers) {
            rank_of[*number as usize] = rank;
        }
        for number in ranks.iter_mut().flatten().filter(|rank| **rank != UNUSED) {
            *number = rank_of[*number as usize];
        }
        let (metas, encoded_metas) = unite_metas(sources);
        Ok(Symbols {
            index,
            ranks,
            metric_names: metric_names(&groups),
            numbers,
            metas,
            encoded_metas,
        })
    }
}

fn fst_error(why: &'static str) -> fst::Error {
    fst::Error::Io(std::io::Error::other(why))
}

/// Which ranks are those of metric names. `groups` are in the order of their names.
fn metric_names(groups: &[NameGroup]) -> Range<u32> {
    let mut first = 0;
    for group in groups {
        let len = group.numbers.len() as u32;
        if group.name == METRIC_NAME {
            return first..first + len;
        }
        first += len;
    }
    0..0
}

fn unite_metas(sources: &[Source<'_>]) -> (Vec<Vec<u32>>, Vec<u8>) {
    let of = |source: &Source<'_>| {
        let metas = source.reader.index.metas.iter();
        metas
            .map(|meta| (meta.kind as u8, meta.unit.clone()))
            .collect::<Vec<_>>()
    };
    let mut all: BTreeMap<_, u32> = sources.iter().flat_map(of).map(|meta| (meta, 0)).collect();
    for (number, meta) in (0..).zip(all.values_mut()) {
        *meta = number;
    }
    let numbers = sources
        .iter()
        .map(|source| of(source).iter().map(|meta| all[meta]).collect());
    let encoded = encode_metas(all.keys().map(|(kind, unit)| (*kind, &**unit)));
    (numbers.collect(), encoded)
}
