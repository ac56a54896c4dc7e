//! Secrets on the way out: a granted reference becomes the secret, any other keeps the request from being sent.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Body;
use memchr::memmem;
use percent_encoding::{percent_decode_str, utf8_percent_encode};
use serde_json::Value;
use shoal_model::grant::SecretPlace;
use wasmtime_wasi_http::{Error, WasiBody};

use super::needles::{SEGMENT, UNRESERVED};
use super::scrub::Scrubbed;
use super::{Secret, Secrets};
use crate::egress::target::Target;

/// A request as it goes out.
pub(crate) struct Filled {
    pub(crate) request: Request<WasiBody>,
    /// The setting of a secret that it carries; such a request needs TLS.
    pub(crate) carries: Option<String>,
}

/// Why a request does not go out.
#[derive(Debug)]
pub(crate) enum Unfilled {
    /// A reference stands where it may not; the sentence goes on after "the request to … was refused: ".
    Refused(String),
    /// Its body did not come whole.
    Body(Error),
}

impl Secrets {
    /// Puts secrets in the place of their references.
    ///
    /// The body is gathered first, `body_max_bytes` at most, because a reference in it must be found before anything is
    /// sent. An installation without secrets is not held up.
    pub(crate) async fn fill(
        &self,
        target: &Target,
        request: Request<WasiBody>,
        body_max_bytes: u64,
    ) -> Result<Filled, Unfilled> {
        if self.is_empty() {
            let carries = None;
            return Ok(Filled { request, carries });
        }
        let (mut head, body) = request.into_parts();
        let body = gather(body, body_max_bytes).await.map_err(Unfilled::Body)?;
        let mut draft = Draft {
            target,
            uri: head.uri,
            headers: head.headers,
            body,
        };
        let mut carries = None;
        for secret in &self.list {
            if draft.fill(secret).map_err(Unfilled::Refused)? {
                carries = Some(secret.setting.clone());
            }
        }
        // What is compressed could not be searched for secrets.
        draft.headers.remove(header::ACCEPT_ENCODING);
        if draft.headers.contains_key(header::CONTENT_LENGTH) {
            let length = HeaderValue::from(draft.body.len());
            draft.headers.insert(header::CONTENT_LENGTH, length);
        }
        head.uri = draft.uri;
        head.headers = draft.headers;
        let body = Full::new(Bytes::from(draft.body)).map_err(|never| match never {});
        Ok(Filled {
            request: Request::from_parts(head, body.boxed_unsync()),
            carries,
        })
    }

    /// Covers secrets in an answer's headers, and in its body as it comes.
    ///
    /// # Errors
    /// The body is encoded in this way, so that it cannot be searched.
    pub(crate) fn scrub<B>(&self, answer: Response<B>) -> Result<Response<Scrubbed<B>>, String> {
        let (mut head, body) = answer.into_parts();
        if !self.is_empty() {
            let encoding = head.headers.get(header::CONTENT_ENCODING);
            if let Some(encoding) = encoding.filter(|encoding| *encoding != "identity") {
                return Err(String::from_utf8_lossy(encoding.as_bytes()).into_owned());
            }
            self.scrubber.cover_headers(&mut head.headers);
        }
        let body = Scrubbed::new(body, self.scrubber.clone());
        Ok(Response::from_parts(head, body))
    }
}

/// The bytes of a body.
async fn gather(mut body: WasiBody, max_bytes: u64) -> Result<Vec<u8>, Error> {
    let too_large = || Error::HttpRequestBodySize(Some(max_bytes));
    if body.size_hint().lower() > max_bytes {
        return Err(too_large());
    }
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        // Trailers of a request mean nothing to the servers that a secret is for.
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if (all.len() + data.len()) as u64 > max_bytes {
            return Err(too_large());
        }
        all.extend_from_slice(&data);
    }
    Ok(all)
}

