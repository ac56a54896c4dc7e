//! `wasi:http` behind the gate: one connection and one request at a time, bounded in every direction.
//!
//! No redirects are followed here: a guest that follows one passes the gate again.

use std::error::Error as _;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::egress::allow::Act;
use crate::egress::connect::{ConnectError, Stream};
use crate::egress::gate::Gate;
use crate::egress::target::Target;
use crate::egress::{Contacts, HANDSHAKE_MAX, tls};
use crate::secrets::outgoing::{Filled, Unfilled};

/// Longest wait for the first byte of an answer; the call's own time ends it sooner.
const FIRST_BYTE_MAX: Duration = Duration::from_secs(30);
/// Longest wait between two parts of an answer.
const BETWEEN_BYTES_MAX: Duration = Duration::from_secs(10);
/// Head of an answer, in bytes, give or take one read; common servers send 8 KiB at most.
const HEAD_MAX_BYTES: usize = 64 << 10;
/// Headers of an answer.
const HEADERS_MAX: usize = 100;
/// Headers that a guest may hold at a time, in memory.
pub(crate) const FIELDS_MAX_BYTES: usize = 32 << 10;
/// Largest single write into a request's body; the guest writes again for more.
const CHUNK_MAX_BYTES: usize = 64 << 10;

const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("shoal/", env!("CARGO_PKG_VERSION")));

type Driver = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Result<(Response<WasiBody>, Driver), Error>;

impl WasiHttpHooks for Gate {
    fn is_supported_scheme(&mut self, scheme: &Scheme) -> bool {
        *scheme == Scheme::HTTPS || *scheme == Scheme::HTTP
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_MAX_BYTES
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Driver,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let gate = self.clone();
        Box::new(async move {
            gate.may_ask().map_err(|_| Error::ConnectionLimitReached)?;
            gate.send(request, options.unwrap_or_default()).await
        })
    }

    // The defaults of these warn in the host's log, which a guest could flood.
    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        if error.is_timeout() {
            ErrorCode::HttpResponseTimeout
        } else {
            ErrorCode::HttpProtocolError
        }
    }

    fn p2_error_from_connect(&mut self, _: &std::io::Error) -> ErrorCode {
        ErrorCode::ConnectionRefused
    }

    fn p2_error_from_tls(&mut self, _: &std::io::Error) -> ErrorCode {
        ErrorCode::TlsProtocolError
    }
}

impl Gate {
    async fn send(&self, request: Request<WasiBody>, options: RequestOptions) -> Sent {
        let target = Target::of_uri(request.uri()).map_err(|why| {
            self.log
                .remark(format!("the request was refused: its URL {why}"));
            Error::HttpRequestUriInvalid
        })?;
        if request.method() == Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        self.check(Act::Http(request.method()), &target)
            .map_err(|_| Error::HttpRequestDenied)?;
        let connection = self.may_hold();
        let connection = connection.map_err(|_| Error::ConnectionLimitReached)?;
        let is_tls = request.uri().scheme() == Some(&Scheme::HTTPS);
        let filled = self
            .secrets
            .fill(&target, request, self.request_body_max_bytes);
        let Filled { request, carries } = filled.await.map_err(|e| self.unfilled(&target, e))?;
        let opening = self.open(&target, is_tls, carries.as_deref());
        let stream = match options.connect_timeout {
            Some(wanted) => timeout(wanted, opening)
                .await
                .map_err(|_| Error::ConnectionTimeout)??,
            None => opening.await?,
        };
        let (answer, driver) = self.exchange(&target, stream, request, options).await?;
        let driver: Driver = Box::new(async move {
            let _open = connection;
            Box::into_pin(driver).await
        });
        Ok((answer, driver))
    }

