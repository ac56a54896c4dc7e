//! The head: one tenant's active series and the samples that are not yet in a segment.
//!
//! Invariants:
//! 1. A slot is given to another series only when its series has no sample in the head and no append under way
//!    names it ([`TenantHead::evict`]); so a slot means one series wherever its samples are.
//! 2. Samples are applied in the order of the log, so that replaying the log gives the same head ([`replay`]).
//! 3. [`TenantHead::freeze`] splits the samples at a commit; the frozen part does not change until it is in a segment.

mod cardinality;
pub(crate) mod columns;
pub(crate) mod index;
pub(crate) mod replay;

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use shoal_model::Timestamp;
use shoal_model::labels::Labels;
use shoal_model::telemetry::MetricKind;
use shoal_model::time::Hour;
use shoal_model::usage::{Owner, Usage};

use crate::log::record::{Definition, Record};
use crate::matcher::Matcher;
use crate::postings::matching;
use crate::series::{SeriesMeta, SeriesRef};
use columns::Columns;
use index::HeadIndex;

/// Series that one tenant's table can hold: far beyond what memory allows, and small enough that damage is noticed
/// before it becomes an allocation.
pub(crate) const SLOTS_MAX: u32 = 1 << 26;

/// No hour: nothing was counted yet.
const NEVER: i64 = i64::MIN;

/// One tenant's active series and recent samples.
#[derive(Debug, Default)]
pub(crate) struct TenantHead {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    by_fingerprint: HashMap<u128, u32>,
    index: HeadIndex,
    owners: HashMap<Option<Owner>, Arc<OwnerState>>,
    active: Columns,
    frozen: Option<Arc<Columns>>,
}

/// An active series.
#[derive(Debug)]
pub(crate) struct Entry {
    serial: u64,
    fingerprint: u128,
    pub(crate) labels: Labels,
    pub(crate) kind: MetricKind,
    pub(crate) unit: Arc<str>,
    owner: Arc<OwnerState>,
    /// The epoch of the log in which the series is defined; see [`crate::store`].
    logged_epoch: Option<u64>,
    /// The latest hour in which it was counted as usage.
    counted_hour: i64,
    /// The turn of the last append that names it; see [`TenantHead::evict`].
    touched_turn: AtomicU64,
    last_received: AtomicI64,
}

/// Shared by the series of one owner.
#[derive(Debug)]
pub(crate) struct OwnerState {
    /// `None` for series that nobody pays for.
    owner: Option<Owner>,
    counted_hour: AtomicI64,
}

/// What a record has to carry beside its samples.
#[derive(Debug, Default)]
pub(crate) struct Additions {
    pub(crate) definitions: Vec<Definition>,
    pub(crate) usage: Vec<Usage>,
    pub(crate) counted: Vec<Counted>,
}

/// A series whose usage is in a record, and for whom: its owner may have changed when the record is durable.
#[derive(Debug)]
pub(crate) struct Counted {
    slot: u32,
    owner: Arc<OwnerState>,
}

/// A series that matches, as of one moment.
pub(crate) struct HeadSeries {
    pub(crate) series: SeriesRef,
    pub(crate) fingerprint: u128,
    pub(crate) labels: Labels,
    pub(crate) kind: MetricKind,
    pub(crate) unit: Arc<str>,
}

impl TenantHead {
    /// Series that count against the limit.
    pub(crate) fn series_count(&self) -> usize {
        self.by_fingerprint.len()
    }

    /// Samples in memory.
    pub(crate) fn sample_count(&self) -> usize {
        self.active.len() + self.frozen.as_ref().map_or(0, |frozen| frozen.len())
    }

    /// Whether that many samples can be added before the next flush.
    pub(crate) fn has_room_for(&self, samples: usize) -> bool {
        self.active.has_room_for(samples)
    }

    /// The series with a fingerprint, if its meta is as given: needs no exclusive access.
    pub(crate) fn find(&self, fingerprint: u128, meta: &SeriesMeta) -> Option<SeriesRef> {
        let slot = *self.by_fingerprint.get(&fingerprint)?;
        let entry = self.entry(slot)?;
        let is_same =
            entry.kind == meta.kind && entry.unit == meta.unit && entry.owner.owner == meta.owner;
        is_same.then_some(SeriesRef {
            slot,
            serial: entry.serial,
        })
    }

    /// Whether a series with a fingerprint is active.
    pub(crate) fn contains(&self, fingerprint: u128) -> bool {
        self.by_fingerprint.contains_key(&fingerprint)
    }