/// A request that is being filled.
struct Draft<'a> {
    target: &'a Target,
    uri: Uri,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Draft<'_> {
    /// Puts one secret in place of its references; whether there was one.
    fn fill(&mut self, secret: &Secret) -> Result<bool, String> {
        let in_uri = self.fill_uri(secret)?;
        let in_headers = self.fill_headers(secret)?;
        let in_body = self.fill_body(secret)?;
        Ok(in_uri || in_headers || in_body)
    }

    fn fill_uri(&mut self, secret: &Secret) -> Result<bool, String> {
        let whole = self
            .uri
            .path_and_query()
            .map_or("/", |whole| whole.as_str());
        if !whole.contains(&secret.token) {
            return Ok(false);
        }
        let (path, query) = match whole.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (whole, None),
        };
        let query = query.map(|query| self.query(secret, query)).transpose()?;
        let filled = match path.contains(&secret.token) {
            true => self.path(secret, path, query)?,
            false => joined(path, query),
        };
        let mut parts = std::mem::take(&mut self.uri).into_parts();
        let wrong = |_| secret.unfit("the path of a URL");
        parts.path_and_query = Some(filled.parse().map_err(wrong)?);
        self.uri = Uri::from_parts(parts).map_err(|_| secret.unfit("a URL"))?;
        Ok(true)
    }

    /// A path with the secret, and the query behind it.
    fn path(&self, secret: &Secret, path: &str, query: Option<String>) -> Result<String, String> {
        secret.may(&SecretPlace::Path, self.target)?;
        let Some(real) = &secret.path else {
            let value = utf8_percent_encode(&secret.value, SEGMENT).to_string();
            // Neither would stay a segment: who receives it would go up a folder.
            if matches!(secret.value.as_str(), "." | "..") {
                return Err(secret.unfit("a segment of a path"));
            }
            return Ok(joined(&path.replace(&secret.token, &value), query));
        };
        // The token of a URL is all of its path; what a guest puts behind it comes behind the real one.
        let rest = path
            .strip_prefix('/')
            .and_then(|path| path.strip_prefix(secret.token.as_str()))
            .filter(|rest| rest.is_empty() || rest.starts_with('/'))
            .filter(|rest| !rest.contains(&secret.token))
            .ok_or_else(|| secret.nowhere("a part of the path, where it is all of the path"))?;
        let (real, own) = match real.split_once('?') {
            Some((real, own)) => (real, Some(own)),
            None => (real.as_str(), None),
        };
        let path = match rest {
            "" => Cow::Borrowed(real),
            rest => Cow::Owned(format!("{}{rest}", real.trim_end_matches('/'))),
        };
        let query = match (own, query) {
            (Some(own), Some(query)) => Some(format!("{own}&{query}")),
            (Some(own), None) => Some(own.to_owned()),
            (None, query) => query,
        };
        Ok(joined(&path, query))
    }

    fn query(&self, secret: &Secret, query: &str) -> Result<String, String> {
        let pairs = query.split('&').map(|pair| {
            let decoded = |text: &str| {
                let text = text.replace('+', " ");
                percent_decode_str(&text).decode_utf8_lossy().into_owned()
            };
            let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
            let (decoded_name, value) = (decoded(name), decoded(text));
            if decoded_name.contains(&secret.token) {
                return Err(secret.nowhere("the name of a query parameter"));
            }
            if !value.contains(&secret.token) {
                return Ok(pair.to_owned());
            }
            secret.may(&SecretPlace::Query(decoded_name), self.target)?;
            let value = secret.put_in(&value)?;
            Ok(format!(
                "{name}={}",
                utf8_percent_encode(&value, UNRESERVED)
            ))
        });
        let pairs: Vec<String> = pairs.collect::<Result<_, _>>()?;
        Ok(pairs.join("&"))
    }

    fn fill_headers(&mut self, secret: &Secret) -> Result<bool, String> {
        let mut is_filled = false;
        for (name, value) in &mut self.headers {
            if name.as_str().contains(&secret.token) {
                return Err(secret.nowhere("the name of a header"));
            }
            let Some(text) = with_reference(value, &secret.token) else {
                continue;
            };
            secret.may(&SecretPlace::Header(name.as_str().to_owned()), self.target)?;
            let filled = match text {
                Text::Plain(text) => secret.put_in(&text)?,
                Text::Basic(text) => format!("Basic {}", BASE64.encode(secret.put_in(&text)?)),
            };
            *value =
                HeaderValue::from_bytes(filled.as_bytes()).map_err(|_| secret.unfit("a header"))?;
            value.set_sensitive(true);
            is_filled = true;
        }
        Ok(is_filled)
    }

    fn fill_body(&mut self, secret: &Secret) -> Result<bool, String> {
        let count = |needle: &str| memmem::find_iter(&self.body, needle).count();
        let mentions = count(&secret.token);
        if mentions == 0 {
            return Ok(false);
        }
        let json: Value = serde_json::from_slice(&self.body)
            .map_err(|_| secret.nowhere("a body that is not JSON"))?;
        let mut pointers = Vec::new();
        find(&json, &secret.token, "", &mut pointers);
        for (pointer, text) in &pointers {
            secret.may(&SecretPlace::Body(pointer.clone()), self.target)?;
            if *text != secret.reference {
                return Err(secret.nowhere("a longer text of a JSON body"));
            }
        }
        // Every mention must be one of these strings: not a field's name, and not one of two fields with one name, of
        // which the receiver might take the other.
        let quoted = |text: &str| serde_json::to_string(text).expect("text has JSON text");
        let reference = quoted(&secret.reference);
        if mentions != pointers.len() || count(&reference) != mentions {
            return Err(secret.nowhere("the name of a JSON field, or twice under one name"));
        }
        let body = String::from_utf8_lossy(&self.body);
        self.body = body
            .replace(&reference, &quoted(&secret.value))
            .into_bytes();
        Ok(true)
    }
}

