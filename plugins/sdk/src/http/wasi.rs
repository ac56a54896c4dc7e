//! The exchange over `wasi:http` 0.2, polled against one timer so that the time-out covers all of it.

use std::time::Duration;

use wasip2::clocks::monotonic_clock;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingResponse, Method, OutgoingBody,
    OutgoingRequest, RequestOptions, Scheme, http_error_code,
};
use wasip2::io::poll::{Pollable, poll};
use wasip2::io::streams::StreamError;

use super::{HttpError, Request, Response, Url};

/// How much is read at once.
const CHUNK_BYTES: u64 = 64 * 1024;

pub(super) fn send(request: &Request, url: &Url) -> Result<Response, HttpError> {
    let timer = Timer::after(request.timeout);
    let outgoing = outgoing(request, url)?;
    // The body must be taken before the request is handed over, and written after.
    let body = match request.body.is_empty() {
        true => None,
        false => Some(outgoing.body().map_err(|()| invalid("body taken twice"))?),
    };
    let options = options(request.timeout)?;
    let future = outgoing_handler::handle(outgoing, Some(options)).map_err(http_error)?;
    if let Some(body) = body {
        write(body, &request.body, &timer)?;
    }
    let incoming = answer(&future, &timer)?;
    read(&incoming, request.body_max_bytes, &timer)
}

/// Ends the exchange when its time is over.
struct Timer(Pollable);

impl Timer {
    fn after(timeout: Duration) -> Timer {
        Timer(monotonic_clock::subscribe_duration(nanos(timeout)))
    }

    /// Waits until `ready` is, or the time is over.
    fn wait(&self, ready: &Pollable) -> Result<(), HttpError> {
        // Index 0 first: what is there counts even when the time is over as well.
        match poll(&[ready, &self.0]).contains(&0) {
            true => Ok(()),
            false => Err(HttpError::TimedOut),
        }
    }
}

fn outgoing(request: &Request, url: &Url) -> Result<OutgoingRequest, HttpError> {
    let headers = Fields::new();
    let add = |name: &str, value: &str| {
        headers
            .append(name, value.as_bytes())
            .map_err(|error| invalid(&format!("header {name:?} cannot be sent: {error}")))
    };
    for (name, value) in &request.headers {
        add(name, value)?;
    }
    let has_body = matches!(request.method.as_str(), "POST" | "PUT" | "PATCH");
    if has_body || !request.body.is_empty() {
        add("content-length", &request.body.len().to_string())?;
    }
    let outgoing = OutgoingRequest::new(headers);
    let scheme = match url.scheme {
        super::Scheme::Http => Scheme::Http,
        super::Scheme::Https => Scheme::Https,
    };
    outgoing
        .set_method(&method(&request.method))
        .map_err(|()| invalid(&format!("{:?} is not a method", request.method)))?;
    outgoing
        .set_scheme(Some(&scheme))
        .and_then(|()| outgoing.set_authority(Some(&url.authority)))
        .and_then(|()| outgoing.set_path_with_query(Some(&url.path_with_query)))
        .map_err(|()| invalid(&format!("{:?} is not a web address", request.url)))?;
    Ok(outgoing)
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        _ => Method::Other(name.to_owned()),
    }
}

fn options(timeout: Duration) -> Result<RequestOptions, HttpError> {
    let options = RequestOptions::new();
    let timeout = Some(nanos(timeout));
    options
        .set_connect_timeout(timeout)
        .and_then(|()| options.set_first_byte_timeout(timeout))
        .and_then(|()| options.set_between_bytes_timeout(timeout))
        .map_err(|()| invalid("the host does not take time-outs"))?;
    Ok(options)
}

