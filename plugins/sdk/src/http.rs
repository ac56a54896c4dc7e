//! HTTP requests through the host. Capability `http`; the host applies the grant and its own policy.
//!
//! One request is one exchange: nothing follows redirects, so a plugin that does passes each hop through
//! the host's policy again. Bodies are bounded, and the time-out covers the whole exchange.

mod url;
#[cfg(target_arch = "wasm32")]
mod wasi;

use std::fmt;
use std::time::Duration;

use crate::Failure;

pub use url::{Scheme, Url};

/// How long an exchange may take unless the request says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of an answer is kept unless the request says otherwise: enough for any API's error text.
pub const DEFAULT_BODY_MAX_BYTES: usize = 1024 * 1024;

/// A request to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    timeout: Duration,
    body_max_bytes: usize,
}

impl Request {
    /// Any method, in capitals, to an `http://` or `https://` address.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Request {
        Request {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout: DEFAULT_TIMEOUT,
            body_max_bytes: DEFAULT_BODY_MAX_BYTES,
        }
    }

    /// A `GET` request.
    pub fn get(url: impl Into<String>) -> Request {
        Request::new("GET", url)
    }

    /// A `POST` request.
    pub fn post(url: impl Into<String>) -> Request {
        Request::new("POST", url)
    }

    /// Adds a header; a name may come more than once.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Request {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The body; `content-length` is set by [`Request::send`].
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = body.into();
        self
    }

    /// How long the whole exchange may take, from connecting to the last byte that is kept.
    pub fn timeout(mut self, timeout: Duration) -> Request {
        self.timeout = timeout;
        self
    }

    /// How much of the answer's body is kept; the rest is not read and [`Response::is_truncated`] says so.
    pub fn body_max_bytes(mut self, most: usize) -> Request {
        self.body_max_bytes = most;
        self
    }

    /// The address as given.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The method as given.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The first header of that name, in any case.
    pub fn header_value(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter();
        let (_, value) = named.find(|(own, _)| own.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    /// The body's bytes.
    pub fn body_bytes(&self) -> &[u8] {
        &self.body
    }

    /// Sends the request and waits for the answer, whatever its status is.
    ///
    /// # Errors
    /// [`HttpError`] when there was no complete answer.
    pub fn send(&self) -> Result<Response, HttpError> {
        let url = Url::parse(&self.url)?;
        #[cfg(target_arch = "wasm32")]
        return wasi::send(self, &url);
        #[cfg(not(target_arch = "wasm32"))]
        {
            let _ = url;
            crate::double::send(self).map(|response| response.cut(self.body_max_bytes))
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    is_truncated: bool,
}

impl Response {
    /// An answer without headers and body, as a [`crate::double::FakeHost`] gives it.
    pub fn new(status: u16) -> Response {
        Response {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            is_truncated: false,
        }
    }

    /// Adds a header.
    pub fn with_header(mut self, name: &str, value: &str) -> Response {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Sets the body.
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Response {
        self.body = body.into();
        self
    }

    /// The status, 100 to 599.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether the status is 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The first header of that name, in any case, if it is UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter();
        let (_, value) = named.find(|(own, _)| own.eq_ignore_ascii_case(name))?;
        str::from_utf8(value).ok()
    }

    /// What `Retry-After` asks for, if it says so in seconds.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.header("retry-after")?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds))
    }

    /// The body's bytes, at most as many as the request wanted.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// Whether the body was longer than the request wanted.
    pub fn is_truncated(&self) -> bool {
        self.is_truncated
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn cut(mut self, most: usize) -> Response {
        self.is_truncated = self.body.len() > most;
        self.body.truncate(most);
        self
    }
}

/// Why there was no complete answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpError {
    /// The request cannot be sent as it is; the text names the part.
    Invalid(String),
    /// The grant or the host's address policy refuses the destination.
    Denied(String),
    /// The name has no address.
    NotFound(String),
    /// The exchange took longer than its time-out.
    TimedOut,
    /// The connection was refused or could not be made.
    Unreachable(String),
    /// The TLS handshake failed; the text says whether the certificate was at fault.
    Tls(String),
    /// The connection broke, or what came was not HTTP.
    Broken(String),
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpError::Invalid(what) => f.write_str(what),
            HttpError::Denied(why) => write!(f, "not allowed: {why}"),
            HttpError::NotFound(why) => write!(f, "name not found: {why}"),
            HttpError::TimedOut => f.write_str("timed out"),
            HttpError::Unreachable(why) => write!(f, "could not connect: {why}"),
            HttpError::Tls(why) => write!(f, "TLS failed: {why}"),
            HttpError::Broken(why) => write!(f, "the connection broke: {why}"),
        }
    }
}

impl std::error::Error for HttpError {}

/// What a plugin that delivers something does about it: only what may pass is tried again.
impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Failure {
        let message = error.to_string();
        match error {
            HttpError::Invalid(_) => Failure::rejected("bad-request", message),
            HttpError::Denied(_) => Failure::rejected("denied", message),
            HttpError::TimedOut => Failure::retry("timed-out", message),
            HttpError::NotFound(_) => Failure::retry("not-found", message),
            HttpError::Unreachable(_) => Failure::retry("unreachable", message),
            HttpError::Tls(_) => Failure::retry("tls", message),
            HttpError::Broken(_) => Failure::retry("broken", message),
        }
    }
}
