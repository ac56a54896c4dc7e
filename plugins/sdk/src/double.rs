//! Plays the host in native tests, so that a plugin's logic runs under plain `cargo test`.
//!
//! State is per thread, as tests are; making a [`FakeHost`] resets it and dropping it removes the answers.
//! A function without an answer behaves like a capability that was not granted.

pub(crate) mod net;

pub use net::FakePeer;

use std::cell::RefCell;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::http::{HttpError, Request, Response};
use crate::ingest::{Committed, IngestError, Metrics};
use crate::kv::KvError;
use crate::log::Level;
use crate::mail::{MailError, Message};
use crate::secrets::{KeyEncoding, SecretError};

type Http = Box<dyn FnMut(&Request) -> Result<Response, HttpError>>;
type Ingest = Box<dyn FnMut(&Metrics) -> Result<Committed, IngestError>>;
type Mail = Box<dyn FnMut(&Message) -> Result<String, MailError>>;

#[derive(Default)]
struct State {
    http: Option<Http>,
    now_unix_ms: Option<i64>,
    ingest: Option<Ingest>,
    mail: Option<Mail>,
    values: Option<BTreeMap<String, Vec<u8>>>,
    secrets: BTreeMap<String, String>,
    messages: Vec<Message>,
    requests: Vec<Request>,
    batches: Vec<Metrics>,
    lines: Vec<(Level, String)>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

/// The host's side of this thread's calls while it lives.
///
/// ```
/// use shoal_sdk::double::FakeHost;
/// use shoal_sdk::http::{Request, Response};
///
/// let host = FakeHost::new().http(|_| Ok(Response::new(204)));
/// let response = Request::get("http://127.0.0.1/health").send().expect("an answer");
/// assert_eq!(response.status(), 204);
/// assert_eq!(host.requests()[0].url(), "http://127.0.0.1/health");
/// ```
#[must_use = "dropping it removes the answers"]
pub struct FakeHost(());

impl FakeHost {
    /// A host that grants nothing yet.
    #[expect(
        clippy::new_without_default,
        reason = "making one resets the thread's state"
    )]
    pub fn new() -> FakeHost {
        net::reset();
        STATE.set(State::default());
        FakeHost(())
    }

    /// Answers HTTP requests.
    pub fn http(
        self,
        answer: impl FnMut(&Request) -> Result<Response, HttpError> + 'static,
    ) -> FakeHost {
        STATE.with_borrow_mut(|state| state.http = Some(Box::new(answer)));
        self
    }

    /// Stops the clock of [`crate::clock`] at a time, milliseconds since the Unix epoch.
    pub fn at_unix_ms(self, now: i64) -> FakeHost {
        STATE.with_borrow_mut(|state| state.now_unix_ms = Some(now));
        self
    }

    /// Answers [`crate::ingest::write_metrics`].
    pub fn ingest(
        self,
        answer: impl FnMut(&Metrics) -> Result<Committed, IngestError> + 'static,
    ) -> FakeHost {
        STATE.with_borrow_mut(|state| state.ingest = Some(Box::new(answer)));
        self
    }

    /// Takes mail.
    pub fn mail(
        self,
        answer: impl FnMut(&Message) -> Result<String, MailError> + 'static,
    ) -> FakeHost {
        STATE.with_borrow_mut(|state| state.mail = Some(Box::new(answer)));
        self
    }

    /// Keeps values; none at first, and none expires.
    pub fn kv(self) -> FakeHost {
        STATE.with_borrow_mut(|state| state.values = Some(BTreeMap::new()));
        self
    }

    /// Knows the secret that a reference stands for, to sign with it. References go out as they are.
    pub fn secret(self, reference: &str, secret: &str) -> FakeHost {
        STATE.with_borrow_mut(|state| {
            state
                .secrets
                .insert(reference.to_owned(), secret.to_owned())
        });
        self
    }

    /// The messages handed over so far, in order, refused ones too.
    pub fn messages(&self) -> Vec<Message> {
        STATE.with_borrow(|state| state.messages.clone())
    }

    /// The values that are kept.
    pub fn values(&self) -> BTreeMap<String, Vec<u8>> {
        STATE.with_borrow(|state| state.values.clone().unwrap_or_default())
    }

    /// The requests sent so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        STATE.with_borrow(|state| state.requests.clone())
    }

    /// The batches handed over so far, in order.
    pub fn batches(&self) -> Vec<Metrics> {
        STATE.with_borrow(|state| state.batches.clone())
    }

    /// The lines written so far, in order.
    pub fn lines(&self) -> Vec<(Level, String)> {
        STATE.with_borrow(|state| state.lines.clone())
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        net::reset();
        STATE.set(State::default());
    }
}

