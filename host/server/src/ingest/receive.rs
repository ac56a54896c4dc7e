//! From a request to its answer, whatever protocol it came in: whose it is, which plugin serves it, what became of it.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderMap;
use parking_lot::Mutex;
use shoal_model::TenantId;
use shoal_model::grant::Kind;
use shoal_model::id::KeyId;
use shoal_runtime::{CallContext, Endpoint, ReceiverRequest, ReceiverResponse, Transport};

use super::admission::{Admission, Admitted};
use super::problem::Problem;
use super::write::Writer;
use crate::app::App;
use crate::auth::{ApiKey, Role, key_of};
use crate::clock::Clock;
use crate::db::Db;
use crate::db::tenants::{Authenticated, Tenant};
use crate::observe::Observe;
use crate::plugins::{NoAnswer, PluginCalls, PluginRegistry, Running};

/// Keys whose last minute of use is remembered; beyond it all are forgotten, which costs a statement each.
const KEYS_NOTED_MAX: usize = 10_000;
/// Longest trace context that is handed on; the standard's has 55 characters.
const TRACEPARENT_MAX_BYTES: usize = 128;

/// Serves requests through the tenants' receivers.
pub struct Receivers {
    db: Db,
    plugins: Arc<PluginRegistry>,
    calls: Arc<PluginCalls>,
    clock: Clock,
    observe: Arc<Observe>,
    writer: Arc<Writer>,
    admission: Admission,
    keys_noted: Mutex<HashMap<KeyId, i64>>,
}

/// A request whose sender is known and whose receiver is there.
pub struct Accepted {
    tenant: TenantId,
    running: Arc<Running>,
    traceparent: Option<String>,
    /// The room that the body takes.
    pub admitted: Admitted,
}

impl Receivers {
    /// Serves the receivers of a process.
    pub fn new(app: &App, admission: Admission) -> Arc<Receivers> {
        Arc::new(Receivers {
            db: app.db.clone(),
            plugins: app.plugins.clone(),
            calls: app.calls.clone(),
            clock: app.clock.clone(),
            observe: app.observe.clone(),
            writer: Writer::new(app.store.clone(), app.clock.clone(), app.observe.clone()),
            admission,
            keys_noted: Mutex::default(),
        })
    }

    /// Finds whose request it is and what receives it: to be called before the body is read.
    ///
    /// # Errors
    /// The key is missing, wrong or not for writing, or nothing receives the endpoint.
    pub async fn accept(
        &self,
        headers: &HeaderMap,
        endpoint: &Endpoint,
    ) -> Result<Accepted, Problem> {
        let accepted = self.look_up(headers, endpoint).await;
        if let Err(problem) = &accepted {
            let status = problem.http_status.to_string();
            self.observe
                .add("shoal_ingest_refused_total", &[("status", &status)], 1.0);
        }
        accepted
    }

    async fn look_up(&self, headers: &HeaderMap, endpoint: &Endpoint) -> Result<Accepted, Problem> {
        let tenant = self.authenticate(headers).await?;
        let running = self.receiver(&tenant, endpoint)?;
        let traceparent = headers
            .get("traceparent")
            .and_then(|value| value.to_str().ok())
            .filter(|text| text.len() <= TRACEPARENT_MAX_BYTES);
        Ok(Accepted {
            tenant: tenant.id(),
            running,
            traceparent: traceparent.map(str::to_owned),
            admitted: self.admission.enter(tenant.id()),
        })
    }

    async fn authenticate(&self, headers: &HeaderMap) -> Result<Tenant, Problem> {
        let key = key_of(headers).ok_or_else(|| {
            Problem::unauthenticated(
                "an API key is needed: send Authorization: Bearer KEY or X-Api-Key: KEY",
            )
        })?;
        let found = self.db.system().authenticate(&key).await;
        let found = found.map_err(|error| {
            tracing::error!(%error, "cannot look up API keys");
            Problem::unavailable("API keys cannot be checked now; send again later")
        })?;
        let found = found.ok_or_else(|| unknown(&key))?;
        if found.role < Role::Write {
            return Err(Problem::forbidden(format!(
                "sending telemetry needs a key with role write; {} has {}",
                found.key,
                found.role.as_str()
            )));
        }
        self.note_use(&found).await;
        Ok(found.tenant)
    }

