//! The two ends of HTTP that the demo needs, on loopback and without a library: asking the server, and being the page
//! that is checked and the address that is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The server answers everything that the demo asks within a run of a job.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What one peer may send; notifications have a few kilobytes.
const BODY_MAX_BYTES: u64 = 1 << 20;

/// Asks the server's API with one key.
pub(super) struct Api {
    pub(super) address: String,
    pub(super) key: String,
}

impl Api {
    pub(super) fn get(&self, path: &str) -> Result<Value> {
        self.send("GET", path, "")
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.send("POST", path, &body.to_string())
    }

    /// One exchange on a connection of its own. HTTP/1.0, so that the answer ends with the connection.
    fn send(&self, method: &str, path: &str, body: &str) -> Result<Value> {
        let asked = || format!("{method} http://{}{path}", self.address);
        let mut stream = TcpStream::connect(&self.address).with_context(asked)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            self.key,
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).with_context(asked)?;
        let (head, body) = answer.split_once("\r\n\r\n").with_context(asked)?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        let value: Value = serde_json::from_str(body).unwrap_or(Value::Null);
        if !status.starts_with('2') {
            let message = value["error"]["message"].as_str().unwrap_or(body);
            bail!("{} was answered with {status}: {message}", asked());
        }
        Ok(value)
    }

    /// The first value of a PromQL expression now; `None` when no series matches.
    pub(super) fn value_of(&self, promql: &str) -> Result<Option<f64>> {
        let path = format!("/prometheus/api/v1/query?query={}", encode(promql));
        let answer = self.get(&path)?;
        let text = answer["data"]["result"][0]["value"][1].as_str();
        text.map(|text| text.parse().with_context(|| format!("{promql}: {text:?}")))
            .transpose()
    }
}

/// Text as a part of a query.
pub(super) fn encode(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| match keep(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

/// Answers every request with 200 and hands on what was posted. Lives as long as the process.
pub(super) struct Listener {
    address: SocketAddr,
    posts: Receiver<Value>,
}

impl Listener {
    /// Listens on a free port of the loopback address.
    pub(super) fn start() -> Result<Listener> {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
        let address = socket.local_addr()?;
        let (tell, posts) = channel();
        std::thread::spawn(move || {
            // One connection after the other: the demo's peers come one at a time.
            for stream in socket.incoming().flatten() {
                // A peer that breaks off is no concern of the next one.
                let _ = answer(&stream, &tell);
            }
        });
        Ok(Listener { address, posts })
    }

    /// An address here.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The next JSON that was posted, if there is one.
    pub(super) fn next_post(&self) -> Option<Value> {
        self.posts.try_recv().ok()
    }
}

fn answer(stream: &TcpStream, tell: &Sender<Value>) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream.take(BODY_MAX_BYTES));
    let mut length = 0;
    let mut line = String::new();
    // The last line of the head is empty.
    while reader.read_line(&mut line)? > 2 {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
        line.clear();
    }
    let mut body = vec![0; usize::min(length, BODY_MAX_BYTES as usize)];
    reader.read_exact(&mut body)?;
    let page = "All is well.\n";
    let mut writer = stream;
    write!(
        writer,
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{page}",
        page.len()
    )?;
    if let Ok(post) = serde_json::from_slice(&body) {
        // Nobody listening means that the demo is over.
        let _ = tell.send(post);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_posted_to_the_listener_arrives() {
        let listener = Listener::start().expect("a free port");
        let api = Api {
            address: listener.address.to_string(),
            key: "k".to_owned(),
        };
        api.post("/hook", &json!({ "a": 1 })).expect("an answer");
        assert_eq!(listener.next_post(), Some(json!({ "a": 1 })));
        assert_eq!(listener.next_post(), None);
    }

    #[test]
    fn an_expression_cannot_leave_the_query() {
        assert_eq!(encode("a{b=\"c\"}&d"), "a%7Bb%3D%22c%22%7D%26d");
    }
}