    /// Connects, with TLS if it is wanted; a secret goes without only where the operator opened the address.
    async fn open(
        &self,
        target: &Target,
        is_tls: bool,
        secret: Option<&str>,
    ) -> Result<Box<dyn Stream>, Error> {
        if let Some(script) = &self.network.script {
            let played = script.open(target, is_tls).map_err(|e| {
                self.log.remark(e.to_string());
                http_error(e)
            })?;
            if let Some(peer) = played {
                self.contacts.contacted(target);
                return Ok(Box::new(peer));
            }
        }
        let connected = self.network.connect(target).await;
        let stream = connected.map_err(|e| {
            match &e {
                ConnectError::AddressRefused { .. } => drop(self.refuse(target, &e)),
                error => self.log.remark(error.to_string()),
            }
            http_error(e)
        })?;
        self.contacts.contacted(target);
        if !is_tls {
            let peer = stream.peer_addr();
            return match secret {
                Some(secret) if !peer.is_ok_and(|peer| self.network.policy.opens(peer.ip())) => {
                    self.log.remark(format!(
                        "the request to {target} was refused: it holds the secret {secret} and would go without TLS; use https://, or have the operator open the address (network.allow_private)"
                    ));
                    Err(Error::HttpRequestDenied)
                }
                _ => Ok(Box::new(stream)),
            };
        }
        let name = tls::server_name(&target.host).ok_or(Error::HttpRequestUriInvalid)?;
        let connector = TlsConnector::from(Arc::clone(&self.network.tls));
        match timeout(HANDSHAKE_MAX, connector.connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(e)) => {
                self.log.remark(format!("no TLS with {target}: {e}"));
                Err(tls_error(&e))
            }
            Err(_) => {
                self.log
                    .remark(format!("{target} did not finish a TLS handshake in time"));
                Err(Error::ConnectionTimeout)
            }
        }
    }

    /// Sends one request over a fresh connection and awaits the head of the answer.
    async fn exchange(
        &self,
        target: &Target,
        stream: Box<dyn Stream>,
        request: Request<WasiBody>,
        options: RequestOptions,
    ) -> Sent {
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_MAX_BYTES)
            .max_headers(HEADERS_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.broken(target, &e))?;
        let mut connection = Box::pin(connection);
        let first_byte = options.first_byte_timeout.unwrap_or(FIRST_BYTE_MAX);
        let mut answer = pin!(timeout(
            first_byte.min(FIRST_BYTE_MAX),
            sender.send_request(self.prepared(request)?)
        ));
        let mut is_driven = true;
        let answer = tokio::select! {
            answer = &mut answer => answer,
            // The connection may end before its answer has been looked at.
            _ = &mut connection => {
                is_driven = false;
                answer.await
            }
        };
        let answer = answer
            .map_err(|_| {
                self.log.remark(format!("{target} did not answer in time"));
                Error::ConnectionReadTimeout
            })?
            .map_err(|e| self.broken(target, &e))?;
        let between = options.between_bytes_timeout.unwrap_or(BETWEEN_BYTES_MAX);
        let answer = answer.map(|body| Answer::new(body, self.body_max_bytes, between));
        let answer = self.secrets.scrub(answer).map_err(|encoding| {
            self.log.remark(format!(
                "the answer of {target} was dropped: its body is encoded ({encoding}) and cannot be searched for secrets"
            ));
            Error::HttpResponseContentCoding(Some(encoding))
        })?;
        let answer = answer.map(|body| body.boxed_unsync());
        let driver: Driver = Box::new(async move {
            if is_driven {
                // The guest learns of a broken connection from the body.
                let _ = connection.await;
            }
            Ok(())
        });
        Ok((answer, driver))
    }

    /// The request as it goes over the wire: path only, bounded body, a name of ours unless the guest gave one.
    fn prepared(&self, request: Request<WasiBody>) -> Result<Request<Bounded>, Error> {
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = path
            .parse::<Uri>()
            .ok()
            .filter(|uri| uri.authority().is_none())
            .ok_or(Error::HttpRequestUriInvalid)?;
        head.headers.entry(header::USER_AGENT).or_insert(USER_AGENT);
        let max_bytes = self.request_body_max_bytes;
        self.contacts.sent(head_bytes(&head));
        Ok(Request::from_parts(
            head,
            Bounded {
                body,
                contacts: self.contacts.clone(),
                max_bytes,
                left: max_bytes,
            },
        ))
    }

    fn unfilled(&self, target: &Target, why: Unfilled) -> Error {
        let (why, error) = match why {
            Unfilled::Refused(why) => (why, Error::HttpRequestDenied),
            Unfilled::Body(error) => (format!("its body: {error}"), error),
        };
        self.log
            .remark(format!("the request to {target} was refused: {why}"));
        error
    }

    fn broken(&self, target: &Target, error: &hyper::Error) -> Error {
        let from_body = error
            .source()
            .and_then(|cause| cause.downcast_ref::<Error>());
        if let Some(Error::HttpRequestBodySize(max)) = from_body {
            self.log.remark(format!(
                "the request to {target} was ended: its body is larger than {} bytes",
                self.request_body_max_bytes
            ));
            return Error::HttpRequestBodySize(*max);
        }
        self.log
            .remark(format!("the exchange with {target} failed: {error}"));
        if error.is_parse_too_large() {
            Error::HttpResponseHeaderSectionSize(Some(HEAD_MAX_BYTES as u32))
        } else if error.is_parse() {
            Error::HttpProtocolError
        } else if error.is_incomplete_message() {
            Error::HttpResponseIncomplete
        } else {
            Error::ConnectionTerminated
        }
    }
}

