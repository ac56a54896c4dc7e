//! The server that a guest talks to, which is as hostile as the case wants.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// How every connection is answered, once something of a request has come.
#[derive(Clone)]
pub(crate) struct Answer {
    head: Vec<u8>,
    /// What follows again and again, and the pause before each; `None` ends the connection when the peer does.
    endless: Option<(Vec<u8>, Duration)>,
}

impl Answer {
    /// This, and then silence.
    pub(crate) fn once(bytes: impl Into<Vec<u8>>) -> Answer {
        Answer {
            head: bytes.into(),
            endless: None,
        }
    }

    /// This, and then `part` for ever, with a pause before each.
    pub(crate) fn endless(head: &str, part: impl Into<Vec<u8>>, pause: Duration) -> Answer {
        Answer {
            head: head.into(),
            endless: Some((part.into(), pause)),
        }
    }
}

/// Listens on a free port of this machine until the test ends; returns the port.
pub(crate) async fn start(answer: Answer) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, answer.clone()));
        }
    });
    port
}

/// Writes until the peer has had enough.
async fn serve(mut stream: TcpStream, answer: Answer) {
    let mut request = vec![0; 64 << 10];
    if stream.read(&mut request).await.is_err() || stream.write_all(&answer.head).await.is_err() {
        return;
    }
    if let Some((part, pause)) = answer.endless {
        loop {
            tokio::time::sleep(pause).await;
            if stream.write_all(&part).await.is_err() {
                return;
            }
        }
    }
    while stream.read(&mut request).await.is_ok_and(|n| n > 0) {}
}
