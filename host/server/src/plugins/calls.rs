//! The only way to call a plugin: [`PluginCalls`] asks whether it may be called, calls it, and takes note of what became
//! of it.
//!
//! A call that is refused costs nothing and says until when. One that ran is counted (metrics, usage, contacts),
//! kept when it failed, and shown in copy to the version that is tried beside, after the caller has its answer.
//! Nothing here waits for the database: [`PluginCalls::keep`] writes and reads beside the calls.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use shoal_model::Timestamp;
use shoal_model::breaker::Health;
use shoal_model::usage::MonthUsage;
use shoal_runtime::{
    Call, CallContext, CallError, CallReport, CheckOutcome, Ingest, Installed, Notification,
    Receipt, ReceiverRequest, ReceiverResponse, Statement, Terms,
};

use super::asked;
use super::breakers::{Breakers, Ticket};
use super::failures::Failures;
use super::meters::Meters;
use super::quarantine::Quarantine;
use super::shadow::Shadows;
use super::{PluginRegistry, Running};
use crate::clock::Clock;
use crate::db::Db;
use crate::db::plugins::VersionRow;
use crate::observe::Observe;

/// Calls plugins and knows how they are.
pub struct PluginCalls {
    pub(super) db: Db,
    pub(super) clock: Clock,
    pub(super) observe: Arc<Observe>,
    pub(super) plugins: Arc<PluginRegistry>,
    pub(super) breakers: Breakers,
    pub(super) quarantine: Quarantine,
    pub(super) failures: Failures,
    pub(super) meters: Meters,
    pub(super) shadows: Shadows,
    /// Plugins and versions that are shown as down or not; as many as ran.
    pub(super) shown_down: Mutex<BTreeSet<(String, String)>>,
    /// Whether what brought this process down before was looked at.
    pub(super) knows_suspects: AtomicBool,
}

/// What became of a call.
#[derive(Debug)]
#[must_use]
pub struct Called<T> {
    /// What the plugin answered, or why there is no answer.
    pub outcome: Result<T, NoAnswer>,
    /// What the call used and said; empty when it did not begin.
    pub report: CallReport,
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NoAnswer {
    /// The installation cannot run; the sentence says what to do.
    #[error("{0}")]
    CannotRun(String),
    /// The plugin is not called now.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It was called and failed.
    #[error(transparent)]
    Failed(#[from] CallError),
}

/// Why a plugin is not called now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It failed too often for this installation.
    #[error(
        "the plugin failed too often and is not called before {until}; the latest failure: {reason}"
    )]
    Open {
        /// When the next call is let through.
        until: Timestamp,
        /// The failure that opened the breaker.
        reason: String,
    },
    /// Its version is shut out for everybody.
    #[error(
        "version {version} of {plugin} is in quarantine: {reason}; approve another version, or release it with: shoal plugin release {digest}"
    )]
    Quarantined {
        /// The plugin's id.
        plugin: String,
        /// Its semantic version.
        version: String,
        /// Its component.
        digest: String,
        /// Why.
        reason: String,
    },
}

impl Refused {
    /// When to ask again.
    pub fn retry_after(&self, now: Timestamp) -> Duration {
        match self {
            Refused::Open { until, .. } => until.since(now).max(Duration::from_secs(1)),
            Refused::Quarantined { .. } => Duration::from_secs(60),
        }
    }
}

impl NoAnswer {
    /// A short stable word for metrics and records, such as `limit-cpu`.
    pub fn code(&self) -> &'static str {
        match self {
            NoAnswer::CannotRun(_) => "not-runnable",
            NoAnswer::Refused(Refused::Open { .. }) => "breaker-open",
            NoAnswer::Refused(Refused::Quarantined { .. }) => "quarantined",
            NoAnswer::Failed(error) => error.code(),
        }
    }
}

impl<T> Called<T> {
    fn without(outcome: NoAnswer) -> Called<T> {
        Called {
            outcome: Err(outcome),
            report: CallReport::default(),
        }
    }
}

/// A call that was let through.
struct Begun<'a> {
    running: &'a Running,
    version: &'a VersionRow,
    installed: &'a Arc<Installed>,
    ticket: Ticket<'a>,
}

impl PluginCalls {
    /// Calls the plugins of a registry. [`PluginCalls::sync`] takes over what was known before the start.
    pub fn new(
        db: Db,
        clock: Clock,
        observe: Arc<Observe>,
        plugins: Arc<PluginRegistry>,
    ) -> PluginCalls {
        PluginCalls {
            db,
            clock,
            observe,
            plugins,
            breakers: Breakers::default(),
            quarantine: Quarantine::default(),
            failures: Failures::default(),
            meters: Meters::default(),
            shadows: Shadows::default(),
            shown_down: Mutex::default(),
            knows_suspects: AtomicBool::new(false),
        }
    }