    /// Finds or makes a series and sets its meta. `serial` is used when it is new.
    pub(crate) fn define(
        &mut self,
        labels: &Labels,
        fingerprint: u128,
        meta: SeriesMeta,
        serial: u64,
        now: Timestamp,
    ) -> SeriesRef {
        if let Some(slot) = self.by_fingerprint.get(&fingerprint).copied() {
            let owner = self.owner(meta.owner);
            let entry = self.entries[slot as usize]
                .as_mut()
                .expect("fingerprints name occupied slots");
            entry.set_meta(meta.kind, meta.unit, owner);
            return SeriesRef {
                slot,
                serial: entry.serial,
            };
        }
        let slot = self.free.pop().unwrap_or(self.entries.len() as u32);
        self.insert(slot, labels, fingerprint, meta, serial, now);
        SeriesRef { slot, serial }
    }

    fn insert(
        &mut self,
        slot: u32,
        labels: &Labels,
        fingerprint: u128,
        meta: SeriesMeta,
        serial: u64,
        now: Timestamp,
    ) {
        let entry = Entry {
            serial,
            fingerprint,
            labels: self.index.insert(slot, labels),
            kind: meta.kind,
            unit: meta.unit,
            owner: self.owner(meta.owner),
            logged_epoch: None,
            counted_hour: NEVER,
            touched_turn: AtomicU64::new(0),
            last_received: AtomicI64::new(now.0),
        };
        self.occupy(slot, entry);
    }

    fn occupy(&mut self, slot: u32, entry: Entry) {
        let at = slot as usize;
        if self.entries.len() <= at {
            self.entries.resize_with(at + 1, || None);
        }
        self.by_fingerprint.insert(entry.fingerprint, slot);
        self.entries[at] = Some(entry);
    }

    fn owner(&mut self, owner: Option<Owner>) -> Arc<OwnerState> {
        if let Some(state) = self.owners.get(&owner) {
            return state.clone();
        }
        let state = Arc::new(OwnerState {
            owner: owner.clone(),
            counted_hour: AtomicI64::new(NEVER),
        });
        self.owners.insert(owner, state.clone());
        state
    }

    pub(crate) fn entry(&self, slot: u32) -> Option<&Entry> {
        self.entries.get(slot as usize)?.as_ref()
    }

    /// Notes that an append names a series; `false` when the handle is no longer good.
    pub(crate) fn touch(&self, series: SeriesRef, turn: u64, received: Timestamp) -> bool {
        match self.entry(series.slot) {
            Some(entry) if entry.serial == series.serial => {
                entry.touched_turn.store(turn, Relaxed);
                entry.last_received.fetch_max(received.0, Relaxed);
                true
            }
            _ => false,
        }
    }

    /// The definitions and usage that a record with samples of these slots has to carry.
    pub(crate) fn additions(&self, slots: &[u32], epoch: u64, hour: Hour) -> Additions {
        let mut additions = Additions::default();
        let mut seen = HashSet::new();
        let mut owners = HashSet::new();
        for slot in slots {
            let Some(entry) = self.entry(*slot) else {
                continue;
            };
            let is_defined = entry.logged_epoch == Some(epoch);
            let is_counted = entry.counted_hour == hour.0;
            if (is_defined && is_counted) || !seen.insert(*slot) {
                continue;
            }
            if !is_defined {
                additions.definitions.push(entry.definition(*slot));
            }
            if !is_counted {
                let is_owner_new = entry.owner.counted_hour.load(Relaxed) != hour.0
                    && owners.insert(Arc::as_ptr(&entry.owner));
                entry.count(hour, is_owner_new, &mut additions.usage);
                additions.counted.push(Counted {
                    slot: *slot,
                    owner: entry.owner.clone(),
                });
            }
        }
        // Sorted, so that the record names each subject once.
        additions.usage.sort();
        additions
    }

    /// Takes over a record that is durable, with what [`TenantHead::additions`] said is counted in it.
    pub(crate) fn apply(&mut self, record: &Record, counted: &[Counted], epoch: u64) {
        let hour = record.received.hour().0;
        for counted in counted {
            counted.owner.counted_hour.fetch_max(hour, Relaxed);
            if let Some(Some(entry)) = self.entries.get_mut(counted.slot as usize)
                && Arc::ptr_eq(&entry.owner, &counted.owner)
            {
                entry.counted_hour = entry.counted_hour.max(hour);
            }
        }
        for definition in &record.definitions {
            // Unless the meta has changed since the record was made.
            if let Some(Some(entry)) = self.entries.get_mut(definition.slot as usize)
                && entry.is_as(definition)
            {
                entry.logged_epoch = Some(epoch);
            }
        }
        let samples = record.times_ms.iter().zip(&record.values);
        for (slot, (time, value)) in record.slots.iter().zip(samples) {
            self.active.push(*slot, *time, *value);
        }
    }

    /// Splits off the samples applied so far. A part that was split off before and is not yet in a segment becomes
    /// part of this one.
    pub(crate) fn freeze(&mut self) -> Option<Arc<Columns>> {
        let active = std::mem::take(&mut self.active);
        self.frozen = match self.frozen.take() {
            Some(earlier) => Some(Arc::new(Arc::unwrap_or_clone(earlier).followed_by(&active))),
            None if active.is_empty() => None,
            None => Some(Arc::new(active)),
        };
        self.frozen.clone()
    }