fn http_error(error: ConnectError) -> Error {
    match error {
        ConnectError::AddressRefused { .. } => Error::DestinationIpProhibited,
        ConnectError::NotFound(_) => Error::DestinationNotFound,
        ConnectError::ResolveTimedOut(_) => Error::DnsTimeout,
        ConnectError::ConnectTimedOut(_) => Error::ConnectionTimeout,
        ConnectError::Refused { .. } => Error::ConnectionRefused,
    }
}

fn tls_error(error: &std::io::Error) -> Error {
    let cause = error
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        _ => Error::TlsProtocolError,
    }
}

/// About what a request's head takes on the wire.
fn head_bytes(head: &http::request::Parts) -> usize {
    const LINE_BYTES: usize = " HTTP/1.1\r\n\r\n".len();
    let headers = head.headers.iter();
    let headers = headers.map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    let path = head
        .uri
        .path_and_query()
        .map_or(1, |path| path.as_str().len());
    head.method.as_str().len() + path + LINE_BYTES + headers.sum::<usize>()
}

/// A request's body that is counted, and ends in an error when it grows too large.
struct Bounded {
    body: WasiBody,
    contacts: Contacts,
    max_bytes: u64,
    left: u64,
}

impl Body for Bounded {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            if !take(&mut self.left, frame) {
                let max = self.max_bytes;
                return Poll::Ready(Some(Err(Error::HttpRequestBodySize(Some(max)))));
            }
            let data = frame.data_ref();
            self.contacts.sent(data.map_or(0, Bytes::len));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body that ends in an error when it grows too large or stalls.
struct Answer {
    body: Incoming,
    max_bytes: u64,
    left: u64,
    between: Duration,
    stalled: Pin<Box<Sleep>>,
}

impl Answer {
    fn new(body: Incoming, max_bytes: u64, between: Duration) -> Answer {
        let between = between.min(BETWEEN_BYTES_MAX);
        Answer {
            body,
            max_bytes,
            left: max_bytes,
            between,
            stalled: Box::pin(sleep(between)),
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Pending => {
                ready!(this.stalled.as_mut().poll(cx));
                Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(_))) => Poll::Ready(Some(Err(Error::HttpResponseIncomplete))),
            Poll::Ready(Some(Ok(frame))) => {
                this.stalled.as_mut().reset(Instant::now() + this.between);
                Poll::Ready(Some(if take(&mut this.left, &frame) {
                    Ok(frame)
                } else {
                    Err(Error::HttpResponseBodySize(Some(this.max_bytes)))
                }))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Subtracts a frame's size; false when there is no room for it.
fn take(left: &mut u64, frame: &Frame<Bytes>) -> bool {
    let size = frame.data_ref().map_or(0, |data| data.len() as u64);
    match left.checked_sub(size) {
        Some(rest) => {
            *left = rest;
            true
        }
        None => false,
    }
}
