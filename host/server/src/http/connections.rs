//! Connections of an HTTP port: bounded in number, and a client that does not say what it wants is let go.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::task::{Stop, Tasks};

/// Connections of one port; a usual system gives a process 1,024 files. Further clients wait to be accepted.
const CONNECTIONS_MAX: usize = 800;
/// How long the head of a request may take to arrive, the time since the last answer included.
const HEAD_MAX: Duration = Duration::from_secs(60);
/// How often a silent client of HTTP/2 is asked whether it is there, and how long it may take to say so.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));
/// Requests at a time on one connection of HTTP/2.
const STREAMS_MAX: u32 = 100;
/// How long requests in progress may take to end.
const ENDING_MAX: Duration = Duration::from_secs(15);
/// Pause after the system had no room for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until told to stop; requests in progress are finished.
pub async fn serve(name: &'static str, listener: TcpListener, router: Router, mut stop: Stop) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (builder, connections) = (builder(), Tasks::new());
    loop {
        let (stream, slot) = tokio::select! {
            accepted = accept(name, &listener, &slots) => accepted,
            () = stop.requested() => break,
        };
        let (builder, router) = (builder.clone(), router.clone());
        connections.spawn("http connection", |stop| async move {
            serve_one(&builder, stream, router, stop).await;
            drop(slot);
        });
    }
    drop(listener);
    connections.shutdown(ENDING_MAX).await;
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(KEEPALIVE.0)
        .keep_alive_timeout(KEEPALIVE.1);
    builder
}

/// The next client, once there is room for it. Cancel-safe: a client is not yet accepted when this is dropped.
pub(crate) async fn accept(
    name: &'static str,
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    let slot = slots
        .clone()
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are written whole; an error only makes them slower.
                let _ = stream.set_nodelay(true);
                return (stream, slot);
            }
            Err(error) => {
                tracing::warn!(%error, server.name = name, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection. How it ends is the client's business and nobody's error.
async fn serve_one(
    builder: &Builder<TokioExecutor>,
    stream: TcpStream,
    router: Router,
    mut stop: Stop,
) {
    let service = TowerToHyperService::new(router);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.requested() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "a connection broke");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn a_request_in_progress_is_finished_and_an_idle_connection_is_closed() {
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let handler = {
            let (begun, go_on) = (begun.clone(), go_on.clone());
            move || async move {
                begun.notify_one();
                go_on.notified().await;
                "finished"
            }
        };
        let router = Router::new().route("/", get(handler));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let servers = Tasks::new();
        servers.spawn("test", |stop| serve("test", listener, router, stop));
        let mut idle = TcpStream::connect(address).await.expect("it listens");
        let mut client = TcpStream::connect(address).await.expect("it listens");
        let request = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n";
        client.write_all(request).await.expect("it is read");
        begun.notified().await;
        let ending = servers.shutdown(Duration::from_secs(60));
        let reading = async {
            let mut nothing = Vec::new();
            idle.read_to_end(&mut nothing).await.expect("it is closed");
            go_on.notify_one();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.expect("an answer");
            answer
        };
        let ((), answer) = tokio::join!(ending, reading);
        assert!(answer.ends_with("finished"), "{answer}");
        assert!(TcpStream::connect(address).await.is_err());
    }
}
