//! What a plugin may export beside its kind's interface: rules for its settings. See `wit/settings.wit`.
//!
//! Called in a fresh instance with the kind's limits, and with nothing open: no network, no grants.

use shoal_model::grant::Kind;

use crate::bindings::exports::shoal::plugin::settings as wit;
use crate::call::{Call, CallError, CallReport, cut};
use crate::failure;
use crate::link::{Guest, Linked, reason};
use crate::plugin::Plugin;
use crate::refusal::Refusal;
use crate::run::Work;
use crate::secrets::veil::Veil;
use crate::settings::{PROBLEMS_MAX, SETTINGS_MAX_BYTES, SettingProblem};

/// The interface's name.
const SETTINGS: &str = "settings";
/// Longest name of a setting and longest message that are kept, in bytes; the latter is part of the contract.
const SETTING_MAX_BYTES: usize = 200;
const MESSAGE_MAX_BYTES: usize = 500;

/// Whether an interface of `shoal:plugin` may be exported by any kind.
pub(crate) fn is_optional(interface: &str) -> bool {
    interface == SETTINGS
}

impl Plugin {
    /// Whether it has rules of its own for settings.
    pub fn exports_settings(&self) -> bool {
        let mut exports = self.inspection().exports.iter();
        exports.any(|export| {
            let name = export.split('@').next().unwrap_or_default();
            name.strip_prefix("shoal:plugin/") == Some(SETTINGS)
        })
    }

    /// Has the plugin look at settings that satisfy its schema; without rules of its own, all is well. It sees references
    /// instead of secrets.
    pub async fn validate_settings(
        &self,
        settings_json: &str,
    ) -> Call<Result<(), Vec<SettingProblem>>> {
        if !self.exports_settings() {
            return unasked(Ok(()));
        }
        let secrets = self.manifest().settings.secrets();
        let veil = Veil::over(settings_json, |name| secrets.iter().any(|own| own == name));
        let settings = match veil {
            Ok((_, shown)) => shown,
            Err(why) => return unfit(why),
        };
        let work: Work<Vec<wit::Problem>> = Box::new(move |store, guest| {
            Box::pin(async move { rules(guest)?.call_validate(store, &settings).await })
        });
        self.ask(work, |problems| Ok(judged(problems))).await
    }

    /// Has the plugin turn settings of an earlier version into its own; without rules of its own, they stay.
    ///
    /// It sees references instead of those settings that `is_secret`. What it answers satisfies its schema, keeps secrets
    /// secret and names no destination that was not there.
    pub async fn migrate_settings(
        &self,
        from_version: &str,
        settings_json: &str,
        is_secret: impl Fn(&str) -> bool,
    ) -> Call<String> {
        if !self.exports_settings() {
            return unasked(settings_json.to_owned());
        }
        let (veil, settings) = match Veil::over(settings_json, is_secret) {
            Ok(veiled) => veiled,
            Err(why) => return unfit(why),
        };
        let from = from_version.to_owned();
        let work: Work<Result<String, _>> = Box::new(move |store, guest| {
            Box::pin(async move { rules(guest)?.call_migrate(store, &from, &settings).await })
        });
        self.ask(work, |migrated| match migrated {
            Ok(settings) => self.fitting(&veil, &settings),
            Err(failure) => Err(CallError::Failed(failure::from_wit(failure))),
        })
        .await
    }

    /// Finds what does not fit before anybody's settings depend on it.
    pub(crate) async fn start_rules_once(&self) -> Result<(), Refusal> {
        if !self.exports_settings() {
            return Ok(());
        }
        let kind = self.kind();
        let started = self.ask(nothing(), Ok).await;
        started.outcome.map_err(|failed| refusal(kind, failed))
    }

    async fn ask<W, T>(
        &self,
        work: Work<W>,
        take: impl FnOnce(W) -> Result<T, CallError>,
    ) -> Call<T> {
        let linked = match Linked::settings(self.closed_link().pre) {
            Ok(linked) => linked,
            Err(error) => {
                return Call {
                    outcome: Err(CallError::WrongTypes(reason(&error))),
                    report: CallReport::default(),
                };
            }
        };
        let (outcome, report) = self.alone(&linked, work).await;
        Call {
            outcome: outcome.and_then(take),
            report,
        }
    }

    /// Settings that a plugin made, if its own schema takes them.
    fn fitting(&self, veil: &Veil, settings: &str) -> Result<String, CallError> {
        let wrong = |why: String| CallError::BadAnswer(format!("the migrated settings {why}"));
        if settings.len() > SETTINGS_MAX_BYTES {
            return Err(wrong(format!("are larger than {SETTINGS_MAX_BYTES} bytes")));
        }
        let settings = veil.lifted(settings, self.manifest()).map_err(wrong)?;
        let object = serde_json::from_str(&settings)
            .map_err(|e| wrong(format!("are not a JSON object: {e}")))?;
        match self.manifest().settings.validate(object) {
            Ok(_) => Ok(settings),
            Err(problems) => Err(wrong(format!("do not satisfy its schema: {problems}"))),
        }
    }
}

/// Settings that are none cannot be shown to a plugin.
fn unfit<T>(why: String) -> Call<T> {
    Call {
        outcome: Err(CallError::BadAnswer(format!("the settings {why}"))),
        report: CallReport::default(),
    }
}

fn rules(guest: &Guest) -> wasmtime::Result<&wit::Guest> {
    match guest {
        Guest::Settings(rules) => Ok(rules),
        _ => wasmtime::bail!("no rules for settings"),
    }
}

/// Only makes the instance.
pub(crate) fn nothing() -> Work<()> {
    Box::new(|_, _| Box::pin(async { Ok(()) }))
}

/// What it means for a file that its instance could not be made.
pub(crate) fn refusal(kind: Kind, failed: CallError) -> Refusal {
    match failed {
        CallError::WrongTypes(reason) => Refusal::Incompatible { kind, reason },
        error => Refusal::CannotStart(error.to_string()),
    }
}

fn judged(problems: Vec<wit::Problem>) -> Result<(), Vec<SettingProblem>> {
    if problems.is_empty() {
        return Ok(());
    }
    let problems = problems.into_iter().take(PROBLEMS_MAX);
    Err(problems
        .map(|wit::Problem { setting, message }| SettingProblem {
            setting: match setting.as_str() {
                "" => "settings".to_owned(),
                _ => cut(setting, SETTING_MAX_BYTES),
            },
            reason: cut(message, MESSAGE_MAX_BYTES),
        })
        .collect())
}

/// The outcome where there was nobody to ask.
fn unasked<T>(answer: T) -> Call<T> {
    Call {
        outcome: Ok(answer),
        report: CallReport::default(),
    }
}