    /// Forgets the part split off, which is in a segment, and removes series that have no sample in the head, that no
    /// append of `turn` or later names, and that were last sent before `idle_since`. Returns how many.
    ///
    /// All appends of earlier turns must be applied.
    pub(crate) fn evict(&mut self, turn: u64, idle_since: Timestamp) -> usize {
        self.frozen = None;
        let idle: Vec<u32> = (0u32..)
            .zip(&self.entries)
            .filter(|(slot, entry)| {
                entry.as_ref().is_some_and(|entry| {
                    !self.active.has(*slot)
                        && entry.touched_turn.load(Relaxed) < turn
                        && entry.last_received.load(Relaxed) < idle_since.0
                })
            })
            .map(|(slot, _)| slot)
            .collect();
        for slot in &idle {
            self.remove(*slot);
            self.free.push(*slot);
        }
        self.owners.retain(|_, owner| Arc::strong_count(owner) > 1);
        idle.len()
    }

    fn remove(&mut self, slot: u32) {
        if let Some(entry) = self.entries.get_mut(slot as usize).and_then(Option::take) {
            self.index.remove(slot, &entry.labels);
            self.by_fingerprint.remove(&entry.fingerprint);
        }
    }

    /// The series that satisfy all matchers and have samples, if the head overlaps the range.
    pub(crate) fn matching(
        &self,
        matchers: &[Matcher],
        (from_ms, to_ms): (i64, i64),
    ) -> Vec<HeadSeries> {
        let is_active = self.active.overlaps(from_ms, to_ms);
        let frozen = self
            .frozen
            .as_ref()
            .filter(|frozen| frozen.overlaps(from_ms, to_ms));
        if !is_active && frozen.is_none() {
            return Vec::new();
        }
        let Ok(slots) = matching(&self.index, matchers);
        let has_samples = |slot: u32| {
            (is_active && self.active.has(slot)) || frozen.is_some_and(|frozen| frozen.has(slot))
        };
        slots
            .iter()
            .filter(|slot| has_samples(*slot))
            .filter_map(|slot| Some((slot, self.entry(slot)?)))
            .map(|(slot, entry)| HeadSeries {
                series: SeriesRef {
                    slot,
                    serial: entry.serial,
                },
                fingerprint: entry.fingerprint,
                labels: entry.labels.clone(),
                kind: entry.kind,
                unit: entry.unit.clone(),
            })
            .collect()
    }

    /// A series' samples in the range, sorted, the last commit of equal times. Empty when the series is gone: then
    /// its samples are in segments.
    pub(crate) fn read(&self, series: SeriesRef, range: (i64, i64)) -> (Vec<i64>, Vec<f64>) {
        let (mut times, mut values) = (Vec::new(), Vec::new());
        if self
            .entry(series.slot)
            .is_some_and(|entry| entry.serial == series.serial)
        {
            if let Some(frozen) = &self.frozen {
                frozen.read(series.slot, range, &mut times, &mut values);
            }
            self.active
                .read(series.slot, range, &mut times, &mut values);
            columns::sort_last_wins(&mut times, &mut values);
        }
        (times, values)
    }

    /// Every series.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().flatten()
    }
}

impl Entry {
    /// A changed owner makes the series count anew; any change is logged with the next sample.
    fn set_meta(&mut self, kind: MetricKind, unit: Arc<str>, owner: Arc<OwnerState>) {
        if self.owner.owner != owner.owner {
            self.owner = owner;
            self.counted_hour = NEVER;
            self.logged_epoch = None;
        }
        if self.kind != kind || self.unit != unit {
            (self.kind, self.unit) = (kind, unit);
            self.logged_epoch = None;
        }
    }

    fn is_as(&self, definition: &Definition) -> bool {
        self.kind == definition.kind
            && self.unit == definition.unit
            && self.owner.owner == definition.owner
    }

    fn definition(&self, slot: u32) -> Definition {
        Definition {
            slot,
            labels: self.labels.clone(),
            kind: self.kind,
            unit: self.unit.clone(),
            owner: self.owner.owner.clone(),
        }
    }

    fn count(&self, hour: Hour, is_owner_new: bool, usage: &mut Vec<Usage>) {
        let Some(owner) = &self.owner.owner else {
            return;
        };
        let element = |meter, member| Usage {
            hour,
            meter,
            subject: owner.subject().to_owned(),
            member,
        };
        if is_owner_new && let Some(meter) = owner.own_meter() {
            usage.push(element(meter, 0));
        }
        usage.push(element(owner.series_meter(), self.fingerprint as u64));
    }
}
