//! A web server of the test: the page that checks look at, and the receiver that channels post to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::eventually;

/// Remembers every POST and answers everything with one status. Ends when dropped.
pub(crate) struct Listener {
    address: SocketAddr,
    heard: Arc<Heard>,
    task: JoinHandle<()>,
}

struct Heard {
    status: AtomicU16,
    requests: AtomicUsize,
    posts: Mutex<Vec<Post>>,
}

/// One POST.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    /// What it was answered with.
    pub(crate) status: u16,
}

impl Listener {
    /// Listens on a free port of the loopback address and answers 200.
    pub(crate) async fn start() -> Listener {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        let heard = Arc::new(Heard {
            status: AtomicU16::new(200),
            requests: AtomicUsize::new(0),
            posts: Mutex::default(),
        });
        let router = Router::new().fallback(hear).with_state(heard.clone());
        let task = tokio::spawn(async move {
            axum::serve(socket, router)
                .await
                .expect("the listener listens");
        });
        Listener {
            address,
            heard,
            task,
        }
    }

    /// An address here.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Answers with this status from now on.
    pub(crate) fn answer_with(&self, status: u16) {
        self.heard.status.store(status, Ordering::SeqCst);
    }

    /// How many requests have come, of any method.
    pub(crate) fn requests(&self) -> usize {
        self.heard.requests.load(Ordering::SeqCst)
    }

    /// Every POST so far, in the order of their arrival.
    pub(crate) fn posts(&self) -> Vec<Post> {
        self.heard.posts.lock().clone()
    }

    /// Waits for the first POST that `is_wanted`.
    pub(crate) async fn wait_for(&self, what: &str, is_wanted: impl Fn(&Post) -> bool) -> Post {
        eventually(what, async || {
            self.posts().into_iter().find(|post| is_wanted(post))
        })
        .await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn hear(State(heard): State<Arc<Heard>>, request: Request) -> (StatusCode, &'static str) {
    heard.requests.fetch_add(1, Ordering::SeqCst);
    let (parts, body) = request.into_parts();
    let bytes: Bytes = axum::body::to_bytes(body, 1 << 20)
        .await
        .expect("tests send small bodies");
    let status = heard.status.load(Ordering::SeqCst);
    if parts.method == reqwest::Method::POST {
        heard.posts.lock().push(Post {
            path: parts.uri.path().to_owned(),
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            status,
        });
    }
    let status = StatusCode::from_u16(status).expect("tests set real statuses");
    (status, "all is well\n")
}
