//! An installed plugin: one typed call per kind.
//!
//! Checks, channels and billing rules get a fresh instance for each call. A receiver's instance serves
//! further requests of the same installation, bounded in calls, age and memory, and is dropped after any failure.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use shoal_model::InstallationId;
use shoal_model::grant::{Grants, Kind};
use shoal_model::limit::CallLimits;
use shoal_model::usage::MonthUsage;
use tokio::time::Instant;

use crate::admission::Share;
use crate::billing::{self, Statement, Terms};
use crate::bindings::exports::shoal::plugin::billing_rule as wit_billing;
use crate::bindings::shoal::plugin::types as wit;
use crate::call::{Call, CallContext, CallError, CallReport, Failure};
use crate::channel::{Notification, Receipt};
use crate::check::CheckOutcome;
use crate::egress::allow::Permits;
use crate::failure::{self, Broken};
use crate::install::World;
use crate::link::{Guest, Linked};
use crate::plugin::Plugin;
use crate::receiver::{Ingest, ReceiverRequest, ReceiverResponse};
use crate::run::{Given, Live, Work};
use crate::runtime::Inner;
use crate::services::Provided;
use crate::settings::Settings;
use crate::state::{FixedWorld, Monotonic, Parts};

/// Requests that one instance of a receiver serves.
const REUSE_CALLS_MAX: u32 = 128;
/// Memory that an idle instance may hold; a batch of 10,000 points takes 20 MiB.
const REUSE_MEMORY_MAX_BYTES: u64 = 64 << 20;

/// A plugin with the grants and settings of one installation. Made by [`Plugin::install`].
///
/// Immutable: for other settings, grants or another version, install again and swap. Calls that run finish on the
/// old one.
pub struct Installed {
    parts: InstalledParts,
    /// As the guest is given them: secrets hidden.
    settings_json: String,
}

pub(crate) struct InstalledParts {
    pub(crate) share: Share,
    pub(crate) limits: CallLimits,
    pub(crate) installation: InstallationId,
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) runtime: Arc<Inner>,
    pub(crate) world: World,
    pub(crate) linked: Linked,
    pub(crate) grants: Grants,
    pub(crate) settings: Settings,
    pub(crate) allow: Arc<Permits>,
    pub(crate) provided: Provided,
}

/// What differs between calls of kinds.
struct Request {
    kind: Kind,
    time: Duration,
    limits: CallLimits,
    /// What the unit of work is called, the same for every attempt; for kinds that send mail.
    work: String,
    ingest: Option<Arc<dyn Ingest>>,
    fixed: Option<FixedWorld>,
}

impl Installed {
    pub(crate) fn new(parts: InstalledParts) -> Installed {
        Installed {
            settings_json: parts.provided.secrets.hide(&parts.settings),
            parts,
        }
    }

