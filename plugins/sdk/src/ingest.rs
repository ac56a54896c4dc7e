//! Handing telemetry to the host. Capability `ingest`; only receivers may have it.

mod batch;

use crate::Failure;

pub use crate::bindings::receiver::shoal::plugin::ingest::{Committed, IngestError, Rejection};
pub use crate::bindings::receiver::shoal::plugin::telemetry::{
    AttributeSets, Histograms, Metrics, Numbers, Series, Symbols,
};
pub use batch::{Batch, Stream};

/// Makes a batch durable; returns after the commit, so that the plugin can answer its client.
///
/// # Errors
/// [`IngestError::Malformed`] when the batch breaks a rule of `telemetry` (a fault of the plugin),
/// [`IngestError::Overloaded`] and [`IngestError::Unavailable`] when the sender should try again. Nothing
/// of the batch was taken then.
pub fn write_metrics(batch: &Metrics) -> Result<Committed, IngestError> {
    #[cfg(target_arch = "wasm32")]
    return crate::bindings::receiver::shoal::plugin::ingest::write_metrics(batch);
    #[cfg(not(target_arch = "wasm32"))]
    crate::double::write_metrics(batch)
}

/// What a receiver answers when nothing was taken.
impl From<IngestError> for Failure {
    fn from(error: IngestError) -> Failure {
        match error {
            IngestError::Malformed(why) => Failure::rejected("malformed", why),
            IngestError::Overloaded(after_ms) => Failure::retry_after(
                "overloaded",
                "the store has no room now",
                std::time::Duration::from_millis(after_ms),
            ),
            IngestError::Unavailable(why) => Failure::retry("unavailable", why),
        }
    }
}