pub(crate) fn send(request: &Request) -> Result<Response, HttpError> {
    let answer = STATE.with_borrow_mut(|state| {
        state.requests.push(request.clone());
        state.http.take()
    });
    let denied = || HttpError::Denied("the fake host has no answer to HTTP".to_owned());
    let mut answer = answer.ok_or_else(denied)?;
    let response = answer(request);
    STATE.with_borrow_mut(|state| state.http = Some(answer));
    response
}

pub(crate) fn now_unix_ms() -> Option<i64> {
    STATE.with_borrow(|state| state.now_unix_ms)
}

pub(crate) fn write_metrics(batch: &Metrics) -> Result<Committed, IngestError> {
    let answer = STATE.with_borrow_mut(|state| {
        state.batches.push(batch.clone());
        state.ingest.take()
    });
    let unavailable = || IngestError::Unavailable("the fake host has no ingest".to_owned());
    let mut answer = answer.ok_or_else(unavailable)?;
    let committed = answer(batch);
    STATE.with_borrow_mut(|state| state.ingest = Some(answer));
    committed
}

pub(crate) fn send_mail(message: &Message) -> Result<String, MailError> {
    let answer = STATE.with_borrow_mut(|state| {
        state.messages.push(message.clone());
        state.mail.take()
    });
    let denied = || MailError::Denied("the fake host takes no mail".to_owned());
    let mut answer = answer.ok_or_else(denied)?;
    let taken = answer(message);
    STATE.with_borrow_mut(|state| state.mail = Some(answer));
    taken
}

fn with_values<T>(work: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> T) -> Result<T, KvError> {
    STATE.with_borrow_mut(|state| {
        let values = state
            .values
            .as_mut()
            .ok_or_else(|| KvError::Unavailable("the fake host keeps no values".to_owned()))?;
        Ok(work(values))
    })
}

pub(crate) fn get(key: &str) -> Result<Option<Vec<u8>>, KvError> {
    with_values(|values| values.get(key).cloned())
}

pub(crate) fn set(key: &str, value: &[u8], _: Option<u64>) -> Result<(), KvError> {
    with_values(|values| drop(values.insert(key.to_owned(), value.to_owned())))
}

pub(crate) fn swap(
    key: &str,
    expected: Option<&[u8]>,
    new: Option<&[u8]>,
    _: Option<u64>,
) -> Result<bool, KvError> {
    with_values(|values| {
        let is_expected = values.get(key).map(Vec::as_slice) == expected;
        if is_expected {
            match new {
                Some(new) => drop(values.insert(key.to_owned(), new.to_owned())),
                None => drop(values.remove(key)),
            }
        }
        is_expected
    })
}

pub(crate) fn delete(key: &str) -> Result<(), KvError> {
    with_values(|values| drop(values.remove(key)))
}

pub(crate) fn keys(prefix: &str) -> Result<Vec<String>, KvError> {
    with_values(|values| {
        let keys = values.keys().filter(|key| key.starts_with(prefix));
        keys.cloned().collect()
    })
}

pub(crate) fn hmac_sha256(
    reference: &str,
    encoding: KeyEncoding,
    data: &[u8],
) -> Result<Vec<u8>, SecretError> {
    let secret = STATE.with_borrow(|state| state.secrets.get(reference).cloned());
    let denied = || SecretError::Denied("the fake host knows no such reference".to_owned());
    let secret = secret.ok_or_else(denied)?;
    let key = match encoding {
        KeyEncoding::Text => secret.into_bytes(),
        KeyEncoding::Base64 => {
            let text = secret.rsplit('_').next().unwrap_or_default();
            let wrong = |_| SecretError::Malformed("the secret is not base64".to_owned());
            BASE64.decode(text).map_err(wrong)?
        }
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of any length");
    mac.update(data);
    Ok(mac.finalize().into_bytes().to_vec())
}

pub(crate) fn log(level: Level, message: &str) {
    STATE.with_borrow_mut(|state| state.lines.push((level, message.to_owned())));
}
