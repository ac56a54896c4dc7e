//! Keeps the indexes of segments in memory, the least recently used go first.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use shoal_model::TenantId;

use super::page::SegmentFile;
use super::read::TenantIndex;
use crate::catalog::SegmentId;
use crate::read::ReadError;

/// Indexes up to a number of bytes; beyond it the one read longest ago is dropped and read again when needed. One index
/// is kept even when it is larger.
#[derive(Debug)]
pub(crate) struct IndexCache {
    max_bytes: u64,
    content: Mutex<Content>,
}

#[derive(Debug, Default)]
struct Content {
    indexes: HashMap<(SegmentId, TenantId), Cached>,
    bytes: u64,
    uses: u64,
}

#[derive(Debug)]
struct Cached {
    index: Arc<TenantIndex>,
    used: u64,
}

impl IndexCache {
    pub(crate) fn new(max_bytes: u64) -> IndexCache {
        IndexCache {
            max_bytes,
            content: Mutex::default(),
        }
    }

    /// The index of a tenant's part of a segment, read when it is not in memory. Two readers may read it at once.
    pub(crate) fn get(
        &self,
        segment: SegmentId,
        tenant: TenantId,
        file: &SegmentFile,
    ) -> Result<Arc<TenantIndex>, ReadError> {
        let key = (segment, tenant);
        if let Some(index) = self.content.lock().touch(key) {
            return Ok(index);
        }
        let index = Arc::new(TenantIndex::load(file, tenant)?);
        self.content
            .lock()
            .insert(key, index.clone(), self.max_bytes);
        Ok(index)
    }
}

impl Content {
    fn touch(&mut self, key: (SegmentId, TenantId)) -> Option<Arc<TenantIndex>> {
        self.uses += 1;
        let cached = self.indexes.get_mut(&key)?;
        cached.used = self.uses;
        Some(cached.index.clone())
    }

    fn insert(&mut self, key: (SegmentId, TenantId), index: Arc<TenantIndex>, max_bytes: u64) {
        self.bytes += index.memory_bytes();
        let used = self.uses;
        if let Some(replaced) = self.indexes.insert(key, Cached { index, used }) {
            self.bytes -= replaced.index.memory_bytes();
        }
        while self.bytes > max_bytes && self.indexes.len() > 1 {
            let oldest = self
                .indexes
                .iter()
                .filter(|(other, _)| **other != key)
                .min_by_key(|(_, cached)| cached.used)
                .map(|(key, _)| *key);
            let Some(dropped) = oldest.and_then(|oldest| self.indexes.remove(&oldest)) else {
                break;
            };
            self.bytes -= dropped.index.memory_bytes();
        }
    }
}
