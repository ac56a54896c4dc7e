//! Finding what was seen before: a hash table of row numbers, whose rows are kept elsewhere.
//!
//! Invariants: at most half of the slots are used, so a search ends; no search takes more than
//! [`PROBES_MAX`] steps, whatever hashes a sender contrives: what finds no place is then not
//! remembered, which costs repetition in the batch and never correctness.
//!
//! The functions on bytes work on words and use no `memcmp`, which is a byte loop in a guest.

/// Slots of a new table: 8 KiB, which fits a small request without growing.
const SLOTS_MIN: usize = 1024;

/// Steps of one search. At half load the longest honest cluster of a million entries is about 70.
const PROBES_MAX: usize = 128;

/// A row number found by the hash of its content.
pub(crate) struct Table {
    /// A power of two of them.
    slots: Vec<Slot>,
    used: usize,
}

#[derive(Clone, Copy)]
struct Slot {
    hash: u32,
    row: u32,
}

const EMPTY: Slot = Slot {
    hash: 0,
    row: u32::MAX,
};

/// Where a row that was not found can be put.
pub(crate) struct Vacancy {
    hash: u32,
    /// None when the neighbourhood is crowded.
    slot: Option<usize>,
}

impl Default for Table {
    fn default() -> Self {
        Table {
            slots: vec![EMPTY; SLOTS_MIN],
            used: 0,
        }
    }
}

impl Table {
    /// Forgets all rows. A table far larger than the last batch needed is halved, since clearing takes time in
    /// proportion to its length.
    pub(crate) fn clear(&mut self) {
        if self.slots.len() > SLOTS_MIN && self.used * 16 < self.slots.len() {
            self.slots.truncate(self.slots.len() / 2);
        }
        self.slots.fill(EMPTY);
        self.used = 0;
    }

    /// The row with this hash for which `is_same` answers true, or where to put a new one.
    #[inline(always)]
    pub(crate) fn find(&self, hash: u32, is_same: impl Fn(u32) -> bool) -> Result<u32, Vacancy> {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        for _ in 0..PROBES_MAX {
            let slot = self.slots[at];
            if slot.row == u32::MAX {
                let slot = Some(at);
                return Err(Vacancy { hash, slot });
            }
            if slot.hash == hash && is_same(slot.row) {
                return Ok(slot.row);
            }
            at = (at + 1) & mask;
        }
        Err(Vacancy { hash, slot: None })
    }

    /// Remembers a row at the place that the search for it found.
    #[inline]
    pub(crate) fn insert(&mut self, vacancy: Vacancy, row: u32) {
        let Some(at) = vacancy.slot else { return };
        self.slots[at] = Slot {
            hash: vacancy.hash,
            row,
        };
        self.used += 1;
        if self.used * 2 > self.slots.len() {
            self.grow();
        }
    }

    #[cold]
    fn grow(&mut self) {
        let wider = vec![EMPTY; self.slots.len() * 2];
        let narrow = std::mem::replace(&mut self.slots, wider);
        self.used = 0;
        for slot in narrow.into_iter().filter(|slot| slot.row != u32::MAX) {
            let free = self.find(slot.hash, |_| false);
            if let Err(Vacancy { slot: Some(at), .. }) = free {
                self.slots[at] = slot;
                self.used += 1;
            }
        }
    }
}

const PRIME_A: u64 = 0x9E37_79B9_7F4A_7C15;
const PRIME_B: u64 = 0xC2B2_AE3D_27D4_EB4F;

/// Two sums that are mixed side by side, so that neither waits for the other's multiplication.
struct Lanes(u64, u64);

impl Lanes {
    fn new(length: usize) -> Lanes {
        Lanes(length as u64 ^ PRIME_A, PRIME_B)
    }

    #[inline(always)]
    fn mix(&mut self, a: u64, b: u64) {
        self.0 = (self.0.rotate_left(29) ^ a).wrapping_mul(PRIME_A);
        self.1 = (self.1.rotate_left(31) ^ b).wrapping_mul(PRIME_B);
    }

    #[inline(always)]
    fn finish(self) -> u32 {
        let sum = (self.0 ^ self.1.rotate_left(17)).wrapping_mul(PRIME_A);
        ((sum ^ (sum >> 29)).wrapping_mul(PRIME_B) >> 32) as u32
    }
}

