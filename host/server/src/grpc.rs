//! OTLP over gRPC, and whatever else a receiver plugin declares unary methods for.
//!
//! No message is known here: the bytes of one message go to the tenant's plugin and its answer's bytes back. The
//! frame is read here and not by tonic's codec, because a request must be authenticated before its body is
//! read, its bytes must be counted while they arrive, and a message that is too long must be refused for good
//! (tonic says OUT_OF_RANGE, upon which OTLP clients send it again).

mod connections;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use shoal_runtime::{Endpoint, ReceiverRequest, Transport};
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::metadata::MetadataValue;
use tonic::transport::Server;
use tonic::{Code, Status};
use tower::Service;

use crate::ingest::body::{self, BODY_MAX_BYTES, Encoding};
use crate::ingest::problem::Problem;
use crate::ingest::receive::Receivers;
use crate::ingest::rpc_status::{retry_info, rpc_status};
use crate::task::Stop;

/// A flag and the length.
const FRAME_HEAD_BYTES: usize = 5;
/// Requests at a time on one connection.
const STREAMS_MAX: u32 = 100;
/// How often a silent client is asked whether it is there, and how long it may take to say so.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));
/// Bytes that a client may send before it is told to go on, of a request and of a connection.
const WINDOW_BYTES: (u32, u32) = (1 << 20, 4 << 20);
/// Most bytes of headers; metadata of a client is a key and little else.
const HEADERS_MAX_BYTES: u32 = 16 << 10;
/// Longest message of a status: what fits into a client's usual 8 KiB of trailers twice, encoded.
const MESSAGE_MAX_BYTES: usize = 1000;

/// Serves until told to stop; requests in progress are finished.
pub async fn serve(listener: TcpListener, receivers: Arc<Receivers>, mut stop: Stop) {
    let incoming = connections::incoming(listener);
    let served = Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .initial_stream_window_size(WINDOW_BYTES.0)
        .initial_connection_window_size(WINDOW_BYTES.1)
        .http2_max_header_list_size(HEADERS_MAX_BYTES)
        .serve_with_incoming_shutdown(Unary { receivers }, incoming, async move {
            stop.requested().await;
        });
    if let Err(error) = served.await {
        tracing::error!(%error, "the gRPC server ended");
    }
}

/// Every unary method.
#[derive(Clone)]
struct Unary {
    receivers: Arc<Receivers>,
}

impl Service<Request<Body>> for Unary {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let receivers = self.receivers.clone();
        Box::pin(async move {
            let answer = answer(&receivers, request).await;
            Ok(answer.unwrap_or_else(|status| status.into_http()))
        })
    }
}

async fn answer(receivers: &Receivers, request: Request<Body>) -> Result<Response<Body>, Status> {
    let (head, body) = request.into_parts();
    if !is_grpc(&head.headers) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Ok(response);
    }
    let path = head.uri.path().to_owned();
    let response = receive(receivers, &head.headers, path, body)
        .await
        .map_err(|problem| status(problem.grpc_code, &problem.message, problem.retry_after))?;
    match response.status {
        0 => Ok(success(response.body)),
        code => Err(status(
            i32::from(code),
            &response.message,
            response.retry_after,
        )),
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(http::header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

async fn receive(
    receivers: &Receivers,
    headers: &HeaderMap,
    path: String,
    body: Body,
) -> Result<shoal_runtime::ReceiverResponse, Problem> {
    let endpoint = Endpoint::Grpc(path.clone());
    let mut accepted = receivers.accept(headers, &endpoint).await?;
    let encoding = Encoding::parse(headers.get("grpc-encoding"))?;
    let max_bytes = BODY_MAX_BYTES + FRAME_HEAD_BYTES;
    let frame = body::read(body, max_bytes, &mut accepted.admitted).await?;
    let (encoding, message) = unframe(frame, encoding)?;
    let (body, admitted) = body::decode(encoding, message, accepted.admitted).await?;
    accepted.admitted = admitted;
    let request = ReceiverRequest {
        transport: Transport::Grpc,
        endpoint: path,
        method: "POST".to_owned(),
        content_type: "application/grpc".to_owned(),
        body,
    };
    receivers.receive(accepted, request).await
}

/// Takes the one message out of a unary call's body.
fn unframe(mut frame: Vec<u8>, encoding: Encoding) -> Result<(Encoding, Vec<u8>), Problem> {
    let Some((head, message)) = frame.split_first_chunk::<FRAME_HEAD_BYTES>() else {
        return Err(Problem::bad_request("the call carries no message"));
    };
    let [flag, a, b, c, d] = *head;
    let announced = u32::from_be_bytes([a, b, c, d]) as usize;
    if announced != message.len() {
        return Err(Problem::bad_request(format!(
            "the call announces a message of {announced} bytes and carries {}; a unary call carries one message",
            message.len()
        )));
    }
    let encoding = match flag {
        0 => Encoding::Identity,
        1 if encoding == Encoding::Gzip => Encoding::Gzip,
        1 => {
            return Err(Problem::bad_request(
                "the message is marked as compressed, but the call names no grpc-encoding",
            ));
        }
        other => {
            return Err(Problem::bad_request(format!(
                "the message's compression flag is {other}; it has to be 0 or 1"
            )));
        }
    };
    frame.drain(..FRAME_HEAD_BYTES);
    Ok((encoding, frame))
}

fn success(message: Vec<u8>) -> Response<Body> {
    let mut frame = Vec::with_capacity(FRAME_HEAD_BYTES + message.len());
    frame.push(0);
    // The runtime bounds a plugin's answer to 4 MiB.
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(&message);
    let trailers = async {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Some(Ok(trailers))
    };
    let body = Full::new(Bytes::from(frame)).with_trailers(trailers);
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    headers.insert(
        "grpc-accept-encoding",
        HeaderValue::from_static("gzip,identity"),
    );
    response
}

/// A status with, when the client should come back, `RetryInfo`: among the details as the standard has it, and
/// as metadata, where the exporters of some languages look for it.
fn status(code: i32, message: &str, retry_after: Option<Duration>) -> Status {
    let message = &message[..message.floor_char_boundary(MESSAGE_MAX_BYTES)];
    let details = rpc_status(code, message, retry_after);
    let mut status = Status::with_details(Code::from_i32(code), message, details.into());
    if let Some(after) = retry_after {
        let value = MetadataValue::from_bytes(&retry_info(after));
        status
            .metadata_mut()
            .insert_bin("google.rpc.retryinfo-bin", value);
    }
    status
}

#[cfg(test)]
mod tests;
