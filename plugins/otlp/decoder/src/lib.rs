//! OTLP metrics, protobuf and JSON, straight into columns.
//!
//! The bytes of an `ExportMetricsServiceRequest` are read once, front to back, and land in [`Columns`] without messages,
//! strings or maps in between. Decoding is total: any bytes give columns that keep the rules of
//! `wit/telemetry.wit`, or a [`DecodeError`]; a data point that OTLP forbids is left out and counted
//! with its reason ([`Rejection`]), so that its sender can be told, and costs no other point.
//!
//! Invariants: no panic, no recursion deeper than [`VALUE_DEPTH_MAX`], no memory beyond about twenty times the body (a body of
//! nothing but empty quantiles) and none from a claimed length. Equal attribute sets of one batch have one number.
//!
//! The crate knows neither WebAssembly nor Shoal's host, so that the host's benchmark compiles the very code that runs in
//! the sandbox. Reading order: [`decode_protobuf`] and [`decode_json`] (two grammars) call `batch` (the rules and the
//! columns), which uses `table` (what was seen before).
//!
//! ```
//! use shoal_otlp_decoder::{Decoder, decode_json};
//!
//! let body = br#"{"resourceMetrics": [{"scopeMetrics": [{"metrics": [{
//!     "name": "queue.length", "gauge": {"dataPoints": [{"timeUnixNano": "1", "asInt": "3"}]}
//! }]}]}]}"#;
//! let mut decoder = Decoder::default();
//! let decoded = decode_json(body, &mut decoder).expect("good JSON");
//! assert_eq!((decoded.points, decoded.rejected_points), (1, 0));
//! assert_eq!(decoder.columns().numbers.values, [3.0]);
//! ```

mod batch;
mod columns;
mod json;
mod protobuf;
mod table;
mod text;

pub mod generate;
pub mod wire;

pub use batch::{Decoded, REJECTIONS_MAX, Rejection};
pub use columns::{
    Columns, EXPLICIT_BOUNDS, HistogramColumns, NumberColumns, PART_COUNT, PART_QUANTILE, PART_SUM,
    PART_VALUE, SeriesColumns,
};

/// Longest body, in bytes after decompression: what the OTLP specification recommends as a server's limit. It
/// also keeps every offset within 32 bits.
pub const BODY_BYTES_MAX: usize = 64 << 20;

/// Deepest nesting of arrays and lists in an attribute's value: far more than any sender uses, far less
/// than the stack of a guest holds.
pub const VALUE_DEPTH_MAX: u32 = 32;

/// Why a body cannot be read. Nothing of it was taken; its sender should not send it again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than [`BODY_BYTES_MAX`].
    #[error("the body has {bytes} bytes, at most {BODY_BYTES_MAX} are taken; send smaller batches")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// Not an `ExportMetricsServiceRequest` in protobuf.
    #[error("not a protobuf ExportMetricsServiceRequest: at byte {offset}: {problem}")]
    Protobuf {
        /// Where in the body.
        offset: usize,
        /// What is wrong there.
        problem: String,
    },
    /// Not an `ExportMetricsServiceRequest` in OTLP's JSON.
    #[error("not an OTLP/JSON ExportMetricsServiceRequest: {path}: {problem} (byte {offset})")]
    Json {
        /// Which value, such as `resourceMetrics[0].scopeMetrics[0].metrics[2].name`; `body` for the whole.
        path: String,
        /// Where in the body.
        offset: usize,
        /// What is wrong there.
        problem: String,
    },
}

/// Turns bodies into columns. Keep one and use it again: its buffers stay.
#[derive(Default)]
pub struct Decoder {
    batch: batch::Batch,
    memo: protobuf::Memo,
    scratch: batch::Scratch,
}

impl Decoder {
    /// What the last body held; empty after an error.
    pub fn columns(&self) -> &Columns {
        &self.batch.columns
    }

    /// Moves the columns out. Give them back with [`Decoder::recycle`] to save allocating them anew.
    pub fn take_columns(&mut self) -> Columns {
        std::mem::take(&mut self.batch.columns)
    }

    /// Takes the memory of columns that are done with.
    pub fn recycle(&mut self, columns: Columns) {
        self.batch.columns = columns;
        self.batch.columns.clear();
    }

    fn begin(&mut self, body: &[u8]) -> Result<(), DecodeError> {
        self.batch.clear();
        match body.len() {
            bytes if bytes > BODY_BYTES_MAX => Err(DecodeError::TooLarge { bytes }),
            _ => Ok(()),
        }
    }
}

/// Decodes a protobuf body into [`Decoder::columns`].
///
/// Fields that OTLP 1.11 does not have are passed over, and so are exemplars and a metric's description and metadata.
///
/// # Errors
/// [`DecodeError::TooLarge`] and [`DecodeError::Protobuf`]; a data point at fault is no error but counted
/// in [`Decoded::rejected_points`].
pub fn decode_protobuf(body: &[u8], decoder: &mut Decoder) -> Result<Decoded, DecodeError> {
    decoder.begin(body)?;
    let Decoder {
        batch,
        memo,
        scratch,
    } = decoder;
    match protobuf::read(body, batch, memo, scratch) {
        Ok(()) => Ok(batch.finish()),
        Err(error) => {
            batch.clear();
            Err(DecodeError::Protobuf {
                offset: error.offset(body),
                problem: error.problem().to_string(),
            })
        }
    }
}

/// Decodes a JSON body into [`Decoder::columns`].
///
/// OTLP's own JSON: names in lowerCamelCase, 64-bit numbers as text or numbers, enumerations as numbers,
/// unknown names ignored. What is passed over is the same as in [`decode_protobuf`].
///
/// # Errors
/// [`DecodeError::TooLarge`] and [`DecodeError::Json`], which names the path of the value at fault.
pub fn decode_json(body: &[u8], decoder: &mut Decoder) -> Result<Decoded, DecodeError> {
    decoder.begin(body)?;
    let Decoder { batch, scratch, .. } = decoder;
    match json::read(body, batch, scratch) {
        Ok(()) => Ok(batch.finish()),
        Err(error) => {
            batch.clear();
            Err(error.into_decode_error())
        }
    }
}
