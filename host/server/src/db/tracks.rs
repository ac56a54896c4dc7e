//! Tracks: which version is active for whoever follows one, which is tried, and everything that was done to them.
//!
//! Whatever is done is one update of one row, in one transaction with the approval, the settings, the release and the
//! line of the audit log that belong to it: a process that dies in the middle leaves what was before.

use serde_json::{Map, Value};
use shoal_model::{TenantId, Timestamp};

use super::audit::record;
use super::plugins::{Approval, approve, change_catalogue};
use super::{DbError, System, Transaction};
use crate::audit::Audit;

/// The track that installations follow unless somebody says otherwise.
pub const STABLE: &str = "stable";

/// One track of one plugin.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct TrackRow {
    /// Of which plugin.
    pub plugin_id: String,
    /// Its name.
    pub track: String,
    /// What runs; `None` when that was withdrawn.
    pub active_digest: Option<String>,
    /// What ran before, the latest first: a JSON list of digests.
    pub former: String,
    /// What is tried.
    pub candidate_digest: Option<String>,
    /// `canary` or `shadow`.
    pub candidate_mode: Option<String>,
    /// For whom a canary runs: a JSON list of tenants' numbers.
    pub candidate_tenants: String,
    /// After how many equal answers a shadow becomes active.
    pub candidate_needed: i64,
    /// Changes with every change; 0 for a track that is not stored yet.
    pub revision: i64,
}

/// How a version is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    /// It runs for these tenants.
    Canary(Vec<TenantId>),
    /// It sees copies of calls, and becomes active after so many equal answers.
    Shadow {
        /// How many.
        needed: u32,
    },
}

impl TrackRow {
    /// A track on which nothing was published.
    pub fn new(plugin: &str, track: &str) -> TrackRow {
        TrackRow {
            plugin_id: plugin.to_owned(),
            track: track.to_owned(),
            active_digest: None,
            former: "[]".to_owned(),
            candidate_digest: None,
            candidate_mode: None,
            candidate_tenants: "[]".to_owned(),
            candidate_needed: 0,
            revision: 0,
        }
    }

    /// What ran before, the latest first.
    ///
    /// # Errors
    /// [`DbError::Corrupt`]; so of all methods here.
    pub fn former(&self) -> Result<Vec<String>, DbError> {
        serde_json::from_str(&self.former).map_err(|problem| self.corrupt(problem))
    }

    /// Says what ran before.
    pub fn set_former(&mut self, former: &[String]) {
        self.former = Value::from(former).to_string();
    }

    /// The version that is tried, and how.
    pub fn candidate(&self) -> Result<Option<(&str, Trial)>, DbError> {
        let Some(digest) = &self.candidate_digest else {
            return Ok(None);
        };
        let trial = match self.candidate_mode.as_deref() {
            Some("canary") => {
                let numbers: Vec<i64> = serde_json::from_str(&self.candidate_tenants)
                    .map_err(|problem| self.corrupt(problem))?;
                Trial::Canary(numbers.into_iter().map(TenantId).collect())
            }
            Some("shadow") => Trial::Shadow {
                needed: u32::try_from(self.candidate_needed)
                    .map_err(|problem| self.corrupt(problem))?,
            },
            other => return Err(self.corrupt(format!("candidate_mode is {other:?}"))),
        };
        Ok(Some((digest, trial)))
    }

    /// Says which version is tried, and how.
    pub fn set_candidate(&mut self, candidate: Option<(&str, &Trial)>) {
        let (mode, tenants, needed) = match candidate {
            None => (None, Vec::new(), 0),
            Some((_, Trial::Canary(tenants))) => {
                let numbers = tenants.iter().map(|tenant| tenant.0).collect();
                (Some("canary"), numbers, 0)
            }
            Some((_, Trial::Shadow { needed })) => (Some("shadow"), Vec::new(), *needed),
        };
        self.candidate_digest = candidate.map(|(digest, _)| digest.to_owned());
        self.candidate_mode = mode.map(str::to_owned);
        self.candidate_tenants = Value::from(tenants).to_string();
        self.candidate_needed = i64::from(needed);
    }

