//! Checks an installation as it is to be, stores it and waits until it is live. Nothing changes when it could not run.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};
use shoal_model::InstallationId;
use shoal_model::grant::Kind;

use super::{ApiError, changed_meanwhile, secrets};
use crate::app::App;
use crate::audit::Audit;
use crate::db::installations::{ChangedInstallation, InstallationRow, NewInstallation};
use crate::db::tracks::VersionSettings;
use crate::db::{DbError, TenantDb};
use crate::http::plugins::{parse_grants, refused};
use crate::plugins::{Known, Stored, Wish, secret_place};

/// How often it is looked which checks are due; oftener would cost more than it tells. Every interval is a multiple.
const INTERVAL_MIN_MS: i64 = 10_000;
/// A day.
const INTERVAL_MAX_MS: i64 = 86_400_000;
const NAME_MAX_CHARS: usize = 100;
/// Installations of one tenant: each is held in memory ready to run, and looked at in every run of the checks.
pub(super) const INSTALLATIONS_MAX: usize = 1000;

/// An installation as it is to be, secrets among its settings.
pub(super) struct Wanted {
    pub(super) id: InstallationId,
    pub(super) name: String,
    pub(super) plugin: String,
    pub(super) kind: String,
    pub(super) settings: Map<String, Value>,
    pub(super) grants: Option<Vec<String>>,
    pub(super) track: String,
    pub(super) digest: Option<String>,
    pub(super) interval_ms: Option<i64>,
    pub(super) is_enabled: bool,
}

/// Where it is stored, and what is said of it.
pub(super) struct Saving<'a> {
    pub(super) app: &'a App,
    pub(super) db: &'a TenantDb,
    pub(super) audit: &'a Audit,
}

/// An installation of which nothing is known but what it is to run.
pub(super) fn draft(
    db: &TenantDb,
    id: &InstallationId,
    plugin: &str,
    track: &str,
    digest: Option<&str>,
) -> InstallationRow {
    NewInstallation {
        id: id.clone(),
        name: String::new(),
        plugin_id: plugin.to_owned(),
        kind: String::new(),
        track: track.to_owned(),
        pinned_digest: digest.map(str::to_owned),
        settings: Map::new(),
        secrets: Vec::new(),
        grants: None,
        is_enabled: true,
        interval_ms: None,
    }
    .as_row(db.id())
}

impl Saving<'_> {
    /// A new installation of a version.
    pub(super) async fn create(&self, wanted: Wanted, known: &Known) -> Result<(), ApiError> {
        let names = self.secret_names(known, BTreeSet::new()).await?;
        let settings = wanted.settings.clone();
        let stored = self.sealed(&wanted.id, settings.clone(), &names);
        let new = self.checked(wanted, stored).await?;
        // Held until the change is live.
        let _plugin = self.runnable(&new, known, settings).await?;
        let now = self.app.clock.now();
        let created = self.db.create_installation(&new, self.audit, now).await;
        created.map_err(|error| exists(error, &new.name))?;
        Ok(self.app.plugins.apply().await?)
    }

    /// An installation as it is to be from now on; without settings, it keeps those that it has.
    pub(super) async fn change(
        &self,
        wish: &Wish,
        wanted: Wanted,
        settings: Option<Map<String, Value>>,
    ) -> Result<(), ApiError> {
        let plugins = &self.app.plugins;
        let to = draft(
            self.db,
            &wanted.id,
            &wanted.plugin,
            &wanted.track,
            wanted.digest.as_deref(),
        );
        let known = plugins.chosen(&to).await;
        let known = known.map_err(|error| refused("not_runnable", error))?;
        let digest = &known.row.digest;
        let names = self.secret_names(&known, wish.sealed_names()?).await?;
        let from = plugins.chosen(&wish.row).await.ok();
        let (present, moved) = plugins
            .settings_for(wish, from.as_deref(), &known, &names)
            .await
            .map_err(|error| refused("not_runnable", error))?;
        let mut version_settings: Vec<VersionSettings> = moved.into_iter().collect();
        let mut stored = wish.stored()?;
        let final_settings = match settings {
            None => present,
            Some(given) => {
                let given = secrets::kept(given, &present, &names, &known.manifest)?;
                let is_same_version = from.is_none_or(|from| from.row.digest == *digest);
                if is_same_version && wish.own_settings(digest).is_none() {
                    version_settings = plugins.kept_for_former(wish, &given, &names).await?;
                    stored = self.sealed(&wanted.id, given.clone(), &names);
                } else {
                    version_settings =
                        vec![plugins.sealed_for(&wish.row, digest, given.clone(), &names)];
                }
                given
            }
        };
        let new = self.checked(wanted, stored).await?;
        let _plugin = self.runnable(&new, &known, final_settings).await?;
        let change = ChangedInstallation {
            new,
            made_from: wish.row.revision,
            version_settings,
        };
        let now = self.app.clock.now();
        let changed = self.db.change_installation(&change, self.audit, now).await;
        match changed.map_err(|error| exists(error, &change.new.name))? {
            true => Ok(plugins.apply().await?),
            false => Err(changed_meanwhile(&wish.row.id)),
        }
    }

    /// The settings that are never shown.
    async fn secret_names(
        &self,
        known: &Known,
        mut names: BTreeSet<String>,
    ) -> Result<BTreeSet<String>, ApiError> {
        let catalogue = self.app.plugins.catalogue().await?;
        names.extend(catalogue.secret_names(&known.row.plugin_id));
        names.extend(known.manifest.settings.secrets().iter().cloned());
        Ok(names)
    }

    fn sealed(
        &self,
        id: &InstallationId,
        settings: Map<String, Value>,
        names: &BTreeSet<String>,
    ) -> Stored {
        let (secrets, shown): (Map<_, _>, Map<_, _>) = settings
            .into_iter()
            .partition(|(name, _)| names.contains(name));
        let seal = |(name, value): (String, Value)| {
            let place = secret_place(self.db.id(), id.as_str(), &name);
            let sealed = self.app.plugins.secrets().seal(&value.to_string(), &place);
            (name, sealed)
        };
        (shown, secrets.into_iter().map(seal).collect())
    }

    /// Everything about it but its plugin.
    async fn checked(
        &self,
        wanted: Wanted,
        (settings, secrets): Stored,
    ) -> Result<NewInstallation, ApiError> {
        check_name(&wanted.name)?;
        check_interval(wanted.interval_ms)?;
        check_beside_others(self.db, &wanted).await?;
        let grants = wanted.grants.as_deref().map(parse_grants).transpose()?;
        Ok(NewInstallation {
            id: wanted.id,
            name: wanted.name,
            plugin_id: wanted.plugin,
            kind: wanted.kind,
            track: wanted.track,
            pinned_digest: wanted.digest,
            settings,
            secrets,
            grants,
            is_enabled: wanted.is_enabled,
            interval_ms: wanted.interval_ms,
        })
    }

    async fn runnable(
        &self,
        new: &NewInstallation,
        known: &Known,
        settings: Map<String, Value>,
    ) -> Result<Arc<shoal_runtime::Plugin>, ApiError> {
        let row = new.as_row(self.db.id());
        let checked = self.app.plugins.check(&row, known, settings).await;
        checked.map_err(|error| refused("not_runnable", error))
    }
}

