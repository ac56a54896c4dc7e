//! One call with JSON in and out, in a world that is made up: for tests and for authors.
//!
//! The plugin, its limits, its grants and the way to it are the real ones; the network, the clock and the store are
//! played. With [`Peers::Real`] the network is the real one.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use shoal_model::grant::Grants;
use shoal_model::{InstallationId, Timestamp};

use crate::call::{Call, CallContext, CallError, CallReport};
use crate::egress::script::{Beyond, Exchanges, Script};
use crate::install::{InstallOptions, World};
use crate::kv::MemoryKeyValue;
use crate::mail::{Mail, MemoryRelay};
use crate::plugin::{InstallError, Plugin};
use crate::receiver::Ingest;
use crate::services::Services;
use crate::state::{FixedWorld, Monotonic};

use self::faults::Faults;
use self::input::Input;
use self::metrics::Taken;
use self::outcome::{Answer, outcome};

pub(crate) mod exchange;
pub(crate) mod faults;
pub(crate) mod input;
mod metrics;
pub(crate) mod net;
mod outcome;

/// What an installation is called in a rehearsal.
const INSTALLATION_SEED: [u8; 10] = [0; 10];
/// What the unit of work is called in a rehearsal.
const IDEMPOTENCY_KEY: &str = "rehearsal";

/// Whom a plugin reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peers {
    /// Nobody: whatever it tries is refused, and listed in [`Rehearsed::problems`].
    None,
    /// Whoever its grants allow, on the real network.
    Real,
}

/// One call to be made.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// What the plugin may do; of it only what it asks for.
    pub grants: Grants,
    /// Settings, secrets included.
    pub settings: Map<String, Value>,
    /// What it is given: the format of `input` in `[[tests]]`.
    pub input: Value,
    /// The time of the call.
    pub now: Timestamp,
    /// Whom it reaches.
    pub peers: Peers,
    /// What goes wrong.
    pub faults: Faults,
}

/// What became of a rehearsal.
#[derive(Clone, Debug)]
pub struct Rehearsed {
    /// `outcome`: `ok` or a code of [`CallError::code`]; beside it the answer, or what went wrong.
    pub outcome: Value,
    /// What went wrong, if something did.
    pub error: Option<CallError>,
    /// What the call used and said.
    pub report: CallReport,
    /// What the plugin tried without anybody to answer.
    pub problems: Vec<String>,
}

/// A rehearsal cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    /// The plugin cannot be installed like this.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// What it is to be given is not what its kind is given.
    #[error("input: {0}")]
    Input(String),
}

impl Plugin {
    /// Makes one call.
    ///
    /// # Errors
    /// The call cannot begin. One that fails is an outcome.
    pub async fn rehearse(
        self: &Arc<Plugin>,
        rehearsal: Rehearsal,
    ) -> Result<Rehearsed, RehearsalError> {
        let Rehearsal {
            grants,
            settings,
            input,
            now,
            peers,
            faults,
        } = rehearsal;
        let input = Input::parse(self.kind(), &self.manifest().endpoints, now, input)
            .map_err(RehearsalError::Input)?;
        let beyond = match peers {
            Peers::None => Beyond::IsProblem,
            Peers::Real => Beyond::IsMade,
        };
        let is_shifted = faults.clock_shift_ms != 0;
        let play = Play {
            options: InstallOptions::new(installation(), grants, settings),
            input,
            now,
            fixed: is_shifted.then(|| fixed(now, &faults, Monotonic::Runs)),
            script: Arc::new(Script::new(Exchanges::default(), faults, beyond)),
        };
        Ok(play.perform(self).await?)
    }
}

/// The name of the installation in all rehearsals.
pub(crate) fn installation() -> InstallationId {
    InstallationId::from_random(INSTALLATION_SEED)
}

/// The world of a guest whose clock stands at `now`, wrong by what the faults say.
pub(crate) fn fixed(now: Timestamp, faults: &Faults, monotonic: Monotonic) -> FixedWorld {
    FixedWorld {
        now_unix_ms: now.unix_ms().saturating_add(faults.clock_shift_ms),
        seed: [0; 32],
        monotonic,
    }
}

/// One call with everything around it.
pub(crate) struct Play {
    pub(crate) options: InstallOptions,
    pub(crate) input: Input,
    pub(crate) now: Timestamp,
    pub(crate) fixed: Option<FixedWorld>,
    pub(crate) script: Arc<Script>,
}

impl Play {
    pub(crate) async fn perform(mut self, plugin: &Arc<Plugin>) -> Result<Rehearsed, InstallError> {
        let now = self.now;
        let relay = Arc::new(MemoryRelay::default());
        self.options.services = Services {
            kv: Some(Arc::new(MemoryKeyValue::new(move || now))),
            mail: Some(Arc::<MemoryRelay>::clone(&relay)),
        };
        let world = World {
            network: Arc::new(plugin.network().played_by(Arc::clone(&self.script))),
            fixed: self.fixed,
        };
        let installed = plugin.install_in(self.options, world)?;
        let context = CallContext::new(self.now, IDEMPOTENCY_KEY);
        let mut rehearsed = match self.input {
            Input::Check => shown(installed.run_check(&context).await),
            Input::Channel(told) => shown(installed.notify(&context, &told).await),
            Input::BillingRule(usage, terms) => shown(installed.rate(&usage, &terms).await),
            Input::Receiver(request) => {
                let taken = Arc::new(Taken::default());
                let store: Arc<dyn Ingest> = Arc::<Taken>::clone(&taken);
                let mut rehearsed = shown(installed.receive(&context, request, store).await);
                rehearsed.outcome["metrics"] = taken.json();
                rehearsed
            }
        };
        let sent = relay.taken();
        if !sent.is_empty() {
            rehearsed.outcome["mail"] = sent.iter().map(as_json).collect();
        }
        rehearsed.problems = self.script.problems();
        Ok(rehearsed)
    }
}

fn as_json(mail: &Mail) -> Value {
    json!({ "to": mail.to, "subject": mail.subject, "text": mail.text, "html": mail.html })
}

fn shown<T: Answer>(call: Call<T>) -> Rehearsed {
    Rehearsed {
        outcome: outcome(&call.outcome),
        error: call.outcome.err(),
        report: call.report,
        problems: Vec::new(),
    }
}
