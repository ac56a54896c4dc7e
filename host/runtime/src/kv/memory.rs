//! Values in memory: for tools and tests, and as a layer over real ones that a run must not change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use shoal_model::Timestamp;

use super::{KeyValue, KeyValueError};

type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Values that end with the process.
pub struct MemoryKeyValue {
    now: Now,
    values: Mutex<BTreeMap<String, Value>>,
}

struct Value {
    bytes: Vec<u8>,
    expires: Option<Timestamp>,
}

impl MemoryKeyValue {
    /// No values yet; `now` is the time by which they expire.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> MemoryKeyValue {
        MemoryKeyValue {
            now: Arc::new(now),
            values: Mutex::default(),
        }
    }

    /// Does something with the values that are there now, in one step.
    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<String, Value>, Timestamp) -> T) -> T {
        let now = (self.now)();
        let mut values = self.values.lock();
        values.retain(|_, value| value.expires.is_none_or(|expires| expires > now));
        work(&mut values, now)
    }
}

fn put(
    values: &mut BTreeMap<String, Value>,
    key: &str,
    bytes: Vec<u8>,
    expires: Option<Timestamp>,
) -> Result<(), KeyValueError> {
    let others = values.iter().filter(|(other, _)| *other != key);
    let (keys, size) = others.fold(
        (1, key.len() + bytes.len()),
        |(keys, size), (key, value)| (keys + 1, size + key.len() + value.bytes.len()),
    );
    KeyValueError::check_total(keys, size)?;
    values.insert(key.to_owned(), Value { bytes, expires });
    Ok(())
}

#[async_trait]
impl KeyValue for MemoryKeyValue {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        Ok(self.with(|values, _| values.get(key).map(|value| value.bytes.clone())))
    }

    async fn set(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> Result<(), KeyValueError> {
        self.with(|values, now| put(values, key, value, ttl.map(|ttl| now + ttl)))
    }

    async fn swap(
        &self,
        key: &str,
        expected: Option<Vec<u8>>,
        new: Option<Vec<u8>>,
        ttl: Option<Duration>,
    ) -> Result<bool, KeyValueError> {
        self.with(|values, now| {
            if values.get(key).map(|value| &value.bytes) != expected.as_ref() {
                return Ok(false);
            }
            match new {
                Some(bytes) => put(values, key, bytes, ttl.map(|ttl| now + ttl))?,
                None => drop(values.remove(key)),
            }
            Ok(true)
        })
    }

    async fn delete(&self, key: &str) -> Result<(), KeyValueError> {
        self.with(|values, _| values.remove(key));
        Ok(())
    }

    async fn keys(&self, prefix: &str) -> Result<Vec<String>, KeyValueError> {
        Ok(self.with(|values, _| {
            let keys = values.keys().filter(|key| key.starts_with(prefix));
            keys.cloned().collect()
        }))
    }
}

/// What a run would have changed: reads fall through to the values below, writes stay here.
///
/// For runs that must leave no trace, such as those of a version on trial. Bounds hold for what it holds itself, and
/// values do not expire in it: it lives as long as a call.
pub struct OverlayKeyValue {
    below: Arc<dyn KeyValue>,
    /// `None` is deleted here. The lock is held over reads from below, so that a swap is one step.
    changed: tokio::sync::Mutex<BTreeMap<String, Option<Vec<u8>>>>,
}

impl OverlayKeyValue {
    /// Nothing changed yet.
    pub fn new(below: Arc<dyn KeyValue>) -> OverlayKeyValue {
        OverlayKeyValue {
            below,
            changed: tokio::sync::Mutex::default(),
        }
    }

    /// What was written, by key; `None` was deleted.
    pub async fn changes(&self) -> BTreeMap<String, Option<Vec<u8>>> {
        self.changed.lock().await.clone()
    }
}

fn change(
    changed: &mut BTreeMap<String, Option<Vec<u8>>>,
    key: &str,
    new: Option<Vec<u8>>,
) -> Result<(), KeyValueError> {
    let size = |key: &str, value: Option<&Vec<u8>>| key.len() + value.map_or(0, Vec::len);
    let others = changed.iter().filter(|(other, _)| *other != key);
    let (keys, bytes) = others.fold(
        (1, size(key, new.as_ref())),
        |(keys, bytes), (key, value)| (keys + 1, bytes + size(key, value.as_ref())),
    );
    KeyValueError::check_total(keys, bytes)?;
    changed.insert(key.to_owned(), new);
    Ok(())
}

#[async_trait]
impl KeyValue for OverlayKeyValue {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        match self.changed.lock().await.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.below.get(key).await,
        }
    }

    async fn set(
        &self,
        key: &str,
        value: Vec<u8>,
        _: Option<Duration>,
    ) -> Result<(), KeyValueError> {
        change(&mut *self.changed.lock().await, key, Some(value))
    }

    async fn swap(
        &self,
        key: &str,
        expected: Option<Vec<u8>>,
        new: Option<Vec<u8>>,
        _: Option<Duration>,
    ) -> Result<bool, KeyValueError> {
        let mut changed = self.changed.lock().await;
        let present = match changed.get(key) {
            Some(value) => value.clone(),
            None => self.below.get(key).await?,
        };
        if present != expected {
            return Ok(false);
        }
        change(&mut changed, key, new)?;
        Ok(true)
    }

    async fn delete(&self, key: &str) -> Result<(), KeyValueError> {
        change(&mut *self.changed.lock().await, key, None)
    }

    async fn keys(&self, prefix: &str) -> Result<Vec<String>, KeyValueError> {
        let changed = self.changed.lock().await;
        let mut keys = self.below.keys(prefix).await?;
        keys.retain(|key| !changed.contains_key(key));
        let here = changed.iter().filter(|(_, value)| value.is_some());
        keys.extend(
            here.map(|(key, _)| key.clone())
                .filter(|key| key.starts_with(prefix)),
        );
        keys.sort_unstable();
        Ok(keys)
    }
}
