//! One HTTP request that a test expects, and the answer that it gives.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::egress::target::Target;
use crate::golden::compare::difference;

/// An entry of `http` in `[[tests]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpExchange {
    /// Method and URL, such as `POST https://hooks.example.com/a?b`.
    pub(crate) request: String,
    /// Headers that it must have, compared like `expect`.
    #[serde(default)]
    request_headers: Map<String, Value>,
    /// Its body: text, `{ contains = "…" }`, or a table that is compared with its JSON.
    request_body: Option<Value>,
    #[serde(default)]
    pub(crate) answer: HttpAnswer,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpAnswer {
    status: Option<u16>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    json: Option<Value>,
    body_base64: Option<String>,
    /// There is no answer.
    pub(crate) error: Option<AnswerError>,
}

/// How a peer fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AnswerError {
    /// Its name has no address.
    Dns,
    /// Nobody listens.
    Refused,
    /// No connection in time.
    Timeout,
    /// It takes the request and hangs up.
    Closed,
}

/// A request in one way to write it.
pub(crate) fn request_line(method: &Method, is_tls: bool, target: &Target, path: &str) -> String {
    let (scheme, port) = if is_tls { ("https", 443) } else { ("http", 80) };
    let host = &target.host;
    if target.port == port {
        format!("{method} {scheme}://{host}{path}")
    } else {
        format!("{method} {scheme}://{host}:{}{path}", target.port)
    }
}

impl HttpExchange {
    /// Checks what the author wrote, and writes the request in the one way.
    pub(crate) fn checked(mut self) -> Result<HttpExchange, String> {
        self.request = normal(&self.request)?;
        self.answer.check()?;
        Ok(self)
    }

    /// Whether the request goes there.
    pub(crate) fn is_to(&self, target: &Target, is_tls: bool) -> bool {
        let origin = request_line(&Method::GET, is_tls, target, "/");
        let origin = origin.split_once(' ').map_or("", |(_, url)| url);
        let url = self.request.split_once(' ').map_or("", |(_, url)| url);
        url.starts_with(origin)
    }

    /// What is not as expected in a request.
    pub(crate) fn difference(
        &self,
        line: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Option<String> {
        if line != self.request {
            return Some(format!("expected {}, found {line}", self.request));
        }
        for (name, expected) in &self.request_headers {
            let at = format!("{line}: header {name}");
            let Some(found) = headers.get(name) else {
                return Some(format!("{at} is missing"));
            };
            let found = String::from_utf8_lossy(found.as_bytes()).into_owned();
            if let Some(difference) = difference(expected, &found.into(), &at) {
                return Some(difference);
            }
        }
        let expected = self.request_body.as_ref()?;
        let at = format!("{line}: body");
        let text = || Value::from(String::from_utf8_lossy(body).into_owned());
        let is_text = expected.is_string() || expected.get("contains").is_some();
        let found = if is_text {
            text()
        } else {
            serde_json::from_slice(body).unwrap_or_else(|_| text())
        };
        difference(expected, &found, &at)
    }
}

impl HttpAnswer {
    fn check(&self) -> Result<(), String> {
        let status = self.status.unwrap_or(200);
        if !(200..600).contains(&status) {
            return Err(format!("answer.status: {status} is not 200 to 599"));
        }
        let bodies = [
            self.body.is_some(),
            self.json.is_some(),
            self.body_base64.is_some(),
        ];
        if bodies.into_iter().filter(|is_given| *is_given).count() > 1 {
            return Err("answer: give one of body, json and body_base64".to_owned());
        }
        if let Some(text) = &self.body_base64 {
            BASE64
                .decode(text)
                .map_err(|e| format!("answer.body_base64: {e}"))?;
        }
        for (name, value) in &self.headers {
            let is_header =
                name.parse::<HeaderName>().is_ok() && HeaderValue::from_str(value).is_ok();
            if !is_header {
                return Err(format!("answer.headers: {name:?} is no header"));
            }
        }
        Ok(())
    }

    pub(crate) fn response(&self) -> Response<Full<Bytes>> {
        let body = match (&self.body, &self.json, &self.body_base64) {
            (Some(text), ..) => Bytes::from(text.clone()),
            (_, Some(json), _) => Bytes::from(json.to_string()),
            (.., Some(base64)) => BASE64.decode(base64).unwrap_or_default().into(),
            _ => Bytes::new(),
        };
        let mut response = Response::new(Full::new(body));
        let status = self.status.and_then(|s| StatusCode::from_u16(s).ok());
        *response.status_mut() = status.unwrap_or(StatusCode::OK);
        let headers = response.headers_mut();
        if self.json.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, value) in &self.headers {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse()) {
                headers.insert(name, value);
            }
        }
        response
    }
}

/// `post https://EXAMPLE.com` as `POST https://example.com/`.
fn normal(request: &str) -> Result<String, String> {
    let wrong = |why: &str| {
        format!("request: {request:?} {why}; write it as \"GET https://example.com/path\"")
    };
    let (method, url) = request.split_once(' ').ok_or_else(|| wrong("has no URL"))?;
    let method: Method = method
        .to_ascii_uppercase()
        .parse()
        .map_err(|_| wrong("has no method"))?;
    let uri: Uri = url.parse().map_err(|_| wrong("has no URL"))?;
    let target = Target::of_uri(&uri).map_err(|why| wrong(&why))?;
    let is_tls = uri.scheme_str() == Some("https");
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok(request_line(&method, is_tls, &target, path))
}