    /// The plugin.
    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.parts.plugin
    }

    /// Whose use of it this is.
    pub fn installation(&self) -> &InstallationId {
        &self.parts.installation
    }

    /// What it may do: what it asks for and was granted.
    pub fn grants(&self) -> &Grants {
        &self.parts.grants
    }

    /// Its settings, defaults filled in, secrets included.
    pub fn settings(&self) -> &Settings {
        &self.parts.settings
    }

    /// Bounds of each call, for small inputs: the smallest of what the deployment allows, the plugin asks for and the
    /// tenant has.
    pub fn limits(&self) -> CallLimits {
        let tenants = self.parts.runtime.tenants.read();
        let of_tenant = tenants.get(&self.parts.share.tenant);
        match of_tenant.and_then(|of| of.limits.get(&self.plugin().kind())) {
            Some(own) => self.parts.limits.lowered(own),
            None => self.parts.limits,
        }
    }

    fn share(&self) -> Share {
        let share = self.parts.share;
        let tenants = self.parts.runtime.tenants.read();
        let weight = tenants.get(&share.tenant).map(|of| of.weight);
        Share {
            weight: weight.unwrap_or(share.weight),
            ..share
        }
    }

    /// Probes the check's target once.
    ///
    /// Dropping the future ends the call at once; so it is with all calls.
    pub async fn run_check(&self, context: &CallContext) -> Call<CheckOutcome> {
        let (time, wit_context) = match self.context(context) {
            Ok(context) => context,
            Err(error) => return unrun(error),
        };
        let settings = self.settings_json.clone();
        let work: Work<Result<_, _>> = Box::new(move |store, guest| {
            Box::pin(async move {
                let Guest::Check(check) = guest else {
                    wasmtime::bail!("not a check");
                };
                check.call_run(store, &wit_context, &settings).await
            })
        });
        let take = |outcome| {
            CheckOutcome::from_wit(outcome).map(|mut outcome| {
                outcome.summary = self.redact(outcome.summary);
                for measurement in &mut outcome.measurements {
                    for (_, value) in &mut measurement.labels {
                        *value = self.redact(std::mem::take(value));
                    }
                }
                outcome
            })
        };
        self.call(self.request(Kind::Check, time), work, take).await
    }

    /// Tells one notification through the channel.
    pub async fn notify(
        &self,
        context: &CallContext,
        notification: &Notification,
    ) -> Call<Receipt> {
        let (time, wit_context) = match self.context(context) {
            Ok(context) => context,
            Err(error) => return unrun(error),
        };
        let settings = self.settings_json.clone();
        let notification = notification.to_wit();
        let work: Work<Result<_, _>> = Box::new(move |store, guest| {
            Box::pin(async move {
                let Guest::Channel(channel) = guest else {
                    wasmtime::bail!("not a channel");
                };
                channel
                    .call_notify(store, &wit_context, &notification, &settings)
                    .await
            })
        });
        let take = |receipt| {
            let Receipt { summary } = Receipt::from_wit(receipt);
            let summary = self.redact(summary);
            Ok(Receipt { summary })
        };
        let mut request = self.request(Kind::Channel, time);
        request.work = format!("{}/{}", self.installation(), context.idempotency_key);
        self.call(request, work, take).await
    }

    /// Prices the usage of one tenant and month: the same usage and terms always give the same statement.
    pub async fn rate(&self, usage: &MonthUsage, terms: &Terms) -> Call<Statement> {
        let wit_usage = billing::usage_to_wit(usage);
        let wit_terms = terms.to_wit(&self.settings_json);
        let mut request = self.request(Kind::BillingRule, self.limits().wall);
        let rows: usize = wit_usage.meters.iter().map(|of| of.subjects.len()).sum();
        request.limits = request.limits.scaled_by_rows(rows as u64);
        request.fixed = Some(FixedWorld {
            now_unix_ms: wit_usage.period.to_unix_ms,
            seed: self.seed(&wit_usage, terms),
            monotonic: Monotonic::Stands,
        });
        let work: Work<Result<_, _>> = Box::new(move |store, guest| {
            Box::pin(async move {
                let Guest::BillingRule(rule) = guest else {
                    wasmtime::bail!("not a billing rule");
                };
                rule.call_rate(store, &wit_usage, &wit_terms).await
            })
        });
        let take = |statement| Statement::from_wit(statement, terms);
        self.call(request, work, take).await
    }

    /// Serves one request through the receiver; metrics go to `ingest`.
    pub async fn receive(
        &self,
        context: &CallContext,
        request: ReceiverRequest,
        ingest: Arc<dyn Ingest>,
    ) -> Call<ReceiverResponse> {
        let (time, wit_context) = match self.context(context) {
            Ok(context) => context,
            Err(error) => return unrun(error),
        };
        let settings = self.settings_json.clone();
        let transport = request.transport;
        let body_bytes = request.body.len() as u64;
        let wit_request = request.into_wit();
        let work: Work<Result<_, _>> = Box::new(move |store, guest| {
            Box::pin(async move {
                let Guest::Receiver(receiver) = guest else {
                    wasmtime::bail!("not a receiver");
                };
                receiver
                    .call_receive(store, &wit_context, &wit_request, &settings)
                    .await
            })
        });
        let mut request = self.request(Kind::Receiver, time);
        request.limits = request.limits.scaled(body_bytes);
        request.ingest = Some(ingest);
        let take = |response| ReceiverResponse::from_wit(response, transport);
        self.call(request, work, take).await
    }

    /// How long a call may take, and its context for the guest.
    fn context(&self, context: &CallContext) -> Result<(Duration, wit::CallContext), CallError> {
        let wall = self.limits().wall;
        let time = match context.deadline {
            Some(deadline) => deadline.since(context.now).min(wall),
            None => wall,
        };
        if time.is_zero() {
            return Err(CallError::DeadlinePassed);
        }
        let deadline = context.now + time;
        Ok((
            time,
            wit::CallContext {
                installation: self.parts.installation.to_string(),
                attempt: context.attempt,
                idempotency_key: context.idempotency_key.clone(),
                deadline_unix_ms: u64::try_from(deadline.unix_ms()).unwrap_or(0),
                traceparent: context.traceparent.clone(),
            },
        ))
    }

    async fn call<W, T>(
        &self,
        request: Request,
        work: Work<Result<W, wit::Failure>>,
        take: impl FnOnce(W) -> Result<T, String>,
    ) -> Call<T> {
        let is = self.plugin().kind();
        if request.kind != is {
            let wanted = request.kind;
            return unrun(CallError::WrongKind { wanted, is });
        }
        let began = Instant::now();
        let patience = self.parts.runtime.options.admission_wait.min(request.time);
        let live = self.live(request.fixed, request.limits, patience).await;
        let queued = began.elapsed();
        let mut live = match live {
            Ok(live) => live,
            Err(error) => {
                let mut call = unrun(error);
                (call.report.queued, call.report.duration) = (queued, queued);
                return call;
            }
        };
        let given = Given {
            limits: request.limits,
            time: request.time.saturating_sub(queued),
            ingest: request.ingest,
        };
        live.store.data_mut().provided.begin_call(request.work);
        let (outcome, mut report) = live.call(&self.parts.linked, given, work).await;
        self.give_back(live, outcome.is_ok());
        report.duration = began.elapsed();
        report.queued = queued;
        for line in &mut report.log {
            line.message = self.redact(std::mem::take(&mut line.message));
        }
        let outcome = match outcome {
            Ok(Ok(answer)) => take(answer).map_err(CallError::BadAnswer),
            Ok(Err(failure)) => Err(CallError::Failed(failure::from_wit(failure))),
            Err(broken) => Err(self.looked_up(broken).await),
        };
        Call {
            outcome: outcome.map_err(|error| self.redacted(error)),
            report,
        }
    }

    fn request(&self, kind: Kind, time: Duration) -> Request {
        Request {
            kind,
            work: String::new(),
            time,
            limits: self.limits(),
            ingest: None,
            fixed: None,
        }
    }

    /// An idle instance, or a new one.
    async fn live(
        &self,
        fixed: Option<FixedWorld>,
        limits: CallLimits,
        patience: Duration,
    ) -> Result<Live, CallError> {
        let parts = &self.parts;
        let machine = parts.plugin.machine();
        if parts.plugin.kind() == Kind::Receiver
            && let Some(live) = machine.slots.take_idle(parts.share.installation)
        {
            return Ok(live);
        }
        let slot = machine.slots.admit(self.share(), patience).await;
        Ok(Live::new(
            machine,
            slot.map_err(failure::busy)?,
            Parts {
                limits,
                network: Arc::clone(&parts.world.network),
                allow: Arc::clone(&parts.allow),
                provided: parts.provided.clone(),
                fixed: fixed.or_else(|| parts.world.fixed.clone()),
            },
        ))
    }

    /// Adds files and lines to a crash, where the component carries them and it is not asked for too often.
    async fn looked_up(&self, broken: Broken) -> CallError {
        let Broken { mut error, frames } = broken;
        if let CallError::Panicked { backtrace, .. } | CallError::Trapped { backtrace, .. } =
            &mut error
            && let Some(symbols) = self.plugin().symbols()
        {
            let symbols = Arc::clone(symbols);
            let lines = tokio::task::spawn_blocking(move || symbols.lines(&frames)).await;
            if let Ok(Some(lines)) = lines {
                *backtrace = lines;
            }
        }
        error
    }

    /// Keeps a receiver's instance for its next request, if it behaved and is not used up.
    fn give_back(&self, mut live: Live, is_well: bool) {
        let kind = self.plugin().kind();
        let is_kept = is_well
            && kind == Kind::Receiver
            && live.calls < REUSE_CALLS_MAX
            && live.store.data().memory.bytes() <= REUSE_MEMORY_MAX_BYTES;
        if is_kept {
            live.store.data_mut().end_call();
            let slots = &self.plugin().machine().slots;
            slots.keep_idle(self.parts.share.installation, live);
        }
    }

    /// Everything that a rule is given, and the rule.
    fn seed(&self, usage: &wit_billing::Usage, terms: &Terms) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        part(&self.plugin().digest().0);
        part(self.settings_json.as_bytes());
        part(terms.currency.as_bytes());
        part(&[terms.currency_digits]);
        part(&usage.period.from_unix_ms.to_le_bytes());
        part(&usage.period.closed_hours.to_le_bytes());
        for meter in &usage.meters {
            part(meter.meter.as_bytes());
            for subject in &meter.subjects {
                part(subject.subject.as_bytes());
                part(&subject.active_hours.to_le_bytes());
                part(&subject.quantity_hours.to_le_bytes());
            }
        }
        hash.finalize().into()
    }

    /// Hides this installation's secrets in a text, in every common form. Everything that a plugin says has been through
    /// it; so must whatever else is kept of a call, such as its input.
    pub fn redact(&self, text: String) -> String {
        self.parts.provided.secrets.redact(text)
    }

    fn redacted(&self, error: CallError) -> CallError {
        let failure = |failure: Failure| {
            let hide = |mut detail: crate::call::FailureDetail| {
                detail.message = self.redact(detail.message);
                detail.code = self.redact(detail.code);
                detail
            };
            match failure {
                Failure::Rejected(detail) => Failure::Rejected(hide(detail)),
                Failure::Unauthenticated(detail) => Failure::Unauthenticated(hide(detail)),
                Failure::Retry { detail, after } => Failure::Retry {
                    detail: hide(detail),
                    after,
                },
            }
        };
        match error {
            CallError::Failed(failed) => CallError::Failed(failure(failed)),
            CallError::Panicked { message, backtrace } => CallError::Panicked {
                message: self.redact(message),
                backtrace,
            },
            CallError::Trapped { message, backtrace } => CallError::Trapped {
                message: self.redact(message),
                backtrace,
            },
            CallError::BadAnswer(why) => CallError::BadAnswer(self.redact(why)),
            error => error,
        }
    }
}

/// Instances that wait for this installation's next request will never get one.
impl Drop for Installed {
    fn drop(&mut self) {
        let slots = &self.plugin().machine().slots;
        slots.forget(self.parts.share.installation);
    }
}

impl fmt::Debug for Installed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Installed")
            .field("installation", &self.parts.installation)
            .field("plugin", &self.parts.plugin)
            .finish_non_exhaustive()
    }
}

/// The outcome of a call that did not begin.
fn unrun<T>(error: CallError) -> Call<T> {
    Call {
        outcome: Err(error),
        report: CallReport::default(),
    }
}
