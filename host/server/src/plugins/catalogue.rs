//! The catalogue as a process knows it: versions with their manifests, and which of them each track wants.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use shoal_runtime::Manifest;

use super::registry::NotRunnable;
use crate::db::installations::InstallationRow;
use crate::db::plugins::VersionRow;
use crate::db::tracks::{STABLE, TrackRow, Trial};
use crate::db::{Db, DbError};

/// Versions that are tried for one installation, the one that its track wants first.
const CANDIDATES_MAX: usize = 3;

/// Every version and every track at one revision.
#[derive(Default)]
pub struct Catalogue {
    versions: HashMap<String, Arc<Known>>,
    tracks: HashMap<(String, String), TrackRow>,
}

/// A version with its manifest.
pub struct Known {
    /// As it stands in the database.
    pub row: VersionRow,
    /// What it says of itself.
    pub manifest: Manifest,
}

impl Catalogue {
    /// Reads it. What has not changed since `before` is not parsed again.
    pub(super) async fn read(db: &Db, before: &Catalogue) -> Result<Catalogue, DbError> {
        let system = db.system();
        let mut next = Catalogue::default();
        for row in system.versions().await? {
            let digest = row.digest.clone();
            let known = match before.versions.get(&digest) {
                Some(known) if known.row == row => known.clone(),
                _ => match Manifest::parse(&row.manifest) {
                    Ok(manifest) => Arc::new(Known { row, manifest }),
                    Err(error) => {
                        tracing::error!(plugin.digest = digest, %error, "the manifest of a stored version is not understood; the version is left out");
                        continue;
                    }
                },
            };
            next.versions.insert(digest, known);
        }
        for track in system.tracks().await? {
            let key = (track.plugin_id.clone(), track.track.clone());
            next.tracks.insert(key, track);
        }
        Ok(next)
    }

    /// One version.
    pub fn version(&self, digest: &str) -> Option<&Arc<Known>> {
        self.versions.get(digest)
    }

    /// One version, for whoever names it.
    ///
    /// # Errors
    /// [`NotRunnable::Unknown`].
    pub fn found(&self, plugin: &str, digest: &str) -> Result<&Arc<Known>, NotRunnable> {
        self.version_of(plugin, digest).ok_or_else(|| {
            let digest: String = digest.chars().take(100).collect();
            NotRunnable::Unknown(format!(
                "plugin {plugin:?} has no version {digest:?}; see: shoal plugin list"
            ))
        })
    }

    /// Every version, by plugin, the one approved last first.
    pub fn versions(&self) -> Vec<&Arc<Known>> {
        let mut versions: Vec<_> = self.versions.values().collect();
        versions.sort_by_key(|known| {
            let row = &known.row;
            let newest = std::cmp::Reverse((row.approval, row.added_at_ms));
            (row.plugin_id.clone(), newest, row.digest.clone())
        });
        versions
    }

    /// One version of a plugin.
    pub fn version_of(&self, plugin: &str, digest: &str) -> Option<&Arc<Known>> {
        self.version(digest)
            .filter(|known| known.row.plugin_id == plugin)
    }

    /// A track of a plugin, as it is stored.
    pub fn track(&self, plugin: &str, track: &str) -> Option<&TrackRow> {
        self.tracks.get(&(plugin.to_owned(), track.to_owned()))
    }

    /// Every track of a plugin, by name.
    pub fn tracks_of(&self, plugin: &str) -> Vec<&TrackRow> {
        let is_it = |track: &&TrackRow| track.plugin_id == plugin;
        let mut tracks: Vec<_> = self.tracks.values().filter(is_it).collect();
        tracks.sort_by_key(|track| &track.track);
        tracks
    }

    /// The version that an installation is to run.
    ///
    /// # Errors
    /// Its track cannot be read.
    pub fn chosen(&self, row: &InstallationRow) -> Result<Option<&Arc<Known>>, DbError> {
        Ok(self.candidates(row)?.first().copied())
    }

    /// The version that an installation is to run, and those that may instead when it cannot. Only approved ones.
    pub(super) fn candidates(&self, row: &InstallationRow) -> Result<Vec<&Arc<Known>>, DbError> {
        let mut digests = Vec::new();
        if let Some(pinned) = &row.pinned_digest {
            digests.push(pinned.clone());
        } else if let Some(track) = self.track(&row.plugin_id, &row.track) {
            if let Some((digest, Trial::Canary(tenants))) = track.candidate()?
                && tenants.contains(&row.tenant())
            {
                digests.push(digest.to_owned());
            }
            digests.extend(track.active_digest.clone());
            digests.extend(track.former()?);
        }
        let approved = digests.iter().filter_map(|digest| {
            let known = self.version_of(&row.plugin_id, digest)?;
            known.row.approval.map(|_| known)
        });
        Ok(approved.take(CANDIDATES_MAX).collect())
    }

    /// The version that is to see copies of an installation's calls, and after how many equal answers it may run.
    pub(super) fn shadow(
        &self,
        row: &InstallationRow,
    ) -> Result<Option<(&Arc<Known>, u32)>, DbError> {
        let track = self.track(&row.plugin_id, &row.track);
        let Some(track) = track.filter(|_| row.pinned_digest.is_none()) else {
            return Ok(None);
        };
        let Some((digest, Trial::Shadow { needed })) = track.candidate()? else {
            return Ok(None);
        };
        let known = self.version_of(&row.plugin_id, digest);
        Ok(known.map(|known| (known, needed)))
    }

    /// The settings of a plugin that are never shown: what any of its approved versions calls a secret.
    pub fn secret_names(&self, plugin: &str) -> BTreeSet<String> {
        self.versions
            .values()
            .filter(|known| known.row.plugin_id == plugin && known.row.approval.is_some())
            .flat_map(|known| known.manifest.settings.secrets().iter().cloned())
            .collect()
    }
}

/// Why an installation has nothing to run, and who does what about it.
pub(super) fn nothing_to_run(row: &InstallationRow) -> String {
    let (plugin, track) = (&row.plugin_id, &row.track);
    match &row.pinned_digest {
        Some(digest) => format!(
            "version {digest} of {plugin} is not approved; an operator does it with: shoal plugin approve {plugin} --digest {digest} --no-publish"
        ),
        None if track == STABLE => format!(
            "no version of {plugin} is approved; an operator does it with: shoal plugin approve {plugin}"
        ),
        None => format!(
            "no version of {plugin} is published on track {track}; an operator does it with: shoal plugin publish {plugin} --track {track}"
        ),
    }
}
