//! What stands in for the network in a rehearsal: answers written beforehand, and faults.
//!
//! A scripted network opens no socket. A request passes the same gate as ever (grant, bounds, time-outs, HTTP
//! itself); only the peer is played, by a server at the other end of a pipe in memory.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::time::sleep;

use crate::bindings::shoal::plugin::net::NetError;
use crate::egress::connect::ConnectError;
use crate::egress::net::net_error;
use crate::egress::target::{Host, Target};
use crate::rehearsal::exchange::{AnswerError, HttpExchange, request_line};
use crate::rehearsal::faults::Faults;
use crate::rehearsal::net::{NetAnswer, NetExchange};

/// What is on its way between the plugin and its peer at a time.
const PIPE_BYTES: usize = 64 << 10;

/// What happens to a connection that no answer was written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beyond {
    /// It is made, on the real network.
    IsMade,
    /// It is refused and remembered as a problem.
    IsProblem,
}

/// What is answered, each list in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exchanges {
    pub(crate) http: Vec<HttpExchange>,
    pub(crate) net: Vec<NetExchange>,
}

/// The peers of one rehearsal.
pub(crate) struct Script {
    exchanges: Mutex<VecDeque<HttpExchange>>,
    net: Mutex<VecDeque<NetExchange>>,
    problems: Mutex<Vec<String>>,
    faults: Faults,
    beyond: Beyond,
}

impl Script {
    pub(crate) fn new(exchanges: Exchanges, faults: Faults, beyond: Beyond) -> Script {
        Script {
            exchanges: Mutex::new(exchanges.http.into()),
            net: Mutex::new(exchanges.net.into()),
            problems: Mutex::default(),
            faults,
            beyond,
        }
    }