    /// Probes a check's target once.
    pub async fn run_check(
        &self,
        running: &Running,
        context: &CallContext,
    ) -> Called<CheckOutcome> {
        let begun = match self.begin(running) {
            Ok(begun) => begun,
            Err(refused) => return Called::without(refused),
        };
        let call = begun.installed.run_check(context).await;
        self.end(begun, call, || asked::of_check(context))
    }

    /// Tells one notification through a channel.
    pub async fn notify(
        &self,
        running: &Running,
        context: &CallContext,
        notification: &Notification,
    ) -> Called<Receipt> {
        let begun = match self.begin(running) {
            Ok(begun) => begun,
            Err(refused) => return Called::without(refused),
        };
        let call = begun.installed.notify(context, notification).await;
        self.end(begun, call, || asked::of_channel(context, notification))
    }

    /// Serves one request through a receiver; metrics go to `ingest`.
    pub async fn receive(
        &self,
        running: &Running,
        context: &CallContext,
        request: ReceiverRequest,
        ingest: Arc<dyn Ingest>,
    ) -> Called<ReceiverResponse> {
        let begun = match self.begin(running) {
            Ok(begun) => begun,
            Err(refused) => return Called::without(refused),
        };
        let copy = self.shadows.of_request(running, context, &request);
        let ingest = copy
            .as_ref()
            .map_or(ingest.clone(), |copy| copy.recording(ingest));
        let head = asked::RequestHead::of(&request);
        let call = begun.installed.receive(context, request, ingest).await;
        if let Some(copy) = copy {
            copy.answered(&call.outcome);
        }
        self.end(begun, call, || asked::of_receiver(context, &head))
    }

    /// Prices the usage of one tenant and month.
    pub async fn rate(
        &self,
        running: &Running,
        usage: &MonthUsage,
        terms: &Terms,
    ) -> Called<Statement> {
        let begun = match self.begin(running) {
            Ok(begun) => begun,
            Err(refused) => return Called::without(refused),
        };
        let call = begun.installed.rate(usage, terms).await;
        self.shadows.of_usage(running, usage, terms, &call.outcome);
        self.end(begun, call, || asked::of_billing_rule(usage, terms))
    }

    /// Whether the plugin may be called.
    fn begin<'a>(&'a self, running: &'a Running) -> Result<Begun<'a>, NoAnswer> {
        let cannot = |reason: &String| NoAnswer::CannotRun(reason.clone());
        let installed = running.state.as_ref().map_err(cannot)?;
        let version = running.version.as_ref();
        let version = version.ok_or_else(|| cannot(&"no version of it runs".to_owned()))?;
        let ticket = self
            .quarantine
            .check(version)
            .and_then(|()| self.breakers.admit(&self.clock, running, version));
        match ticket {
            Ok(ticket) => Ok(Begun {
                running,
                version,
                installed,
                ticket,
            }),
            Err(refused) => {
                let refused = NoAnswer::from(refused);
                self.meters.refused(version, refused.code());
                Err(refused)
            }
        }
    }

    /// Takes note of a call that has ended.
    fn end<T>(&self, begun: Begun<'_>, call: Call<T>, asked: impl FnOnce() -> Value) -> Called<T> {
        let Begun {
            running,
            version,
            installed,
            ticket,
        } = begun;
        let now = self.clock.now();
        let error = call.outcome.as_ref().err();
        if ticket.settle(health(error), error) {
            tracing::error!(
                tenant.id = running.row.tenant_id,
                installation.id = running.row.id,
                plugin.id = version.plugin_id,
                plugin.version = version.version,
                error = error.map(ToString::to_string),
                "a plugin failed too often and is not called for a while"
            );
        }
        let code = error.map_or("done", CallError::code);
        let tenant = running.row.tenant();
        self.meters.called(version, tenant, now, code, &call.report);
        if let Some(error) = error {
            let failed = asked::Failed {
                running,
                version,
                installed,
                error,
                report: &call.report,
            };
            self.failures.note(&failed, now, asked);
        }
        Called {
            outcome: call.outcome.map_err(NoAnswer::Failed),
            report: call.report,
        }
    }
}

/// What a call tells of the plugin's health.
fn health(error: Option<&CallError>) -> Health {
    match error {
        None | Some(CallError::Failed(_)) => Health::Well,
        Some(error) if error.is_plugin_fault() => Health::Fault,
        Some(_) => Health::Unknown,
    }
}

#[cfg(test)]
mod tests;