fn joined(path: &str, query: Option<impl AsRef<str>>) -> String {
    match query {
        Some(query) => format!("{path}?{}", query.as_ref()),
        None => path.to_owned(),
    }
}

/// A header's value that holds a reference.
enum Text {
    Plain(String),
    /// The `user:password` of HTTP's Basic authentication.
    Basic(String),
}

fn with_reference(value: &HeaderValue, token: &str) -> Option<Text> {
    if memmem::find(value.as_bytes(), token.as_bytes()).is_some() {
        return Some(Text::Plain(
            String::from_utf8_lossy(value.as_bytes()).into_owned(),
        ));
    }
    let text = value.to_str().ok()?;
    let (scheme, credentials) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let credentials = BASE64.decode(credentials.trim()).ok()?;
    let credentials = String::from_utf8(credentials).ok()?;
    credentials
        .contains(token)
        .then_some(Text::Basic(credentials))
}

/// Pointers (RFC 6901) and texts of the strings that hold a token.
fn find<'a>(json: &'a Value, token: &str, at: &str, found: &mut Vec<(String, &'a str)>) {
    match json {
        Value::String(text) if text.contains(token) => found.push((at.to_owned(), text)),
        Value::Array(list) => {
            for (i, item) in list.iter().enumerate() {
                find(item, token, &format!("{at}/{i}"), found);
            }
        }
        Value::Object(map) => {
            for (name, item) in map {
                let name = name.replace('~', "~0").replace('/', "~1");
                find(item, token, &format!("{at}/{name}"), found);
            }
        }
        _ => {}
    }
}

impl Secret {
    /// Whether it may go to this place of a request to this target.
    fn may(&self, place: &SecretPlace, target: &Target) -> Result<(), String> {
        let is_granted = self
            .uses
            .iter()
            .any(|(own, to)| own == place && to.allows(target));
        if is_granted {
            return Ok(());
        }
        let setting = &self.setting;
        Err(format!(
            "it holds the secret {setting} in the place {place}, and `secret {setting} {place} {target}` is not granted; if it belongs there, the manifest asks for it: [[capabilities]] kind = \"secrets\", secret = \"{setting}\", places = [\"{place}\"], hosts = [\"{target}\"], or setting = the one with this URL"
        ))
    }

    /// A text with the secret instead of its reference.
    fn put_in(&self, text: &str) -> Result<String, String> {
        let filled = text.replace(&self.reference, &self.value);
        if filled.contains(&self.token) {
            return Err(self.nowhere("a text that holds only a part of its reference"));
        }
        Ok(filled)
    }

    fn nowhere(&self, place: &str) -> String {
        let setting = &self.setting;
        format!("it holds the secret {setting} in {place}, and the host puts no secret there")
    }

    fn unfit(&self, place: &str) -> String {
        let setting = &self.setting;
        format!("the secret {setting} holds characters that {place} cannot have")
    }
}