/// A hash of bytes for [`Table`]; not meant to withstand contrived input.
#[inline(always)]
pub(crate) fn hash_bytes(bytes: &[u8]) -> u32 {
    let mut lanes = Lanes::new(bytes.len());
    let (blocks, tail) = bytes.as_chunks::<16>();
    for block in blocks {
        lanes.mix_block(block);
    }
    if tail.is_empty() {
        return lanes.finish();
    }
    if let Some(last) = bytes.last_chunk() {
        lanes.mix_block(last);
    } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        lanes.mix(u64::from_le_bytes(*first), u64::from_le_bytes(*last));
    } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        lanes.mix(first.into(), last.into());
    } else {
        let middle = bytes[bytes.len() / 2];
        let ends = u64::from(bytes[0]) << 8 | u64::from(bytes[bytes.len() - 1]);
        lanes.mix(ends, middle.into());
    }
    lanes.finish()
}

impl Lanes {
    #[inline(always)]
    fn mix_block(&mut self, block: &[u8; 16]) {
        let block = u128::from_le_bytes(*block);
        self.mix(block as u64, (block >> 64) as u64);
    }
}

/// A hash of symbol numbers for [`Table`].
#[inline(always)]
pub(crate) fn hash_symbols(symbols: &[u32]) -> u32 {
    let mut lanes = Lanes::new(symbols.len());
    for [name, value] in symbols.as_chunks().0 {
        lanes.mix((*name).into(), (*value).into());
    }
    lanes.finish()
}

/// Whether two byte strings are equal.
#[inline(always)]
pub(crate) fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let ((a_blocks, a_rest), (b_blocks, b_rest)) = (a.as_chunks::<32>(), b.as_chunks::<32>());
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        if differ(a, b) {
            return false;
        }
    }
    let ((a_words, a_tail), (b_words, b_tail)) = (a_rest.as_chunks::<8>(), b_rest.as_chunks::<8>());
    for (a, b) in a_words.iter().zip(b_words) {
        if u64::from_le_bytes(*a) != u64::from_le_bytes(*b) {
            return false;
        }
    }
    match (a.last_chunk(), b.last_chunk()) {
        (Some(a), Some(b)) => u64::from_le_bytes(*a) == u64::from_le_bytes(*b),
        _ => a_tail.iter().zip(b_tail).all(|(a, b)| a == b),
    }
}

#[inline(always)]
fn differ(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let difference = |at: usize| {
        let word = |bytes: &[u8; 32]| {
            let word: [u8; 8] = bytes[at..at + 8].try_into().expect("8 of 32 bytes");
            u64::from_le_bytes(word)
        };
        word(a) ^ word(b)
    };
    difference(0) | difference(8) | difference(16) | difference(24) != 0
}

/// Whether two lists of symbol numbers are equal.
#[inline(always)]
pub(crate) fn same_symbols(a: &[u32], b: &[u32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_again_after_growing() {
        let rows: Vec<String> = (0..20_000).map(|row| format!("row {row}")).collect();
        let mut table = Table::default();
        for (row, text) in rows.iter().enumerate() {
            let hash = hash_bytes(text.as_bytes());
            match table.find(hash, |other| rows[other as usize] == *text) {
                Ok(other) => panic!("{text} was taken for row {other}"),
                Err(vacancy) => table.insert(vacancy, row as u32),
            }
        }
        for (row, text) in rows.iter().enumerate() {
            let found = table.find(hash_bytes(text.as_bytes()), |other| other == row as u32);
            assert_eq!(found.ok(), Some(row as u32), "{text}");
        }
    }

    #[test]
    fn rows_of_one_hash_are_remembered_up_to_the_bound_and_no_search_is_longer() {
        let mut table = Table::default();
        for row in 0..100_000 {
            let steps = std::cell::Cell::new(0);
            let found = table.find(7, |_| {
                steps.set(steps.get() + 1);
                false
            });
            assert!(steps.get() <= PROBES_MAX);
            table.insert(found.expect_err("nothing is the same"), row);
        }
        assert_eq!(table.used, PROBES_MAX);
    }

    #[test]
    fn a_table_shrinks_when_batches_become_small() {
        let mut table = Table::default();
        for row in 0..10_000 {
            let found = table.find(hash_symbols(&[row, row]), |_| false);
            table.insert(found.expect_err("nothing is the same"), row);
        }
        for _ in 0..10 {
            table.clear();
        }
        assert_eq!(table.slots.len(), SLOTS_MIN);
        assert!(table.find(1, |_| true).is_err());
    }

    #[test]
    fn equality_and_hash_look_at_every_byte() {
        for length in 0..100 {
            let bytes: Vec<u8> = (0..length).collect();
            assert!(same_bytes(&bytes, &bytes.clone()));
            assert!(!same_bytes(&bytes, &[&bytes[..], &[0]].concat()));
            for at in 0..bytes.len() {
                let mut other = bytes.clone();
                other[at] ^= 0x10;
                assert!(!same_bytes(&bytes, &other), "{length} bytes, byte {at}");
                assert_ne!(hash_bytes(&bytes), hash_bytes(&other), "{length}, {at}");
            }
        }
    }
}
