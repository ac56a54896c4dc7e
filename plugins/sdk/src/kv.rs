//! A few values kept from call to call. Capability `kv`; every installation has its own.
//!
//! Calls run side by side: what is read, decided and written goes through [`swap`] or [`update`], never through [`get`] and
//! [`set`]. A store that does not answer becomes [`Failure::Retry`] with `?`.

use std::time::Duration;

use crate::Failure;

#[cfg(target_arch = "wasm32")]
use crate::bindings::check::shoal::plugin::kv as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::double as host;

pub use crate::bindings::check::shoal::plugin::kv::KvError;

/// How often [`update`] begins again before it gives up: more calls at a time than an installation has.
const TRIES: u32 = 32;

/// The value of a key; `None` when there is none, or when its time is over.
///
/// # Errors
/// [`KvError::Unavailable`], or a key that breaks a bound.
pub fn get(key: &str) -> Result<Option<Vec<u8>>, KvError> {
    host::get(key)
}

/// Sets a value; after `ttl` it is gone, without it stays until it is deleted.
///
/// # Errors
/// [`KvError::Full`] beyond 1,000 keys or 1 MiB, [`KvError::TooLarge`] beyond 256 bytes of key or 64 KiB of value.
pub fn set(key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), KvError> {
    host::set(key, value, ttl.map(millis))
}

/// Sets or deletes (`new` is `None`) a value only if it is `expected` now (`None`: there is none); says whether.
///
/// # Errors
/// As [`set`].
pub fn swap(
    key: &str,
    expected: Option<&[u8]>,
    new: Option<&[u8]>,
    ttl: Option<Duration>,
) -> Result<bool, KvError> {
    host::swap(key, expected, new, ttl.map(millis))
}

/// Makes the next value of the present one, and begins again when another call was faster. Returns the next value.
///
/// # Errors
/// As [`set`].
pub fn update(
    key: &str,
    ttl: Option<Duration>,
    next: impl Fn(Option<&[u8]>) -> Vec<u8>,
) -> Result<Vec<u8>, KvError> {
    for _ in 0..TRIES {
        let present = get(key)?;
        let new = next(present.as_deref());
        if swap(key, present.as_deref(), Some(&new), ttl)? {
            return Ok(new);
        }
    }
    Err(KvError::Unavailable(format!(
        "{key:?} was changed by others {TRIES} times in a row"
    )))
}

/// Deletes a key; there may be none.
///
/// # Errors
/// [`KvError::Unavailable`].
pub fn delete(key: &str) -> Result<(), KvError> {
    host::delete(key)
}

/// The keys that begin with a prefix, sorted.
///
/// # Errors
/// [`KvError::Unavailable`].
pub fn keys(prefix: &str) -> Result<Vec<String>, KvError> {
    host::keys(prefix)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl From<KvError> for Failure {
    fn from(error: KvError) -> Failure {
        match error {
            KvError::Full(why) => Failure::rejected("kv-full", why),
            KvError::TooLarge(why) => Failure::rejected("kv-too-large", why),
            KvError::Unavailable(why) => Failure::retry("kv-unavailable", why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::double::FakeHost;

    #[test]
    fn values_stay_from_call_to_call() {
        let host = FakeHost::new().kv();
        assert_eq!(get("a"), Ok(None));
        set("a", b"1", None).expect("set");
        assert_eq!(swap("a", None, Some(b"2"), None), Ok(false));
        assert_eq!(swap("a", Some(b"1"), Some(b"2"), None), Ok(true));
        let count = |present: Option<&[u8]>| vec![present.map_or(1, |bytes| bytes[0] + 1)];
        assert_eq!(update("n", None, count), Ok(vec![1]));
        assert_eq!(update("n", None, count), Ok(vec![2]));
        assert_eq!(keys(""), Ok(vec!["a".to_owned(), "n".to_owned()]));
        assert_eq!(host.values()["a"], b"2");
        delete("a").expect("deleted");
        assert_eq!(keys("a"), Ok(vec![]));
    }

    #[test]
    fn without_the_capability_nothing_is_kept() {
        let _host = FakeHost::new();
        let failure: Failure = set("a", b"1", None).expect_err("not granted").into();
        assert!(matches!(failure, Failure::Retry(_)));
    }
}
