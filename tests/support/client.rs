//! A client of the API, as one key or as nobody.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};
use shoal_model::Labels;

use super::components::text;

/// Series with their samples: times in Unix milliseconds, and values.
pub(crate) type Samples = BTreeMap<Labels, Vec<(i64, f64)>>;

/// Asks one server with one key. Clones share connections.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    /// `http://127.0.0.1:PORT`
    pub(crate) base: String,
    key: Option<String>,
    /// The tenant for which an operator acts.
    acting_for: Option<String>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    /// What was asked, for messages.
    asked: String,
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Client {
    /// As nobody.
    pub(crate) fn new(base: &str) -> Client {
        // An error means that one is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build();
        Client {
            http: http.expect("a client without special wishes"),
            base: base.to_owned(),
            key: None,
            acting_for: None,
        }
    }

    /// The same with another key.
    pub(crate) fn with_key(&self, key: &str) -> Client {
        Client {
            key: Some(key.to_owned()),
            ..self.clone()
        }
    }

    /// The same at another port.
    pub(crate) fn at(&self, base: &str) -> Client {
        Client {
            base: base.to_owned(),
            ..self.clone()
        }
    }

    /// An operator who acts for a tenant: adds `tenant=KEY` to every address.
    pub(crate) fn acting_for(&self, tenant: &str) -> Client {
        Client {
            acting_for: Some(tenant.to_owned()),
            ..self.clone()
        }
    }

    /// The key it sends.
    pub(crate) fn key(&self) -> &str {
        self.key.as_deref().expect("this client has a key")
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    /// A GET with a query, encoded.
    pub(crate) async fn get_with(&self, path: &str, query: &[(&str, &str)]) -> Answer {
        let encoded: Vec<String> = query
            .iter()
            .map(|(name, value)| format!("{name}={}", encode(value)))
            .collect();
        self.get(&format!("{path}?{}", encoded.join("&"))).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PATCH, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        match body {
            Some(body) => {
                self.send_bytes(method, path, "application/json", body.to_string())
                    .await
            }
            None => self.exchange(method, path, |request| request).await,
        }
    }

    /// Sends a body as it is.
    pub(crate) async fn send_bytes(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        self.exchange(method, path, |request| {
            request.header("content-type", content_type).body(body)
        })
        .await
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        fill: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> Answer {
        let path = match &self.acting_for {
            None => path.to_owned(),
            Some(tenant) if path.contains('?') => format!("{path}&tenant={tenant}"),
            Some(tenant) => format!("{path}?tenant={tenant}"),
        };
        let asked = format!("{method} {path}");
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        let response = fill(request)
            .send()
            .await
            .unwrap_or_else(|error| panic!("{asked}: no answer: {error:?}"));
        let status = response.status().as_u16();
        let text = response.text().await;
        Answer {
            text: text.unwrap_or_else(|error| panic!("{asked}: the answer broke off: {error:?}")),
            asked,
            status,
        }
    }

    /// The value that a PromQL expression has now; `None` when no series matches.
    ///
    /// # Panics
    /// When several series match.
    pub(crate) async fn value_of(&self, promql: &str) -> Option<f64> {
        let rows = self.series_of(promql).await;
        assert!(rows.len() <= 1, "{promql} has several values: {rows:?}");
        rows.first().map(|(_, value)| *value)
    }

    /// Every series of a PromQL expression now: its labels and its value.
    pub(crate) async fn series_of(&self, promql: &str) -> Vec<(Value, f64)> {
        let rows = self.rows_of(&[("query", promql)]).await;
        rows.iter()
            .map(|row| (row["metric"].clone(), point(&row["value"]).1))
            .collect()
    }

    /// Every sample that a range selector such as `up[1h]` selects at a time, exactly as it is stored.
    pub(crate) async fn samples_of(&self, selector: &str, at_ms: i64) -> Samples {
        let time = format!("{}.{:03}", at_ms / 1000, at_ms % 1000);
        let rows = self.rows_of(&[("query", selector), ("time", &time)]).await;
        let read = |row: &Value| {
            let labels = row["metric"].as_object().expect("labels");
            let labels = labels.iter().map(|(name, value)| (name, text(value)));
            let points = row["values"].as_array().expect("a list of points");
            let points = points.iter().map(point).collect();
            (Labels::from_pairs(labels), points)
        };
        rows.iter().map(read).collect()
    }

    async fn rows_of(&self, query: &[(&str, &str)]) -> Vec<Value> {
        let answer = self.get_with("/prometheus/api/v1/query", query).await;
        let answer = answer.is(200);
        assert_eq!(answer["status"], "success", "{query:?}: {answer}");
        let rows = answer["data"]["result"].as_array();
        rows.unwrap_or_else(|| panic!("{query:?}: no list of results: {answer}"))
            .clone()
    }
}

impl Answer {
    /// The body, when the status is as expected.
    #[track_caller]
    pub(crate) fn is(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.asked, self.text);
        self.json()
    }

    /// The body; `null` when there is none.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        if self.text.is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{}: {error}: {}", self.asked, self.text))
    }

    /// Checks that it is an error of the API with this status and code, and returns its message.
    #[track_caller]
    pub(crate) fn is_error(&self, status: u16, code: &str) -> String {
        let body = self.is(status);
        assert_eq!(body["error"]["code"], json!(code), "{}: {body}", self.asked);
        let message = body["error"]["message"].as_str();
        message
            .unwrap_or_else(|| panic!("{}: an error without a message: {body}", self.asked))
            .to_owned()
    }
}

/// One of PromQL's points, as time in milliseconds and value.
#[track_caller]
fn point(point: &Value) -> (i64, f64) {
    let seconds = point[0].as_f64();
    let value = point[1].as_str().and_then(|text| text.parse().ok());
    let (seconds, value) = seconds
        .zip(value)
        .unwrap_or_else(|| panic!("{point} is no time with a value"));
    ((seconds * 1000.0).round() as i64, value)
}

/// Text as a part of a query.
pub(crate) fn encode(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
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
