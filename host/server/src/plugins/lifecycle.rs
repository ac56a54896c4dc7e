//! From an added version to one that runs: publish, try, promote, abandon, roll back, withdraw.
//!
//! Everything is checked first, against every installation that it would touch; then one transaction changes one row of one
//! track, and with it what all processes run within a second. What was looked at and has changed meanwhile is looked at again.
//! Every step can be done twice: the second time there is nothing to do.

use std::sync::Arc;

use shoal_model::TenantId;
use shoal_model::grant::Grants;

use super::catalogue::Known;
use super::fit::Target;
use super::registry::{NotRunnable, PluginRegistry, Present};
use super::snapshot::Shadow;
use crate::audit::SYSTEM;
use crate::db::installations::InstallationRow;
use crate::db::plugins::{Approval, VersionRow};
use crate::db::tracks::{Release, TrackRow, Trial, VersionSettings};
use plan::Plan;

mod plan;

/// How often a plan is made anew because what it was made from has changed.
const ATTEMPTS_MAX: usize = 3;
/// Installations that a refusal names; more would not be read.
const NAMED_MAX: usize = 10;

/// Who does something, and why.
#[derive(Clone, Debug)]
pub struct By {
    /// A key's id and name, or `system`.
    pub actor: String,
    /// In their words; may be empty.
    pub reason: String,
}

/// What is approved along with publishing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approve {
    /// Nothing: the version has to be approved.
    Before,
    /// This.
    Now(Grants),
    /// What it asks for, when the active version was approved for all of it.
    Inherited,
}

/// A version that is to be published.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Of which plugin.
    pub plugin: String,
    /// Which version.
    pub digest: String,
    /// On which track.
    pub track: String,
    /// Only tried; `None` makes it active for all who follow the track.
    pub trial: Option<Trial>,
    /// What is approved along with it.
    pub approve: Approve,
    /// Whether installations that it would break stay on the version that they have.
    pub is_forced: bool,
}

/// A track to go back on.
#[derive(Clone, Debug)]
pub struct RollBack {
    /// Of which plugin.
    pub plugin: String,
    /// Which track.
    pub track: String,
    /// Only when this version is active or tried; `None` is whatever is active.
    pub from: Option<String>,
    /// To which version; `None` is the one before.
    pub to: Option<String>,
}

/// What was done to a track.
#[derive(Clone, Debug)]
pub struct Released {
    /// As it is now.
    pub track: TrackRow,
    /// Whether it is another than before.
    pub has_changed: bool,
    /// Installations that follow the track and do not run what it wants.
    pub held_back: Vec<HeldBack>,
}

/// An installation that does not run what its track wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// Whose.
    pub tenant: TenantId,
    /// Its id.
    pub installation: String,
    /// Why not.
    pub reason: String,
}

impl PluginRegistry {
    /// Publishes a version, or begins to try it.
    ///
    /// # Errors
    /// It is not approved, cannot run, or would break installations; nothing has changed.
    pub async fn publish(&self, publish: &Publish, by: &By) -> Result<Released, NotRunnable> {
        let action = match publish.trial {
            None => "publish",
            Some(Trial::Canary(_)) => "canary",
            Some(Trial::Shadow { .. }) => "shadow",
        };
        self.publish_as(action, publish, by).await
    }

    async fn publish_as(
        &self,
        action: &'static str,
        publish: &Publish,
        by: &By,
    ) -> Result<Released, NotRunnable> {
        for _ in 0..ATTEMPTS_MAX {
            let present = self.present().await?;
            let plan = self.plan_publish(action, &present, publish, by).await?;
            if let Some(released) = self.carry_out(plan).await? {
                return Ok(released);
            }
        }
        Err(too_lively(&publish.plugin))
    }

    /// Makes the version that is tried on a track the active one.
    ///
    /// # Errors
    /// None is tried, or it would break installations.
    pub async fn promote(
        &self,
        plugin: &str,
        track: &str,
        is_forced: bool,
        by: &By,
    ) -> Result<Released, NotRunnable> {
        let catalogue = self.catalogue().await?;
        let row = catalogue.track(plugin, track);
        let candidate = row.and_then(|row| row.candidate_digest.clone());
        let digest = candidate.ok_or_else(|| {
            let how = format!(
                "begin with: shoal plugin publish {plugin} --track {track} --canary TENANT"
            );
            NotRunnable::Reason(format!(
                "no version of {plugin} is tried on track {track}; {how}"
            ))
        })?;
        let publish = Publish {
            plugin: plugin.to_owned(),
            digest,
            track: track.to_owned(),
            trial: None,
            approve: Approve::Before,
            is_forced,
        };
        self.publish_as("promote", &publish, by).await
    }

