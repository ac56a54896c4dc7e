//! Rebuilds a tenant's head from the records of the log.
//!
//! It ends in the head that took the same records when they were committed: series, their meta and usage, the samples in
//! their order. What the log has many times is kept once: texts of labels and units, owners. Beside the head it holds no
//! more than one record, so that its memory is bounded by the log's size, as its time is.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use shoal_model::labels::fingerprint;

use super::index::IndexBuilder;
use super::{Entry, NEVER, OwnerState, SLOTS_MAX, TenantHead};
use crate::codec::Malformed;
use crate::log::record::{LoggedDefinition, LoggedOwner, LoggedRecord};

/// A tenant's head that is being rebuilt.
#[derive(Debug, Default)]
pub(crate) struct HeadReplay {
    /// Its index is empty until the end.
    head: TenantHead,
    index: IndexBuilder,
    /// The owner and unit of the last definition: most often those of the next.
    owner: Option<Arc<OwnerState>>,
    unit: Arc<str>,
}

impl HeadReplay {
    /// Takes over a record read from the log. `serials` is where new series get theirs from.
    ///
    /// # Errors
    /// When the record contradicts those before it, names a slot that is not defined or not below [`SLOTS_MAX`], or has
    /// more samples than a head can hold. Nothing may be replayed after that.
    pub(crate) fn replay(
        &mut self,
        record: &LoggedRecord<'_>,
        epoch: u64,
        serials: &AtomicU64,
    ) -> Result<(), Malformed> {
        if !self.head.has_room_for(record.slots.len()) {
            return Err(Malformed("it has more samples than memory can hold"));
        }
        for definition in &record.definitions {
            let entry = self.define(record, definition, serials)?;
            entry.logged_epoch = Some(epoch);
        }
        let hour = record.received.hour().0;
        let samples = record.times_ms.iter().zip(&record.values);
        for (slot, (time, value)) in record.slots.iter().zip(samples) {
            let Some(Some(entry)) = self.head.entries.get_mut(*slot as usize) else {
                return Err(Malformed("a sample's series is not defined"));
            };
            let received = entry.last_received.get_mut();
            *received = record.received.0.max(*received);
            entry.counted_hour = entry.counted_hour.max(hour);
            entry.owner.counted_hour.fetch_max(hour, Relaxed);
            self.head.active.push(*slot, *time, *value);
        }
        Ok(())
    }

    /// The head. Unoccupied slots are free from here on.
    pub(crate) fn finish(self) -> TenantHead {
        let mut head = self.head;
        head.index = self.index.finish();
        head.free = (0u32..)
            .zip(&head.entries)
            .filter(|(_, entry)| entry.is_none())
            .map(|(slot, _)| slot)
            .collect();
        head
    }

    fn define(
        &mut self,
        record: &LoggedRecord<'_>,
        definition: &LoggedDefinition<'_>,
        serials: &AtomicU64,
    ) -> Result<&mut Entry, Malformed> {
        let slot = definition.slot;
        if slot >= SLOTS_MAX {
            return Err(Malformed("a series is out of range"));
        }
        let (owner, unit) = (self.owner(definition.owner), self.unit(definition.unit));
        let labels = record.labels(definition);
        let fingerprint = fingerprint(labels.iter().copied());
        let known = self.head.by_fingerprint.get(&fingerprint).copied();
        if known == Some(slot) {
            let entry = self.entry(slot);
            entry.set_meta(definition.kind, unit, owner);
            return Ok(entry);
        }
        // It was evicted and came back elsewhere; or what was here before was.
        for evicted in known.into_iter().chain([slot]) {
            self.evict(evicted)?;
        }
        let entry = Entry {
            serial: serials.fetch_add(1, Relaxed),
            fingerprint,
            labels: self.index.insert(slot, labels),
            kind: definition.kind,
            unit,
            owner,
            logged_epoch: None,
            counted_hour: NEVER,
            touched_turn: AtomicU64::new(0),
            last_received: AtomicI64::new(record.received.0),
        };
        self.head.occupy(slot, entry);
        Ok(self.entry(slot))
    }

    fn entry(&mut self, slot: u32) -> &mut Entry {
        self.head.entries[slot as usize]
            .as_mut()
            .expect("fingerprints name occupied slots")
    }

    fn evict(&mut self, slot: u32) -> Result<(), Malformed> {
        let entry = self.head.entries.get_mut(slot as usize);
        let Some(entry) = entry.and_then(Option::take) else {
            return Ok(());
        };
        if self.head.active.has(slot) {
            return Err(Malformed("a series is replaced while it has samples"));
        }
        self.index.remove(slot, &entry.labels);
        self.head.by_fingerprint.remove(&entry.fingerprint);
        Ok(())
    }

    fn owner(&mut self, owner: LoggedOwner<'_>) -> Arc<OwnerState> {
        match &self.owner {
            Some(last) if owner.is(last.owner.as_ref()) => last.clone(),
            _ => {
                let owner = self.head.owner(owner.to_owner());
                self.owner.insert(owner).clone()
            }
        }
    }

    fn unit(&mut self, unit: &str) -> Arc<str> {
        if *self.unit != *unit {
            self.unit = Arc::from(unit);
        }
        self.unit.clone()
    }
}