    fn corrupt(&self, problem: impl ToString) -> DbError {
        DbError::corrupt(
            "plugin_track",
            format!("{} {}", self.plugin_id, self.track),
            problem,
        )
    }
}

/// Something that was done to a track.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct ReleaseRow {
    /// Of which plugin.
    pub plugin_id: String,
    /// Which track.
    pub track: String,
    /// Grows by one.
    pub seq: i64,
    /// Which version it was about.
    pub digest: String,
    /// publish, canary, shadow, promote, abandon, rollback or withdraw.
    pub action: String,
    /// Who did it.
    pub actor: String,
    /// Why, in their words; may be empty.
    pub reason: String,
    /// When, Unix ms.
    pub at_ms: i64,
}

/// Settings of one installation for one version.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct VersionSettings {
    /// Whose.
    pub tenant_id: i64,
    /// Of which installation.
    pub installation_id: String,
    /// For which version.
    pub digest: String,
    /// JSON, without secrets.
    pub settings: String,
    /// What [`crate::secrets::SecretBox`] made of all secrets.
    pub sealed: Vec<u8>,
    /// Their names, a JSON list.
    pub secret_names: String,
}

impl VersionSettings {
    /// The settings, without secrets.
    ///
    /// # Errors
    /// [`DbError::Corrupt`].
    pub fn shown(&self) -> Result<Map<String, Value>, DbError> {
        serde_json::from_str(&self.settings).map_err(|problem| self.corrupt(problem))
    }

    /// The names of the secrets.
    ///
    /// # Errors
    /// [`DbError::Corrupt`].
    pub fn secret_names(&self) -> Result<Vec<String>, DbError> {
        serde_json::from_str(&self.secret_names).map_err(|problem| self.corrupt(problem))
    }

    fn corrupt(&self, problem: impl ToString) -> DbError {
        let key = format!("{} {}", self.installation_id, self.digest);
        DbError::corrupt("installation_settings", key, problem)
    }
}

/// What is to be done to a track.
#[derive(Clone, Debug)]
pub struct Release {
    /// As it is to be; its revision is that of the row that it replaces.
    pub track: TrackRow,
    /// Which version it is about.
    pub digest: String,
    /// What is done.
    pub action: &'static str,
    /// Why.
    pub reason: String,
    /// Approved along with it.
    pub approval: Option<Approval>,
    /// What installations need for the version, each with the revision of the installation that it was made from.
    pub settings: Vec<(VersionSettings, i64)>,
    /// The line of the audit log.
    pub audit: Audit,
}

impl System {
    /// Every track. Called by the registry and routes.
    pub async fn tracks(&self) -> Result<Vec<TrackRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT plugin_id, track, active_digest, former, candidate_digest, candidate_mode, candidate_tenants,
                    candidate_needed, revision
             FROM plugin_track
             ORDER BY plugin_id, track",
        ).fetch_all(c).await?))
    }

    /// What was done to a plugin's tracks, the latest first. Called by the operator's route.
    pub async fn releases(&self, plugin: &str, limit: i64) -> Result<Vec<ReleaseRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT plugin_id, track, seq, digest, action, actor, reason, at_ms
             FROM plugin_release
             WHERE plugin_id = $1
             ORDER BY at_ms DESC, seq DESC, track
             LIMIT $2",
        ).bind(plugin).bind(limit).fetch_all(c).await?))
    }

    /// Does it all, or nothing: `false` when the track or an installation whose settings are given has changed since
    /// they were read. Called by the registry.
    pub async fn release(&self, release: &Release, now: Timestamp) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let revision = change_catalogue(&mut tx).await?;
        if let Some(approval) = &release.approval {
            approve(&mut tx, approval, now).await?;
        }
        if !put_track(&mut tx, &release.track, revision).await? {
            return Ok(false);
        }
        for (settings, made_from) in &release.settings {
            if !put_settings(&mut tx, settings, *made_from, revision).await? {
                return Ok(false);
            }
        }
        append_release(&mut tx, release, now).await?;
        record(&mut tx, &release.audit, now).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Withdraws a version's approval, and takes it off the tracks given. `false` when a track has changed since it was
    /// read, or there is no such version. Called by the registry.
    pub async fn withdraw(
        &self,
        digest: &str,
        releases: &[Release],
        audit: &Audit,
        now: Timestamp,
    ) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let revision = change_catalogue(&mut tx).await?;
        let changed = sql!(tx, c => sqlx::query(
            "UPDATE plugin_version
             SET approved_grants = NULL, approved_hash = NULL, approved_by = NULL, approved_at_ms = NULL, approval = NULL
             WHERE digest = $1",
        ).bind(digest).execute(c).await?.rows_affected());
        if changed != 1 {
            return Ok(false);
        }
        for release in releases {
            if !put_track(&mut tx, &release.track, revision).await? {
                return Ok(false);
            }
            append_release(&mut tx, release, now).await?;
        }
        record(&mut tx, audit, now).await?;
        tx.commit().await?;
        Ok(true)
    }
}

