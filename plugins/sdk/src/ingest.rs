//! Handing telemetry to the host. Capability `ingest`; only receivers may have it.

pub use crate::bindings::receiver::shoal::plugin::ingest::{Committed, IngestError, Rejection};
pub use crate::bindings::receiver::shoal::plugin::telemetry::{
    AttributeSets, Histograms, Metrics, Numbers, Series, Symbols,
};

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
