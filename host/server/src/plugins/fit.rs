//! Settings from version to version: what an installation has, made fit for another version, and never lost.
//!
//! An installation has one set of settings, and one more for each version that needs others. A new version takes the settings as
//! they are, or makes its own of them (`migrate`); those are stored for that version alone, so that going back finds the former
//! ones where they were.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};
use shoal_model::grant::Grants;
use shoal_runtime::Plugin;

use super::catalogue::Known;
use super::registry::{NotRunnable, PluginRegistry, secret_place};
use super::wishes::Wish;
use crate::db::DbError;
use crate::db::installations::InstallationRow;
use crate::db::tracks::VersionSettings;

/// The version that an installation's settings are to fit.
pub(super) struct Target<'a> {
    pub(super) known: &'a Known,
    pub(super) plugin: &'a Arc<Plugin>,
    /// What is, or is about to be, approved for it.
    pub(super) approved: &'a Grants,
    /// Settings that are never shown.
    pub(super) secret_names: &'a BTreeSet<String>,
}

impl PluginRegistry {
    /// Whether a plugin takes settings. The error names each one at fault.
    pub(super) async fn accepts(
        &self,
        plugin: &Arc<Plugin>,
        settings: &Map<String, Value>,
    ) -> Result<(), String> {
        let valid = plugin.manifest().settings.validate(settings.clone());
        let valid = valid.map_err(|error| error.to_string())?;
        let asked = plugin.validate_settings(&valid.to_json()).await;
        let plugin = &plugin.manifest().id;
        match asked.outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(problems)) => {
                let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
                Err(format!("settings of {plugin}: {}", problems.join("; ")))
            }
            Err(error) => Err(format!(
                "{plugin} cannot say whether the settings are right: {error}"
            )),
        }
    }

    /// Makes an installation's settings fit for a version, coming from the one that it runs. `Some` is what has to be
    /// stored for that. The error says why the version could not run with them.
    pub(super) async fn fit(
        &self,
        wish: &Wish,
        from: Option<&Known>,
        to: &Target<'_>,
    ) -> Result<Option<VersionSettings>, String> {
        let digest = &to.known.row.digest;
        let present = wish.opened(from.map(|from| &*from.row.digest), &self.secrets)?;
        let stored = wish.opened(Some(digest), &self.secrets)?;
        let is_newer = from.is_some_and(|from| to.known.manifest.version > from.manifest.version);
        let is_older = from.is_some_and(|from| to.known.manifest.version < from.manifest.version);
        let wanted = match from {
            Some(from) if is_newer => self.migrated(from, to, present).await?,
            // Going back finds what was there.
            _ if is_older => stored.clone(),
            _ => present,
        };
        let row = &wish.row;
        self.installer
            .install(row, to.plugin, to.approved, wanted.clone())?;
        self.accepts(to.plugin, &wanted).await?;
        let needs_own = wanted != stored;
        Ok(needs_own.then(|| self.sealed_for(row, digest, wanted, to.secret_names)))
    }

    /// The settings of an installation for the version that it is to run, and what has to be stored for that when it is
    /// another than the one it runs. Where they cannot be made fit they are what is there, and whoever calls says what
    /// is wrong with them.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn settings_for(
        &self,
        wish: &Wish,
        from: Option<&Known>,
        to: &Known,
        secret_names: &BTreeSet<String>,
    ) -> Result<(Map<String, Value>, Option<VersionSettings>), NotRunnable> {
        let digest = &to.row.digest;
        let stored = wish.opened(Some(digest), &self.secrets);
        let stored = stored.map_err(NotRunnable::Reason)?;
        let is_another = from.is_some_and(|from| from.row.digest != *digest);
        if !is_another || wish.own_settings(digest).is_some() {
            return Ok((stored, None));
        }
        let plugin = self.compiled(digest).await?.map_err(NotRunnable::Reason)?;
        let approved = to.row.approved()?.unwrap_or_default();
        let target = Target {
            known: to,
            plugin: &plugin,
            approved: &approved,
            secret_names,
        };
        let Ok(Some(own)) = self.fit(wish, from, &target).await else {
            return Ok((stored, None));
        };
        let mut with_own = wish.clone();
        with_own.version_settings.push(own.clone());
        let settings = with_own.opened(Some(digest), &self.secrets);
        Ok((settings.map_err(NotRunnable::Reason)?, Some(own)))
    }

    /// What has to be stored so that going back finds settings that fit, when an installation's settings are about to become
    /// some that the version before does not take.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn kept_for_former(
        &self,
        wish: &Wish,
        next: &Map<String, Value>,
        secret_names: &BTreeSet<String>,
    ) -> Result<Vec<VersionSettings>, DbError> {
        let row = &wish.row;
        let catalogue = self.catalogue().await?;
        let track = catalogue.track(&row.plugin_id, &row.track);
        let former = match track {
            Some(track) if row.pinned_digest.is_none() => track.former()?,
            _ => return Ok(Vec::new()),
        };
        let former = former.first().and_then(|digest| catalogue.version(digest));
        let takes = |known: &Known, settings: &Map<String, Value>| {
            known.manifest.settings.validate(settings.clone()).is_ok()
        };
        let Some(former) = former.filter(|former| !takes(former, next)) else {
            return Ok(Vec::new());
        };
        let digest = &former.row.digest;
        let has_own = wish.own_settings(digest).is_some();
        match wish.opened(None, &self.secrets) {
            Ok(present) if !has_own && takes(former, &present) => {
                Ok(vec![self.sealed_for(row, digest, present, secret_names)])
            }
            _ => Ok(Vec::new()),
        }
    }

    /// What a newer version makes of the settings.
    async fn migrated(
        &self,
        from: &Known,
        to: &Target<'_>,
        settings: Map<String, Value>,
    ) -> Result<Map<String, Value>, String> {
        if !to.plugin.exports_settings() {
            return Ok(settings);
        }
        let text = Value::Object(settings).to_string();
        let is_secret = |name: &str| {
            let mut own = from.manifest.settings.secrets().iter();
            to.secret_names.contains(name) || own.any(|own| own == name)
        };
        let migrated = to
            .plugin
            .migrate_settings(&from.row.version, &text, is_secret)
            .await;
        let text = migrated.outcome.map_err(|error| {
            format!(
                "it cannot migrate the settings of version {}: {error}",
                from.row.version
            )
        })?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    /// Settings for one version as they are stored.
    pub fn sealed_for(
        &self,
        row: &InstallationRow,
        digest: &str,
        settings: Map<String, Value>,
        secret_names: &BTreeSet<String>,
    ) -> VersionSettings {
        let (secrets, shown): (Map<String, Value>, Map<String, Value>) = settings
            .into_iter()
            .partition(|(name, _)| secret_names.contains(name));
        let names: Vec<&String> = secrets.keys().collect();
        let place = secret_place(row.tenant(), &row.id, digest);
        VersionSettings {
            tenant_id: row.tenant_id,
            installation_id: row.id.clone(),
            digest: digest.to_owned(),
            secret_names: Value::from_iter(names.into_iter().map(String::as_str)).to_string(),
            settings: Value::Object(shown).to_string(),
            sealed: self
                .secrets
                .seal(&Value::Object(secrets).to_string(), &place),
        }
    }
}