fn exists(error: DbError, name: &str) -> ApiError {
    match error {
        DbError::Exists(_) => ApiError::conflict(
            "installation_exists",
            format!("there is an installation {name:?} already; give another name"),
        ),
        error => error.into(),
    }
}

async fn check_beside_others(db: &TenantDb, wanted: &Wanted) -> Result<(), ApiError> {
    let installations = db.installations().await?;
    let is_new = installations.iter().all(|row| row.id != wanted.id.as_str());
    if is_new {
        room_for_another(installations.len())?;
    }
    check_only_rule(&installations, wanted)
}

pub(super) fn room_for_another(present: usize) -> Result<(), ApiError> {
    if present < INSTALLATIONS_MAX {
        return Ok(());
    }
    let message = format!(
        "there are {present} installations, and at most {INSTALLATIONS_MAX} are allowed; delete one first"
    );
    Err(ApiError::conflict("too_many_installations", message))
}

/// A month is priced by one rule; the database refuses a second one too.
fn check_only_rule(installations: &[InstallationRow], wanted: &Wanted) -> Result<(), ApiError> {
    let rule = Kind::BillingRule.as_str();
    if wanted.kind != rule || !wanted.is_enabled {
        return Ok(());
    }
    let other = installations
        .iter()
        .find(|row| row.kind == rule && row.is_enabled == 1 && row.id != wanted.id.as_str());
    let Some(other) = other else {
        return Ok(());
    };
    let message = format!(
        "the billing rule {} ({}) is enabled already; disable it first, or change its settings",
        other.id, other.name
    );
    Err(ApiError::conflict("billing_rule_exists", message))
}

fn check_name(name: &str) -> Result<(), ApiError> {
    if (1..=NAME_MAX_CHARS).contains(&name.chars().count()) {
        return Ok(());
    }
    let message = format!(
        "a name has 1 to {NAME_MAX_CHARS} characters; this one has {}",
        name.chars().count()
    );
    Err(ApiError::bad_request("invalid_name", message))
}

fn check_interval(interval_ms: Option<i64>) -> Result<(), ApiError> {
    match interval_ms {
        Some(ms)
            if !(INTERVAL_MIN_MS..=INTERVAL_MAX_MS).contains(&ms) || ms % INTERVAL_MIN_MS != 0 =>
        {
            Err(ApiError::bad_request(
                "invalid_interval",
                format!(
                    "interval_ms is {ms}; it must be a multiple of {INTERVAL_MIN_MS} from {INTERVAL_MIN_MS} to {INTERVAL_MAX_MS}"
                ),
            ))
        }
        _ => Ok(()),
    }
}
