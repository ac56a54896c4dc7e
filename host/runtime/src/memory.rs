//! One running total over all memories and tables of an instance.

use wasmtime::ResourceLimiter;

/// Memory of one table element on the host.
const ELEMENT_BYTES: u64 = 8;

/// Grants or refuses growth.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    max_bytes: u64,
    bytes: u64,
    peak_bytes: u64,
    /// What would have been needed when growth was refused.
    denied_bytes: Option<u64>,
}

impl MemoryLimiter {
    pub(crate) fn new(max_bytes: u64) -> MemoryLimiter {
        MemoryLimiter {
            max_bytes,
            bytes: 0,
            peak_bytes: 0,
            denied_bytes: None,
        }
    }

    /// Most that was in use at a time.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.peak_bytes
    }

    /// What is in use.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What would have been needed when growth was last refused in this call.
    pub(crate) fn denied_bytes(&self) -> Option<u64> {
        self.denied_bytes
    }

    /// Begins the count of a further call on the same instance.
    pub(crate) fn begin_call(&mut self) {
        self.peak_bytes = self.bytes;
        self.denied_bytes = None;
    }

    fn grow(&mut self, more: u64) -> bool {
        let wanted = self.bytes.saturating_add(more);
        if wanted > self.max_bytes {
            self.denied_bytes = Some(wanted);
            return false;
        }
        self.bytes = wanted;
        self.peak_bytes = self.peak_bytes.max(wanted);
        true
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(desired.saturating_sub(current) as u64))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let elements = desired.saturating_sub(current) as u64;
        Ok(self.grow(elements.saturating_mul(ELEMENT_BYTES)))
    }

    fn instances(&self) -> usize {
        // The pool's own bound for its sort of components is never more.
        crate::engine::Sort::Large.instances_per_component() as usize
    }

    fn memories(&self) -> usize {
        crate::engine::MEMORIES_PER_COMPONENT as usize
    }

    fn tables(&self) -> usize {
        crate::engine::TABLES_PER_COMPONENT as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_share_one_bound() {
        let mut limiter = MemoryLimiter::new(1000);
        assert!(limiter.memory_growing(0, 400, None).expect("an answer"));
        assert!(limiter.memory_growing(0, 400, None).expect("an answer"));
        assert!(limiter.table_growing(0, 20, None).expect("an answer"));
        assert!(!limiter.memory_growing(400, 500, None).expect("an answer"));
        assert_eq!((limiter.bytes(), limiter.denied_bytes()), (960, Some(1060)));
        limiter.begin_call();
        assert_eq!((limiter.peak_bytes(), limiter.denied_bytes()), (960, None));
    }
}
