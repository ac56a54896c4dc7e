//! Random bytes from the operating system: ids, keys and nonces.

use shoal_model::id::{AlertId, KeyId, NotificationId, RunId};
use shoal_model::{InstallationId, MonitorId};

/// Random bytes.
///
/// # Panics
/// When the operating system gives none, which it does only before its own start has ended.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    bytes
}

/// From 0 to 1.
pub fn chance() -> f64 {
    f64::from(u32::from_ne_bytes(bytes())) / f64::from(u32::MAX)
}

/// An id made of random bytes; every id type of the model that is text.
pub trait RandomId {
    /// A new id: 80 random bits, so that two are never equal in practice.
    fn random() -> Self;
}

macro_rules! random_ids {
    ($($id:ty),*) => {$(
        impl RandomId for $id {
            fn random() -> Self {
                Self::from_random(bytes())
            }
        }
    )*};
}

random_ids!(
    InstallationId,
    MonitorId,
    AlertId,
    NotificationId,
    RunId,
    KeyId
);
