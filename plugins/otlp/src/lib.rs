//! Takes metrics from OpenTelemetry clients: OTLP over HTTP (protobuf, JSON) and gRPC.
//!
//! A request is decoded straight into columns, handed to the host, and answered in the client's own words once it is
//! durable. The decoder is kept between requests for its buffers only.

mod columns;
mod reply;

use std::cell::RefCell;

use reply::{Form, Problem, Stored};
use shoal_otlp_decoder::{Columns, DecodeError, Decoded, Decoder, decode_json, decode_protobuf};
use shoal_sdk::ingest::{self, Committed, IngestError};
use shoal_sdk::receiver::{Receiver, Request, Response, Transport};
use shoal_sdk::{Context, Failure, log};

struct Otlp;

/// There is nothing to set.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {}

impl Receiver for Otlp {
    type Settings = Settings;

    fn receive(_: &Context, request: Request, _: Settings) -> Result<Response, Failure> {
        let form = form(&request);
        let answer = form.clone().and_then(|form| store(form, &request.body));
        Ok(match answer {
            Ok(stored) => stored.response(form.unwrap_or_default()),
            Err(problem) => problem.response(form.unwrap_or_default()),
        })
    }
}

shoal_sdk::export_receiver!(Otlp);

thread_local! {
    static DECODER: RefCell<Decoder> = RefCell::default();
}

/// How the request is written, and so its answer.
fn form(request: &Request) -> Result<Form, Problem> {
    match (request.transport, request.method.as_str()) {
        (Transport::Grpc, _) => return Ok(Form::Grpc),
        (Transport::Http, "POST") => {}
        (Transport::Http, other) => {
            let message = format!("the method {other} is not allowed here; use POST");
            return Err(Problem::wrong_method(message));
        }
    }
    match request.content_type.as_str() {
        "application/x-protobuf" => Ok(Form::Protobuf),
        "application/json" => Ok(Form::Json),
        other => Err(Problem::unsupported(format!(
            "the content type {other:?} is not supported; send application/x-protobuf or application/json"
        ))),
    }
}

/// Decodes a body and makes it durable.
fn store(form: Form, body: &[u8]) -> Result<Stored, Problem> {
    DECODER.with_borrow_mut(|decoder| {
        let decoded = match form {
            Form::Protobuf | Form::Grpc => decode_protobuf(body, decoder),
            Form::Json => decode_json(body, decoder),
        };
        let decoded = decoded.map_err(unreadable)?;
        let committed = match decoder.columns().is_empty() {
            true => Committed {
                accepted: 0,
                rejected: 0,
                rejections: Vec::new(),
            },
            false => commit(decoder)?,
        };
        Ok(stored(&decoded, &committed))
    })
}

/// Hands the decoder's columns to the host and gets their memory back.
fn commit(decoder: &mut Decoder) -> Result<Committed, Problem> {
    let batch = columns::into_batch(decoder.take_columns());
    let committed = ingest::write_metrics(&batch);
    let columns: Columns = columns::from_batch(batch);
    decoder.recycle(columns);
    committed.map_err(|error| match error {
        IngestError::Overloaded(after_ms) => Problem::overloaded(after_ms),
        IngestError::Unavailable(why) => {
            Problem::unavailable(format!("the metrics could not be stored: {why}"))
        }
        IngestError::Malformed(why) => {
            log::error!("the host refuses our columns: {why}");
            Problem::internal(format!("the receiver made a malformed batch: {why}"))
        }
    })
}

fn unreadable(error: DecodeError) -> Problem {
    match error {
        DecodeError::TooLarge { .. } => Problem::too_large(error.to_string()),
        DecodeError::Protobuf { .. } | DecodeError::Json { .. } => {
            Problem::bad_data(error.to_string())
        }
    }
}

/// Adds up what the decoder left out and what the host refused.
fn stored(decoded: &Decoded, committed: &Committed) -> Stored {
    // The host counts rows, of which a summary has several.
    let refused = committed.rejected.min(decoded.points);
    let ours = decoded.rejections.iter().map(ToString::to_string);
    let hosts = committed.rejections.iter().map(|rejection| {
        let points = match rejection.points {
            1 => "1 point".to_owned(),
            many => format!("{many} points"),
        };
        format!("{points}: {}", rejection.reason)
    });
    Stored {
        rejected_points: decoded.rejected_points + refused,
        all_points: decoded.rejected_points + decoded.points,
        reasons: ours.chain(hosts).collect(),
    }
}

#[cfg(test)]
mod tests;