    /// What the plugin did that was not in the script, in order.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.problems.lock().clone()
    }

    /// The requests that were not made.
    pub(crate) fn left(&self) -> Vec<String> {
        let (http, net) = (self.exchanges.lock(), self.net.lock());
        let http = http.iter().map(|e| e.request.clone());
        http.chain(net.iter().map(|e| e.request.clone())).collect()
    }

    /// Before a name is resolved on the real network.
    pub(crate) async fn before_resolving(&self, target: &Target) -> Result<(), ConnectError> {
        self.resolve(target)?;
        if self.beyond == Beyond::IsProblem {
            return Err(self.problem(target, format!("{target} is not in the script")));
        }
        if let Some(delay) = self.faults.delay {
            sleep(delay).await;
        }
        Ok(())
    }

    /// The peer of an HTTP request; `None` leaves it to the real network.
    pub(crate) fn open(
        self: &Arc<Script>,
        target: &Target,
        is_tls: bool,
    ) -> Result<Option<Played>, ConnectError> {
        let is_real = self.beyond == Beyond::IsMade && self.faults.http_status.is_none();
        if is_real {
            return Ok(None);
        }
        self.resolve(target)?;
        if self.faults.http_status.is_none() {
            self.refusal(target, is_tls)?;
        }
        Ok(Some(Played::new(Arc::clone(self), target.clone(), is_tls)))
    }

    /// The answer to an operation of `net`; `None` leaves it to the real network.
    ///
    /// # Errors
    /// What goes wrong with it, because the test or a fault says so or nothing was written for it.
    pub(crate) async fn net(
        &self,
        request: String,
        target: &Target,
    ) -> Result<Option<NetAnswer>, NetError> {
        if self.beyond == Beyond::IsMade {
            return Ok(None);
        }
        self.resolve(target).map_err(net_error)?;
        if let Some(delay) = self.faults.delay {
            sleep(delay).await;
        }
        let next = self.net.lock().pop_front();
        let problem = match next {
            Some(next) if next.request == request => {
                return match next.answer.error(&request) {
                    Some(error) => Err(error),
                    None => Ok(Some(next.answer)),
                };
            }
            Some(next) => format!("expected {}, found {request}", next.request),
            None => format!("{request} is beyond the script"),
        };
        self.note(problem.clone());
        Err(NetError::Failed(problem))
    }

    fn resolve(&self, target: &Target) -> Result<(), ConnectError> {
        if self.faults.dns && matches!(target.host, Host::Name(_)) {
            return Err(ConnectError::NotFound(target.clone()));
        }
        Ok(())
    }

    /// The error that the next exchange wants before a request is sent.
    fn refusal(&self, target: &Target, is_tls: bool) -> Result<(), ConnectError> {
        let mut exchanges = self.exchanges.lock();
        let is_next = |next: &HttpExchange| next.is_to(target, is_tls);
        let Some(next) = exchanges.front().filter(|next| is_next(next)) else {
            return Ok(());
        };
        let error = match next.answer.error {
            Some(AnswerError::Dns) => ConnectError::NotFound(target.clone()),
            Some(AnswerError::Timeout) => ConnectError::ConnectTimedOut(target.clone()),
            Some(AnswerError::Refused) => ConnectError::Refused {
                target: target.clone(),
                source: io::ErrorKind::ConnectionRefused.into(),
            },
            Some(AnswerError::Closed) | None => return Ok(()),
        };
        exchanges.pop_front();
        Err(error)
    }

    /// Plays the peer for one request.
    async fn answer(
        &self,
        line: String,
        request: hyper::Request<Incoming>,
    ) -> Result<hyper::Response<Full<Bytes>>, Closed> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| Closed)?.to_bytes();
        if let Some(delay) = self.faults.delay {
            sleep(delay).await;
        }
        if let Some(status) = self.faults.http_status {
            let mut response = hyper::Response::new(Full::from("a fault was asked for"));
            *response.status_mut() = status;
            return Ok(response);
        }
        let next = self.exchanges.lock().pop_front();
        let Some(next) = next else {
            self.note(format!("{line} is beyond the script"));
            return Err(Closed);
        };
        if let Some(difference) = next.difference(&line, &head.headers, &body) {
            self.note(difference);
        }
        match next.answer.error {
            Some(_) => Err(Closed),
            None => Ok(next.answer.response()),
        }
    }

    fn problem(&self, target: &Target, problem: String) -> ConnectError {
        self.note(problem.clone());
        ConnectError::Refused {
            target: target.clone(),
            source: io::Error::other(problem),
        }
    }

    fn note(&self, problem: String) {
        self.problems.lock().push(problem);
    }
}

/// The peer hangs up.
#[derive(Debug, thiserror::Error)]
#[error("the script closes the connection")]
struct Closed;

type Server = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection to a peer that is played; the peer acts whenever the connection is looked at.
pub(crate) struct Played {
    near: DuplexStream,
    server: Option<Server>,
}

impl Played {
    fn new(script: Arc<Script>, target: Target, is_tls: bool) -> Played {
        let (near, far) = duplex(PIPE_BYTES);
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
            let line = request_line(request.method(), is_tls, &target, path);
            let script = Arc::clone(&script);
            async move { script.answer(line, request).await }
        });
        let server = async move {
            // How it ends shows at the near end.
            let _ = http1::Builder::new()
                .keep_alive(false)
                .auto_date_header(false)
                .serve_connection(TokioIo::new(far), service)
                .await;
        };
        Played {
            near,
            server: Some(Box::pin(server)),
        }
    }

    fn act(&mut self, cx: &mut Context<'_>) {
        if let Some(server) = &mut self.server
            && server.as_mut().poll(cx).is_ready()
        {
            self.server = None;
        }
    }
}

impl AsyncRead for Played {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.act(cx);
        Pin::new(&mut self.near).poll_read(cx, buf)
    }
}

impl AsyncWrite for Played {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.near).poll_write(cx, buf);
        self.act(cx);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.act(cx);
        Pin::new(&mut self.near).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.act(cx);
        Pin::new(&mut self.near).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
