//! Plays the host in native tests, so that a plugin's logic runs under plain `cargo test`.
//!
//! State is per thread, as tests are; making a [`FakeHost`] resets it and dropping it removes the answers.
//! A function without an answer behaves like a capability that was not granted.

pub(crate) mod net;

pub use net::FakePeer;

use std::cell::RefCell;

use crate::http::{HttpError, Request, Response};
use crate::ingest::{Committed, IngestError, Metrics};
use crate::log::Level;

type Http = Box<dyn FnMut(&Request) -> Result<Response, HttpError>>;
type Ingest = Box<dyn FnMut(&Metrics) -> Result<Committed, IngestError>>;

#[derive(Default)]
struct State {
    http: Option<Http>,
    now_unix_ms: Option<i64>,
    ingest: Option<Ingest>,
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

pub(crate) fn log(level: Level, message: &str) {
    STATE.with_borrow_mut(|state| state.lines.push((level, message.to_owned())));
}
