//! A few values that an installation keeps from call to call. See `wit/kv.wit`.
//!
//! The bounds on one key and one value are checked here; those on all of an installation are kept by whoever stores
//! them, because only there two calls at a time can be seen.

mod memory;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::bindings::shoal::plugin::kv as wit;
use crate::state::State;

pub use self::memory::{MemoryKeyValue, OverlayKeyValue};

/// Longest key, in bytes.
pub const KEY_MAX_BYTES: usize = 256;
/// Largest value, in bytes.
pub const VALUE_MAX_BYTES: usize = 64 << 10;
/// Keys of one installation: state for every target of a check, not a database.
pub const KEYS_MAX: usize = 1000;
/// Keys and values of one installation together, in bytes.
pub const KEY_VALUE_MAX_BYTES: usize = 1 << 20;
/// Times that one call may turn to its values: each key read and written once. The time that the store takes for them is
/// nobody's but that of all tenants.
const TURNS_MAX: u32 = 2000;

/// Longest life of a value that has an end; longer ones are as good as for ever.
const TTL_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The values of one installation. Implemented by the server on SQL, and in memory for tools and tests.
///
/// Keys and values that come here keep their bounds; [`KEYS_MAX`] and [`KEY_VALUE_MAX_BYTES`] are the implementation's to
/// keep, however many calls write at a time. A value whose time is over is not there.
#[async_trait]
pub trait KeyValue: Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    /// [`KeyValueError::Unavailable`]; so of all.
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KeyValueError>;

    /// Sets a value.
    ///
    /// # Errors
    /// [`KeyValueError::Full`] when there would be too many.
    async fn set(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> Result<(), KeyValueError>;

    /// Sets or deletes a value if it is `expected`, in one step; false when it is not.
    ///
    /// # Errors
    /// [`KeyValueError::Full`] when there would be too many.
    async fn swap(
        &self,
        key: &str,
        expected: Option<Vec<u8>>,
        new: Option<Vec<u8>>,
        ttl: Option<Duration>,
    ) -> Result<bool, KeyValueError>;

    /// Deletes a key that may be there.
    ///
    /// # Errors
    /// [`KeyValueError::Unavailable`].
    async fn delete(&self, key: &str) -> Result<(), KeyValueError>;

    /// The keys that begin with a prefix, sorted by their bytes.
    ///
    /// # Errors
    /// [`KeyValueError::Unavailable`].
    async fn keys(&self, prefix: &str) -> Result<Vec<String>, KeyValueError>;
}

/// Why nothing was read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyValueError {
    /// The installation would have too many keys or bytes.
    #[error("{0}")]
    Full(String),
    /// A key or value breaks a bound.
    #[error("{0}")]
    TooLarge(String),
    /// The store does not answer.
    #[error("{0}")]
    Unavailable(String),
}

impl KeyValueError {
    /// Refuses what an installation with these keys and bytes, after a write, would have too much.
    ///
    /// # Errors
    /// [`KeyValueError::Full`], which says how much there is and may be.
    pub fn check_total(keys: usize, bytes: usize) -> Result<(), KeyValueError> {
        if keys > KEYS_MAX {
            return Err(KeyValueError::Full(format!(
                "this would be key number {keys}, and an installation has {KEYS_MAX} at most: delete some, or give them an end"
            )));
        }
        if bytes > KEY_VALUE_MAX_BYTES {
            return Err(KeyValueError::Full(format!(
                "keys and values would take {bytes} bytes, and an installation has {KEY_VALUE_MAX_BYTES} at most: delete some, or give them an end"
            )));
        }
        Ok(())
    }
}

impl From<KeyValueError> for wit::KvError {
    fn from(error: KeyValueError) -> wit::KvError {
        match error {
            KeyValueError::Full(why) => wit::KvError::Full(why),
            KeyValueError::TooLarge(why) => wit::KvError::TooLarge(why),
            KeyValueError::Unavailable(why) => wit::KvError::Unavailable(why),
        }
    }
}

fn check_key(key: &str) -> Result<(), wit::KvError> {
    let why = match key.len() {
        0 => "a key is empty".to_owned(),
        1..=KEY_MAX_BYTES if key.chars().any(char::is_control) => {
            format!("key {key:?} holds control characters")
        }
        1..=KEY_MAX_BYTES => return Ok(()),
        long => format!("a key has {long} bytes, and at most {KEY_MAX_BYTES} are allowed"),
    };
    Err(wit::KvError::TooLarge(why))
}

fn check_value(key: &str, value: &[u8]) -> Result<(), wit::KvError> {
    if value.len() <= VALUE_MAX_BYTES {
        return Ok(());
    }
    Err(wit::KvError::TooLarge(format!(
        "the value of {key:?} has {} bytes, and at most {VALUE_MAX_BYTES} are allowed",
        value.len()
    )))
}

fn ttl(ttl_ms: Option<u64>) -> Option<Duration> {
    ttl_ms.map(|ms| Duration::from_millis(ms).min(TTL_MAX))
}

impl State {
    /// Does something with the installation's values; the host's time for it is not the guest's.
    async fn with_values<T, F>(
        &mut self,
        work: impl FnOnce(Arc<dyn KeyValue>) -> F,
    ) -> Result<T, wit::KvError>
    where
        F: Future<Output = Result<T, KeyValueError>>,
    {
        if self.provided.value_turns >= TURNS_MAX {
            let why = format!(
                "{TURNS_MAX} times are the most that one call may turn to its values: go on in the next call"
            );
            self.log().remark(why.clone());
            return Err(wit::KvError::Unavailable(why));
        }
        self.provided.value_turns += 1;
        let values = self.provided.services.kv.clone().ok_or_else(|| {
            wit::KvError::Unavailable("values can only be kept while a call is served".to_owned())
        })?;
        Ok(self.meter.uncounted(work(values)).await?)
    }
}

impl wit::Host for State {
    async fn get(&mut self, key: String) -> Result<Option<Vec<u8>>, wit::KvError> {
        check_key(&key)?;
        self.with_values(|values| async move { values.get(&key).await })
            .await
    }

    async fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> Result<(), wit::KvError> {
        check_key(&key)?;
        check_value(&key, &value)?;
        self.with_values(|values| async move { values.set(&key, value, ttl(ttl_ms)).await })
            .await
    }

    async fn swap(
        &mut self,
        key: String,
        expected: Option<Vec<u8>>,
        new: Option<Vec<u8>>,
        ttl_ms: Option<u64>,
    ) -> Result<bool, wit::KvError> {
        check_key(&key)?;
        check_value(&key, new.as_deref().unwrap_or_default())?;
        self.with_values(
            |values| async move { values.swap(&key, expected, new, ttl(ttl_ms)).await },
        )
        .await
    }

    async fn delete(&mut self, key: String) -> Result<(), wit::KvError> {
        check_key(&key)?;
        self.with_values(|values| async move { values.delete(&key).await })
            .await
    }

    async fn keys(&mut self, prefix: String) -> Result<Vec<String>, wit::KvError> {
        if !prefix.is_empty() {
            check_key(&prefix)?;
        }
        self.with_values(|values| async move { values.keys(&prefix).await })
            .await
    }
}

#[cfg(test)]
mod tests;
