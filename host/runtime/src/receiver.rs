//! What a receiver is asked and answers, and the way its metrics take. See `wit/receiver.wit` and `wit/telemetry.wit`.

use std::time::Duration;

use async_trait::async_trait;
use shoal_model::telemetry::{
    HistogramColumns, Metrics, NumberColumns, SeriesColumns, ValidMetrics,
};

use crate::bindings::exports::shoal::plugin::receiver as wit;
use crate::bindings::shoal::plugin::{ingest as wit_ingest, telemetry};
use crate::call::cut;

/// Largest body that a receiver may answer with.
pub const RESPONSE_MAX_BYTES: usize = 4 << 20;

const MESSAGE_MAX_BYTES: usize = 4096;
/// Refusals handed on to the plugin; what a sender will read.
const REJECTIONS_MAX: usize = 16;

/// One request for a receiver, authenticated and decompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverRequest {
    /// How it came.
    pub transport: Transport,
    /// The HTTP path or the gRPC path `/package.Service/Method`.
    pub endpoint: String,
    /// The HTTP method in capitals; `POST` for gRPC.
    pub method: String,
    /// Without parameters, in small letters; `application/grpc` for gRPC.
    pub content_type: String,
    /// The body, or the gRPC message without its frame.
    pub body: Vec<u8>,
}

/// How a request reached the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// HTTP.
    Http,
    /// A unary gRPC call.
    Grpc,
}

/// A receiver's answer to its client, in the client's protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverResponse {
    /// HTTP status (200 to 599), or gRPC status code (0 to 16).
    pub status: u16,
    /// Of the body; ignored for gRPC.
    pub content_type: String,
    /// When the client should come back.
    pub retry_after: Option<Duration>,
    /// The gRPC status message, at most 4,096 bytes.
    pub message: String,
    /// The HTTP body or the gRPC message, at most [`RESPONSE_MAX_BYTES`].
    pub body: Vec<u8>,
}

/// Where a receiver's metrics go: the way into the store. Implemented by the server.
#[async_trait]
pub trait Ingest: Send + Sync {
    /// Makes a batch durable; returns after the commit.
    ///
    /// Called from within a plugin's call, possibly several times; dropped when the call's time is up.
    ///
    /// # Errors
    /// Nothing of the batch was taken.
    async fn write_metrics(&self, batch: ValidMetrics) -> Result<Committed, IngestError>;
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Points that are durable.
    pub accepted: u64,
    /// Points that were refused for good.
    pub rejected: u64,
    /// The first refusals; at most 16 are handed on.
    pub rejections: Vec<Rejection>,
}

/// A stream that was not taken, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Row in `series`.
    pub series: u32,
    /// How many points of it were refused.
    pub points: u32,
    /// One sentence that names the metric and the limit.
    pub reason: String,
}

/// Why nothing of a batch was taken. (That a batch breaks the rules of `telemetry` is found before.)
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// No room now.
    #[error("no room, try again after {retry_after:?}")]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// It could not be made durable.
    #[error("not durable: {0}")]
    Unavailable(String),
}

impl ReceiverRequest {
    pub(crate) fn into_wit(self) -> wit::Request {
        wit::Request {
            transport: match self.transport {
                Transport::Http => wit::Transport::Http,
                Transport::Grpc => wit::Transport::Grpc,
            },
            endpoint: self.endpoint,
            method: self.method,
            content_type: self.content_type,
            body: self.body,
        }
    }
}

impl ReceiverResponse {
    /// Takes what a plugin answered, if it keeps the contract.
    pub(crate) fn from_wit(
        response: wit::Response,
        transport: Transport,
    ) -> Result<ReceiverResponse, String> {
        let status = response.status;
        let is_status = match transport {
            Transport::Http => (200..600).contains(&status),
            Transport::Grpc => status <= 16,
        };
        if !is_status {
            return Err(format!("status {status} is none of the protocol"));
        }
        if response.body.len() > RESPONSE_MAX_BYTES {
            return Err(format!(
                "a body of {} bytes where {RESPONSE_MAX_BYTES} are the most",
                response.body.len()
            ));
        }
        let is_content_type = response.content_type.len() <= 200
            && response
                .content_type
                .bytes()
                .all(|b| (b' '..=b'~').contains(&b));
        if !is_content_type {
            return Err("the content type is not 200 or fewer printable characters".into());
        }
        Ok(ReceiverResponse {
            status,
            content_type: response.content_type,
            retry_after: response.retry_after_ms.map(Duration::from_millis),
            message: cut(response.message, MESSAGE_MAX_BYTES),
            body: response.body,
        })
    }
}

/// Moves the columns; nothing is copied and nothing is trusted yet.
pub(crate) fn columns(batch: telemetry::Metrics) -> Metrics {
    let (series, numbers, h) = (batch.series, batch.numbers, batch.histograms);
    Metrics {
        symbol_bytes: batch.symbols.bytes,
        symbol_ends: batch.symbols.ends,
        set_pairs: batch.sets.pairs,
        set_ends: batch.sets.ends,
        series: SeriesColumns {
            names: series.names,
            units: series.units,
            kinds: series.kinds,
            resources: series.resources,
            scopes: series.scopes,
            attributes: series.attributes,
        },
        numbers: NumberColumns {
            series: numbers.series,
            parts: numbers.parts,
            quantiles: numbers.quantiles,
            start_unix_nano: numbers.start_unix_nano,
            time_unix_nano: numbers.time_unix_nano,
            values: numbers.values,
            stale: numbers.stale,
        },
        histograms: HistogramColumns {
            series: h.series,
            start_unix_nano: h.start_unix_nano,
            time_unix_nano: h.time_unix_nano,
            counts: h.counts,
            sums: h.sums,
            mins: h.mins,
            maxs: h.maxs,
            scales: h.scales,
            zero_counts: h.zero_counts,
            zero_thresholds: h.zero_thresholds,
            positive_offsets: h.positive_offsets,
            positive_ends: h.positive_ends,
            negative_offsets: h.negative_offsets,
            negative_ends: h.negative_ends,
            bound_ends: h.bound_ends,
            stale: h.stale,
            bucket_counts: h.bucket_counts,
            bounds: h.bounds,
        },
    }
}

/// What the plugin is told of its batch.
pub(crate) fn answer(
    result: Result<Committed, IngestError>,
) -> Result<wit_ingest::Committed, wit_ingest::IngestError> {
    match result {
        Ok(committed) => Ok(wit_ingest::Committed {
            accepted: committed.accepted,
            rejected: committed.rejected,
            rejections: committed
                .rejections
                .into_iter()
                .take(REJECTIONS_MAX)
                .map(|r| wit_ingest::Rejection {
                    series: r.series,
                    points: r.points,
                    reason: r.reason,
                })
                .collect(),
        }),
        Err(IngestError::Overloaded { retry_after }) => Err(wit_ingest::IngestError::Overloaded(
            u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX),
        )),
        Err(IngestError::Unavailable(why)) => Err(wit_ingest::IngestError::Unavailable(why)),
    }
}
