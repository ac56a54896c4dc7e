//! Talks to a running server.

use anyhow::{Context as _, Result, anyhow, bail};
use reqwest::Method;
use serde_json::Value;

use super::Server;
use crate::serve::OPERATOR_KEY_FILE;

/// A server and the key to use there.
pub(super) struct Client {
    http: reqwest::Client,
    server: String,
    key: String,
}

impl Client {
    /// The server and key of the command line; without a key, the operator's from the data folder.
    pub(super) fn new(server: &Server) -> Result<Client> {
        let key = match &server.key {
            Some(key) => key.clone(),
            None => {
                let path = server.data_folder.join(OPERATOR_KEY_FILE);
                std::fs::read_to_string(&path).with_context(|| {
                    format!("no API key: give --key, or --data-folder with {OPERATOR_KEY_FILE} (looked in {})", path.display())
                })?
            }
        };
        // An error means that one is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Client {
            http,
            server: server.server.trim_end_matches('/').to_owned(),
            key: key.trim().to_owned(),
        })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        self.send(Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(Method::POST, path, Some(body)).await
    }

    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(Method::PUT, path, Some(body)).await
    }

    pub(super) async fn patch(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(Method::PATCH, path, Some(body)).await
    }

    /// Posts bytes as they are.
    pub(super) async fn upload(&self, path: &str, body: Vec<u8>) -> Result<Value> {
        let request = self
            .http
            .post(format!("{}{path}", self.server))
            .bearer_auth(&self.key);
        self.answer(
            request
                .header("content-type", "application/wasm")
                .body(body),
        )
        .await
    }

    pub(super) async fn delete(&self, path: &str) -> Result<Value> {
        self.send(Method::DELETE, path, None).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let request = self
            .http
            .request(method, format!("{}{path}", self.server))
            .bearer_auth(&self.key);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        self.answer(request).await
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Value> {
        let response = request
            .send()
            .await
            .map_err(|error| anyhow!(error.without_url()))
            .with_context(|| {
                format!(
                    "{} does not answer; start it with: shoal serve",
                    self.server
                )
            })?;
        let status = response.status();
        let text = response.text().await.context("the answer broke off")?;
        let answer: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(answer);
        }
        // Prometheus' API has its own shape of errors.
        let message = answer["error"]["message"].as_str();
        match message.or(answer["error"].as_str()) {
            Some(message) => bail!("{message}"),
            None => bail!("{} answered {status}", self.server),
        }
    }
}

/// Text as one segment of a path.
pub(super) fn segment(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    text.bytes()
        .map(|byte| {
            if keep(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_cannot_leave_its_place() {
        assert_eq!(segment("a/b?c d"), "a%2Fb%3Fc%20d");
    }
}
