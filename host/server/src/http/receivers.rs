//! The port of receivers: OTLP over HTTP and whatever else a receiver plugin declares paths for.
//!
//! No path is known here; the tenant's plugins decide. Refusals by the host are told as OTLP's clients expect them: a
//! `google.rpc.Status`, in protobuf to those who sent protobuf and in JSON to all others.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use shoal_runtime::{Endpoint, ReceiverRequest, ReceiverResponse, Transport};

use crate::ingest::body::{self, BODY_MAX_BYTES, Encoding};
use crate::ingest::problem::Problem;
use crate::ingest::receive::Receivers;
use crate::ingest::rpc_status::{rpc_status, rpc_status_json};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
/// Longest content type that is handed on.
const CONTENT_TYPE_MAX_BYTES: usize = 200;

/// The service of the receivers' port.
pub fn router(receivers: Arc<Receivers>) -> Router {
    Router::new().fallback(receive).with_state(receivers)
}

async fn receive(State(receivers): State<Arc<Receivers>>, request: Request) -> Response {
    let content_type = content_type(request.headers());
    match serve(&receivers, request, &content_type).await {
        Ok(response) => answer(response),
        Err(problem) => refusal(problem, &content_type),
    }
}

async fn serve(
    receivers: &Receivers,
    request: Request,
    content_type: &str,
) -> Result<ReceiverResponse, Problem> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let endpoint = Endpoint::Http(path.clone());
    let accepted = receivers.accept(&head.headers, &endpoint).await;
    let accepted = accepted.and_then(|accepted| {
        Ok((
            Encoding::parse(head.headers.get(CONTENT_ENCODING))?,
            accepted,
        ))
    });
    let (encoding, mut accepted) = match accepted {
        Ok(accepted) => accepted,
        Err(problem) => {
            body::discard(body).await;
            return Err(problem);
        }
    };
    let body = body::read(body, BODY_MAX_BYTES, &mut accepted.admitted).await?;
    let (body, admitted) = body::decode(encoding, body, accepted.admitted).await?;
    accepted.admitted = admitted;
    let request = ReceiverRequest {
        transport: Transport::Http,
        endpoint: path,
        method: head.method.as_str().to_owned(),
        content_type: content_type.to_owned(),
        body,
    };
    receivers.receive(accepted, request).await
}

/// Without parameters, in small letters; empty when there is none that makes sense.
fn content_type(headers: &HeaderMap) -> String {
    let text = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    match essence.len() {
        ..=CONTENT_TYPE_MAX_BYTES => essence.to_ascii_lowercase(),
        _ => String::new(),
    }
}

/// What a plugin answered.
fn answer(response: ReceiverResponse) -> Response {
    let status = StatusCode::from_u16(response.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut headers = HeaderMap::new();
    if let Ok(content_type) = response.content_type.parse::<HeaderValue>()
        && !content_type.is_empty()
    {
        headers.insert(CONTENT_TYPE, content_type);
    }
    // What a plugin says is for programs: no browser shall take it for a page.
    headers.insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    put_retry_after(&mut headers, response.retry_after);
    (status, headers, response.body).into_response()
}

/// What the host says, in the client's own form.
fn refusal(problem: Problem, content_type: &str) -> Response {
    let Problem {
        http_status,
        grpc_code,
        message,
        retry_after,
    } = problem;
    let (form, body) = match content_type {
        PROTOBUF => (PROTOBUF, rpc_status(grpc_code, &message, retry_after)),
        _ => (JSON, rpc_status_json(grpc_code, &message, retry_after)),
    };
    let status = StatusCode::from_u16(http_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(form));
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    put_retry_after(&mut headers, retry_after);
    (status, headers, body).into_response()
}

/// In whole seconds, rounded up.
fn put_retry_after(headers: &mut HeaderMap, after: Option<std::time::Duration>) {
    if let Some(after) = after {
        let seconds = after.as_millis().div_ceil(1000).max(1);
        let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
}

#[cfg(test)]
mod tests;