    /// Notes once a minute that a key is in use. A failure costs nobody a request.
    async fn note_use(&self, used: &Authenticated) {
        let key = &used.key;
        let now = self.clock.now();
        let minute = now.0.div_euclid(60_000);
        {
            let mut noted = self.keys_noted.lock();
            if noted.get(key) == Some(&minute) {
                return;
            }
            if noted.len() >= KEYS_NOTED_MAX {
                noted.clear();
            }
            noted.insert(key.clone(), minute);
        }
        if let Err(error) = self.db.tenant(used.tenant.id()).key_used(used, now).await {
            tracing::warn!(%error, key.id = %key, "cannot note the use of an API key");
        }
    }

    fn receiver(&self, tenant: &Tenant, endpoint: &Endpoint) -> Result<Arc<Running>, Problem> {
        let snapshot = self.plugins.snapshot();
        let running = snapshot.receiver(tenant.id(), endpoint);
        if let Some(running) = running.filter(|running| running.state.is_ok()) {
            return Ok(running.clone());
        }
        // One that should run but cannot may be the one: the sender should keep its data.
        let mut broken = snapshot.of_tenant(tenant.id()).filter_map(|running| {
            let is_receiver = running.row.kind == Kind::Receiver.as_str();
            let reason = running.state.as_ref().err()?;
            is_receiver.then_some((&running.row, reason))
        });
        if let Some((row, reason)) = broken.next() {
            return Err(Problem::unavailable(format!(
                "the receiver {} cannot run now: {reason}",
                row.plugin_id
            )));
        }
        let shown: String = endpoint.to_string().chars().take(200).collect();
        let key = &tenant.key;
        Err(Problem::not_found(format!(
            "no receiver of the tenant {key} takes {shown:?}; the operator enables one with: shoal plugin enable otlp --tenant {key}"
        )))
    }

    /// Has a request served. The answer is the plugin's, or says why there is none.
    ///
    /// # Errors
    /// The plugin failed.
    pub async fn receive(
        &self,
        accepted: Accepted,
        request: ReceiverRequest,
    ) -> Result<ReceiverResponse, Problem> {
        let Accepted {
            tenant,
            running,
            traceparent,
            admitted: _admitted,
        } = accepted;
        let (transport, bytes) = (request.transport, request.body.len());
        let context = CallContext {
            traceparent,
            ..CallContext::new(self.clock.now(), request_id())
        };
        let ingest = self.writer.of_tenant(tenant);
        let call = self.calls.receive(&running, &context, request, ingest);
        let answer = call.await.outcome.map_err(|error| {
            let (plugin, version) = named(&running);
            if let NoAnswer::Failed(fault) = &error
                && fault.is_plugin_fault()
            {
                tracing::warn!(tenant.id = %tenant, plugin.id = plugin, plugin.version = version, error = %fault, "a receiver failed");
            }
            let who = format!("the receiver {plugin} {version}");
            Problem::of_no_answer(&error, &who, context.now)
        });
        self.count(tenant, &running, bytes, outcome(&answer, transport));
        answer
    }

    fn count(&self, tenant: TenantId, running: &Running, bytes: usize, outcome: &str) {
        let tenant = tenant.to_string();
        let tenant = ("tenant", tenant.as_str());
        let receiver = ("receiver", running.row.plugin_id.as_str());
        let labels = [tenant, receiver, ("outcome", outcome)];
        self.observe
            .add("shoal_ingest_requests_total", &labels, 1.0);
        self.observe.add(
            "shoal_ingest_bytes_total",
            &[tenant, receiver],
            bytes as f64,
        );
    }
}

/// Plugin and version.
fn named(running: &Running) -> (&str, &str) {
    let version = running.version.as_ref();
    let version = version.map_or("", |version| version.version.as_str());
    (&running.row.plugin_id, version)
}

fn unknown(key: &ApiKey) -> Problem {
    Problem::unauthenticated(format!("the API key {} is not valid", key.id))
}

fn request_id() -> String {
    format!("{:016x}", u64::from_ne_bytes(crate::random::bytes()))
}

/// What became of a request, for metrics: done, refused (the client's fault), retry or failed.
fn outcome(answer: &Result<ReceiverResponse, Problem>, transport: Transport) -> &'static str {
    let (status, is_grpc) = match answer {
        Ok(response) => (response.status, transport == Transport::Grpc),
        Err(problem) => (problem.http_status, false),
    };
    match (is_grpc, status) {
        (true, 0) | (false, 200..=399) => "done",
        (true, 1 | 4 | 8 | 10 | 14) | (false, 429 | 502..=504) => "retry",
        (true, 2 | 13 | 15) | (false, 500..) => "failed",
        _ => "refused",
    }
}

#[cfg(test)]
pub(crate) mod tests;