fn write(body: OutgoingBody, mut bytes: &[u8], timer: &Timer) -> Result<(), HttpError> {
    let stream = body.write().map_err(|()| invalid("body written twice"))?;
    while !bytes.is_empty() {
        match stream.check_write() {
            Ok(0) => timer.wait(&stream.subscribe())?,
            Ok(room) => {
                let room = usize::try_from(room).unwrap_or(usize::MAX);
                let (now, later) = bytes.split_at(room.min(bytes.len()));
                if stream.write(now).is_err() {
                    return Ok(());
                }
                bytes = later;
            }
            // The peer reads no further; it may have answered all the same.
            Err(_) => return Ok(()),
        }
    }
    if stream.flush().is_err() {
        return Ok(());
    }
    drop(stream);
    OutgoingBody::finish(body, None).map_err(http_error)
}

fn answer(future: &FutureIncomingResponse, timer: &Timer) -> Result<IncomingResponse, HttpError> {
    timer.wait(&future.subscribe())?;
    match future.get() {
        Some(Ok(Ok(incoming))) => Ok(incoming),
        Some(Ok(Err(code))) => Err(http_error(code)),
        Some(Err(())) | None => Err(HttpError::Broken("no answer".to_owned())),
    }
}

fn read(incoming: &IncomingResponse, most: usize, timer: &Timer) -> Result<Response, HttpError> {
    let mut response = Response::new(incoming.status());
    response.headers = incoming.headers().entries();
    let taken = || HttpError::Broken("the body was taken twice".to_owned());
    let body = incoming.consume().map_err(|()| taken())?;
    let stream = body.stream().map_err(|()| taken())?;
    loop {
        match stream.read(CHUNK_BYTES) {
            Ok(chunk) if chunk.is_empty() => timer.wait(&stream.subscribe())?,
            Ok(chunk) => {
                let room = most - response.body.len();
                response
                    .body
                    .extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() > room {
                    response.is_truncated = true;
                    return Ok(response);
                }
            }
            Err(StreamError::Closed) => return Ok(response),
            Err(StreamError::LastOperationFailed(error)) => {
                let code = http_error_code(&error);
                let broken = || HttpError::Broken(error.to_debug_string());
                return Err(code.map_or_else(broken, http_error));
            }
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn invalid(what: &str) -> HttpError {
    HttpError::Invalid(what.to_owned())
}

fn http_error(code: ErrorCode) -> HttpError {
    let text = code.to_string();
    match code {
        ErrorCode::HttpRequestDenied => HttpError::Denied(
            "the grant does not allow this request; the log of the call says what is missing"
                .to_owned(),
        ),
        ErrorCode::DestinationIpProhibited => {
            HttpError::Denied("the deployment does not allow this address".to_owned())
        }
        ErrorCode::DnsError(detail) => {
            HttpError::NotFound(detail.rcode.unwrap_or_else(|| "no address".to_owned()))
        }
        ErrorCode::DestinationNotFound => HttpError::NotFound("no address".to_owned()),
        ErrorCode::DnsTimeout
        | ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => HttpError::TimedOut,
        ErrorCode::ConnectionRefused => HttpError::Unreachable("connection refused".to_owned()),
        ErrorCode::DestinationUnavailable
        | ErrorCode::DestinationIpUnroutable
        | ErrorCode::ConnectionLimitReached => HttpError::Unreachable(text),
        ErrorCode::TlsCertificateError => {
            HttpError::Tls("the certificate is not trusted".to_owned())
        }
        ErrorCode::TlsProtocolError => HttpError::Tls("the handshake failed".to_owned()),
        ErrorCode::TlsAlertReceived(alert) => HttpError::Tls(
            alert
                .alert_message
                .unwrap_or_else(|| "the peer sent an alert".to_owned()),
        ),
        ErrorCode::HttpRequestMethodInvalid
        | ErrorCode::HttpRequestUriInvalid
        | ErrorCode::HttpRequestUriTooLong
        | ErrorCode::HttpRequestBodySize(_)
        | ErrorCode::HttpRequestHeaderSectionSize(_)
        | ErrorCode::HttpRequestHeaderSize(_) => HttpError::Invalid(text),
        ErrorCode::InternalError(Some(why)) => HttpError::Broken(why),
        _ => HttpError::Broken(text),
    }
}