/// Changes a track, or makes it. `false` when it is not any more what it was.
async fn put_track(tx: &mut Transaction, track: &TrackRow, revision: i64) -> Result<bool, DbError> {
    let changed = sql!(tx, c => sqlx::query(
        "INSERT INTO plugin_track
             (plugin_id, track, active_digest, former, candidate_digest, candidate_mode, candidate_tenants,
              candidate_needed, revision)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (plugin_id, track) DO UPDATE
         SET active_digest = $3, former = $4, candidate_digest = $5, candidate_mode = $6, candidate_tenants = $7,
             candidate_needed = $8, revision = $9
         WHERE plugin_track.revision = $10",
    )
    .bind(&track.plugin_id)
    .bind(&track.track)
    .bind(&track.active_digest)
    .bind(&track.former)
    .bind(&track.candidate_digest)
    .bind(&track.candidate_mode)
    .bind(&track.candidate_tenants)
    .bind(track.candidate_needed)
    .bind(revision)
    .bind(track.revision)
    .execute(c).await?.rows_affected());
    Ok(changed == 1)
}

/// Stores settings for a version. `false` when the installation is not any more what they were made from.
async fn put_settings(
    tx: &mut Transaction,
    settings: &VersionSettings,
    made_from: i64,
    revision: i64,
) -> Result<bool, DbError> {
    let changed = sql!(tx, c => sqlx::query(
        "UPDATE installation SET revision = $4 WHERE tenant_id = $1 AND id = $2 AND revision = $3",
    )
    .bind(settings.tenant_id)
    .bind(&settings.installation_id)
    .bind(made_from)
    .bind(revision)
    .execute(c).await?.rows_affected());
    if changed == 1 {
        put_version_settings(tx, settings).await?;
    }
    Ok(changed == 1)
}

/// Stores settings for a version.
pub(super) async fn put_version_settings(
    tx: &mut Transaction,
    settings: &VersionSettings,
) -> Result<(), DbError> {
    sql!(tx, c => sqlx::query(
        "INSERT INTO installation_settings
             (tenant_id, installation_id, digest, settings, sealed, secret_names)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (tenant_id, installation_id, digest) DO UPDATE
         SET settings = $4, sealed = $5, secret_names = $6",
    )
    .bind(settings.tenant_id)
    .bind(&settings.installation_id)
    .bind(&settings.digest)
    .bind(&settings.settings)
    .bind(&settings.sealed)
    .bind(&settings.secret_names)
    .execute(c).await?.rows_affected());
    Ok(())
}

async fn append_release(
    tx: &mut Transaction,
    release: &Release,
    now: Timestamp,
) -> Result<(), DbError> {
    let track = &release.track;
    sql!(tx, c => sqlx::query(
        "INSERT INTO plugin_release (plugin_id, track, seq, digest, action, actor, reason, at_ms)
         SELECT $1, $2, COALESCE(MAX(seq), 0) + 1, $3, $4, $5, $6, $7
         FROM plugin_release
         WHERE plugin_id = $1 AND track = $2",
    )
    .bind(&track.plugin_id)
    .bind(&track.track)
    .bind(&release.digest)
    .bind(release.action)
    .bind(&release.audit.actor)
    .bind(&release.reason)
    .bind(now.0)
    .execute(c).await?.rows_affected());
    Ok(())
}