    /// Makes a shadow that has proved itself the active version; nothing when it is not any more a shadow.
    ///
    /// # Errors
    /// It would break installations; it stays a shadow.
    pub async fn promote_shadow(&self, shadow: &Shadow, reason: &str) -> Result<(), NotRunnable> {
        let (plugin, digest) = (&shadow.version.plugin_id, &shadow.version.digest);
        let catalogue = self.catalogue().await?;
        if !plan::is_tried(&catalogue, plugin, &shadow.track, digest) {
            return Ok(());
        }
        let publish = Publish {
            plugin: plugin.clone(),
            digest: digest.clone(),
            track: shadow.track.clone(),
            trial: None,
            approve: Approve::Before,
            is_forced: false,
        };
        self.publish_as("promote", &publish, &system(reason))
            .await?;
        Ok(())
    }

    /// Ends a shadow that has not proved itself; nothing when it is not any more a shadow.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn abandon_shadow(&self, shadow: &Shadow, reason: &str) -> Result<(), NotRunnable> {
        self.roll_back_failing(&shadow.version, &shadow.track, reason)
            .await
            .map(drop)
    }

    /// Goes back from a version that fails, by Shoal itself: to the one before when it is active, to the active one
    /// when it is tried; nothing when it is neither any more.
    ///
    /// # Errors
    /// There is no version to go back to.
    pub async fn roll_back_failing(
        &self,
        version: &VersionRow,
        track: &str,
        reason: &str,
    ) -> Result<Released, NotRunnable> {
        let back = RollBack {
            plugin: version.plugin_id.clone(),
            track: track.to_owned(),
            from: Some(version.digest.clone()),
            to: None,
        };
        self.roll_back(&back, &system(reason)).await
    }

    /// Goes back to a version that was active before. Its settings are what they were.
    ///
    /// # Errors
    /// There is no such version.
    pub async fn roll_back(&self, back: &RollBack, by: &By) -> Result<Released, NotRunnable> {
        for _ in 0..ATTEMPTS_MAX {
            let catalogue = self.catalogue().await?;
            let plan = plan::roll_back(&catalogue, back, by)?;
            if let Some(released) = self.carry_out(plan).await? {
                return Ok(released);
            }
        }
        Err(too_lively(&back.plugin))
    }

    /// Ends the trial of a version; nothing when none is tried.
    ///
    /// # Errors
    /// There is no such track.
    pub async fn abandon(
        &self,
        plugin: &str,
        track: &str,
        by: &By,
    ) -> Result<Released, NotRunnable> {
        for _ in 0..ATTEMPTS_MAX {
            let catalogue = self.catalogue().await?;
            let row = plan::stored_track(&catalogue, plugin, track)?;
            let plan = match row.candidate_digest.clone() {
                None => Plan::Done(row),
                Some(digest) => plan::abandon(&catalogue, row, &digest, by),
            };
            if let Some(released) = self.carry_out(plan).await? {
                return Ok(released);
            }
        }
        Err(too_lively(plugin))
    }

    /// Approves a version without publishing it.
    ///
    /// # Errors
    /// The deployment wants a signature that it has not.
    pub async fn approve(
        &self,
        known: &Arc<Known>,
        approval: Approval,
        by: &By,
    ) -> Result<(), NotRunnable> {
        self.check_signature(&known.row)?;
        let mut audit = plan::audit("plugin.approve", known, None, by);
        plan::note_approved(&mut audit, &approval.grants);
        let system = self.db.system();
        system.approve(&approval, &audit, self.clock.now()).await?;
        Ok(self.reload().await?)
    }

    /// Withdraws a version's approval: it runs nowhere any more.
    ///
    /// # Errors
    /// It runs on a track and `is_forced` is not set.
    pub async fn withdraw(
        &self,
        plugin: &str,
        digest: &str,
        is_forced: bool,
        by: &By,
    ) -> Result<(), NotRunnable> {
        for _ in 0..ATTEMPTS_MAX {
            let catalogue = self.catalogue().await?;
            let known = catalogue.found(plugin, digest)?;
            if known.row.approval.is_none() {
                return Ok(());
            }
            let releases = plan::withdrawals(&catalogue, known, is_forced, by)?;
            let audit = plan::audit("plugin.withdraw", known, None, by);
            let now = self.clock.now();
            let system = self.db.system();
            if system.withdraw(digest, &releases, &audit, now).await? {
                self.reload().await?;
                return Ok(());
            }
        }
        Err(too_lively(plugin))
    }

    /// Writes what was planned and waits until it is live. `None` when what it was planned from has changed.
    async fn carry_out(&self, plan: Plan) -> Result<Option<Released>, NotRunnable> {
        let (track, has_changed) = match plan {
            Plan::Done(track) => (track, false),
            Plan::Write(release) => {
                let written = self.db.system().release(&release, self.clock.now()).await?;
                if !written {
                    return Ok(None);
                }
                (release.track, true)
            }
        };
        self.reload().await?;
        Ok(Some(Released {
            held_back: self.held_back(&track),
            track,
            has_changed,
        }))
    }

    async fn plan_publish(
        &self,
        action: &'static str,
        present: &Present,
        publish: &Publish,
        by: &By,
    ) -> Result<Plan, NotRunnable> {
        let catalogue = &present.catalogue;
        let known = catalogue.found(&publish.plugin, &publish.digest)?;
        self.check_signature(&known.row)?;
        let mut track = catalogue
            .track(&publish.plugin, &publish.track)
            .cloned()
            .unwrap_or_else(|| TrackRow::new(&publish.plugin, &publish.track));
        let approved = plan::approved(catalogue, known, &track, &publish.approve)?;
        let is_active = track.active_digest.as_ref() == Some(&publish.digest);
        let is_approved = known.row.approved()?.as_ref() == Some(&approved);
        if publish.trial.is_none() && is_active && is_approved {
            return Ok(Plan::Done(track));
        }
        match &publish.trial {
            None => plan::activate(&mut track, &publish.digest)?,
            Some(trial) => plan::try_out(&mut track, known, trial)?,
        }
        let plugin = self.compiled(&publish.digest).await?;
        let plugin = plugin.map_err(NotRunnable::Reason)?;
        let mut secret_names = catalogue.secret_names(&publish.plugin);
        secret_names.extend(known.manifest.settings.secrets().iter().cloned());
        let target = Target {
            known,
            plugin: &plugin,
            approved: &approved,
            secret_names: &secret_names,
        };
        let settings = self.fit_all(present, publish, &target).await?;
        let approval = (!is_approved).then(|| Approval {
            digest: publish.digest.clone(),
            grants: approved.clone(),
            by: by.actor.clone(),
        });
        let mut audit = plan::audit(plan::audit_action(action), known, Some(&track), by);
        if approval.is_some() {
            plan::note_approved(&mut audit, &approved);
        }
        Ok(Plan::Write(Box::new(Release {
            action,
            digest: publish.digest.clone(),
            reason: by.reason.clone(),
            approval,
            settings,
            audit,
            track,
        })))
    }

    /// Makes the settings of every installation that a release touches fit; refuses when one that works would not.
    async fn fit_all(
        &self,
        present: &Present,
        publish: &Publish,
        target: &Target<'_>,
    ) -> Result<Vec<(VersionSettings, i64)>, NotRunnable> {
        let (mut settings, mut broken) = (Vec::new(), Vec::new());
        let snapshot = self.snapshot();
        for wish in present
            .installations
            .iter()
            .filter(|wish| plan::is_touched(wish, publish))
        {
            let candidates = present.catalogue.candidates(&wish.row)?;
            let from = candidates.first().map(|known| &***known);
            let running = snapshot.installation(wish.row.tenant(), &wish.row.id()?);
            let works = running.is_some_and(|running| running.state.is_ok());
            match self.fit(wish, from, target).await {
                Ok(Some(own)) => settings.push((own, wish.row.revision)),
                Ok(None) => {}
                Err(reason) if works => broken.push(HeldBack {
                    tenant: wish.row.tenant(),
                    installation: wish.row.id.clone(),
                    reason,
                }),
                // It does not run now either, or nobody wants it to.
                Err(_) => {}
            }
        }
        let is_shadow = matches!(publish.trial, Some(Trial::Shadow { .. }));
        if broken.is_empty() || publish.is_forced || is_shadow {
            return Ok(settings);
        }
        Err(self.would_break(target.known, &broken).await?)
    }

    async fn would_break(
        &self,
        known: &Known,
        broken: &[HeldBack],
    ) -> Result<NotRunnable, NotRunnable> {
        let tenants = self.db.system().tenants().await?;
        let named = broken.iter().take(NAMED_MAX).map(|one| {
            let tenant = tenants.iter().find(|tenant| tenant.id() == one.tenant);
            let key = tenant.map_or("?", |tenant| &tenant.key);
            format!("{key} {} ({})", one.installation, one.reason)
        });
        let named = named.collect::<Vec<_>>().join("; ");
        let more = match broken.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        Ok(NotRunnable::Reason(format!(
            "version {} would not run for {} of the installations that run now: {named}{more}; give --force to leave them on the version that they have",
            known.row.version,
            broken.len()
        )))
    }

    /// The installations that follow a track and do not run what it wants.
    fn held_back(&self, track: &TrackRow) -> Vec<HeldBack> {
        let snapshot = self.snapshot();
        let follows = |row: &InstallationRow| {
            row.plugin_id == track.plugin_id
                && row.track == track.track
                && row.pinned_digest.is_none()
        };
        let mut held_back: Vec<HeldBack> = snapshot
            .iter()
            .filter(|running| follows(&running.row))
            .filter_map(|running| {
                let reason = match (&running.state, &running.held_back) {
                    (Err(reason), _) | (Ok(_), Some((_, reason))) => reason.clone(),
                    (Ok(_), None) => return None,
                };
                Some(HeldBack {
                    tenant: running.row.tenant(),
                    installation: running.row.id.clone(),
                    reason,
                })
            })
            .collect();
        held_back.sort_by(|a, b| (a.tenant, &a.installation).cmp(&(b.tenant, &b.installation)));
        held_back
    }
}

fn system(reason: &str) -> By {
    By {
        actor: SYSTEM.to_owned(),
        reason: reason.to_owned(),
    }
}

fn too_lively(plugin: &str) -> NotRunnable {
    NotRunnable::Reason(format!(
        "{plugin} or installations of it change all the time; try again"
    ))
}

#[cfg(test)]
mod tests;
