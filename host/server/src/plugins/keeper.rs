//! Beside the calls: writes what this process found out about plugins, reads what others did, and acts on it.
//!
//! Everything here can be done twice and goes on at the next turn where the database failed: what could not be written
//! waits. A version that is broken for many tenants is replaced by the one before and shut out; where there is
//! none before it, the breakers of those for whom it fails stand between it and them, and the others go on.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shoal_model::breaker::is_broken_everywhere;
use shoal_model::{TenantId, Timestamp};

use super::Running;
use super::breakers::{Changed, ShownBreaker, Spread};
use super::calls::PluginCalls;
use super::shadow::{Tally, Verdict, verdict};
use crate::audit::SYSTEM;
use crate::db::DbError;
use crate::db::plugin_health::QuarantineRow;
use crate::db::plugins::VersionRow;
use crate::task::Stop;

/// How often processes tell each other what they found out.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How long a version that was shut out is shown as down though nobody runs it any more.
const QUARANTINE_SHOWN: Duration = Duration::from_hours(24);
/// Every so many turns, what plugins used is written: bills need the hour, not the second.
const USAGE_EVERY: u32 = 10;

impl PluginCalls {
    /// Writes and reads once a second until it is told to stop, and a last time then.
    pub async fn keep(self: Arc<Self>, mut stop: Stop) {
        let mut turn = 0;
        while stop.sleep(SYNC_EVERY).await {
            turn += 1;
            self.turn(turn % USAGE_EVERY == 0).await;
        }
        self.turn(true).await;
    }

    /// Runs copies of live calls until it is told to stop.
    pub async fn run_shadows(self: Arc<Self>, mut stop: Stop) {
        tokio::select! {
            () = self.shadows.run() => {}
            () = stop.requested() => {}
        }
    }

    async fn turn(&self, with_usage: bool) {
        let mut done = self.sync().await;
        if done.is_ok() && with_usage {
            done = self.flush_usage().await;
        }
        if let Err(error) = done {
            tracing::warn!(%error, "the health of plugins is not up to date; trying again");
        }
    }

    /// Writes what changed and reads what others wrote.
    ///
    /// # Errors
    /// The database does not answer; what was not written waits.
    pub async fn sync(&self) -> Result<(), DbError> {
        let system = self.db.system();
        let now = self.clock.now();
        self.write_breakers().await?;
        self.quarantine.learn(system.quarantined().await?);
        self.breakers.learn(&system.open_breakers().await?, now);
        self.quarantine_suspects().await?;
        self.act_on_breakers(now).await?;
        self.act_on_shadows(now).await?;
        let failures = self.failures.take();
        if !failures.is_empty()
            && let Err(error) = system.add_failures(&failures).await
        {
            self.failures.put_back(failures);
            return Err(error);
        }
        Ok(())
    }

    /// Writes what plugins used and contacted. Done before an hour is closed, too.
    ///
    /// # Errors
    /// The database does not answer; what was not written waits.
    pub async fn flush_usage(&self) -> Result<(), DbError> {
        let system = self.db.system();
        let uses = self.meters.take_uses(self.clock.now());
        if !uses.is_empty()
            && let Err(error) = system.put_plugin_usage(self.meters.process(), &uses).await
        {
            self.meters.put_back_uses(&uses);
            return Err(error);
        }
        let contacts = self.meters.take_contacts();
        if !contacts.is_empty()
            && let Err(error) = system.add_contacts(&contacts).await
        {
            self.meters.put_back_contacts(contacts);
            return Err(error);
        }
        Ok(())
    }

    /// Hands over what this process counted and how plugins are, as metrics.
    pub fn publish(&self) {
        let observe = &self.observe;
        self.meters.publish(observe);
        observe.set_total(
            "shoal_plugin_failures_dropped_total",
            &[],
            self.failures.dropped() as f64,
        );
        let (now, snapshot) = (self.clock.now(), self.plugins.snapshot());
        let spread = self.breakers.spread(now);
        // One that was replaced at once is shown for a day all the same: somebody should know of it.
        let mut down: BTreeSet<_> = self
            .quarantine
            .since(now - QUARANTINE_SHOWN)
            .into_iter()
            .collect();
        for version in versions(snapshot.iter()) {
            let named = (version.plugin_id.clone(), version.version.clone());
            let states = spread.get(&version.digest).map(|spread| &spread.states);
            for state in ["open", "half-open"] {
                let count = states.and_then(|states| states.get(state)).copied();
                let count = count.unwrap_or(0);
                if count > 0 {
                    down.insert(named.clone());
                }
                let labels = [
                    ("plugin", &*named.0),
                    ("version", &*named.1),
                    ("state", state),
                ];
                observe.set("shoal_plugin_breaker_state", &labels, count as f64);
            }
            if self.quarantine.has(&version.digest) {
                down.insert(named.clone());
            }
            self.shown_down.lock().insert(named);
        }
        let mut shown = self.shown_down.lock();
        shown.extend(down.iter().cloned());
        for named in &*shown {
            let labels = [("plugin", &*named.0), ("version", &*named.1)];
            let is_down = f64::from(u8::from(down.contains(named)));
            observe.set("shoal_plugin_down", &labels, is_down);
        }
    }

    /// An installation's breaker; `None` while it was not called.
    pub fn breaker(&self, running: &Running) -> Option<ShownBreaker> {
        let row = &running.row;
        self.breakers.shown(row.tenant(), &row.id, self.clock.now())
    }

    /// Calls of a version in this process by outcome, since it was started.
    pub fn outcomes(&self, digest: &str) -> BTreeMap<&'static str, u64> {
        self.meters.outcomes(digest)
    }

    /// Shuts a version out for everybody. `false` when it is already.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn quarantine(
        &self,
        version: &VersionRow,
        reason: &str,
        actor: &str,
    ) -> Result<bool, DbError> {
        let row = QuarantineRow {
            digest: version.digest.clone(),
            plugin_id: version.plugin_id.clone(),
            version: version.version.clone(),
            reason: reason.to_owned(),
            actor: actor.to_owned(),
            at_ms: self.clock.now().unix_ms(),
        };
        let system = self.db.system();
        let is_new = system.quarantine(&row).await?;
        self.quarantine.learn(system.quarantined().await?);
        if is_new {
            tracing::error!(
                plugin.id = row.plugin_id,
                plugin.version = row.version,
                plugin.digest = row.digest,
                reason,
                actor,
                "a version is in quarantine: it runs for nobody until it is released"
            );
        }
        Ok(is_new)
    }

    /// Lets a version run again. `false` when it is not in quarantine.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn release(&self, version: &VersionRow, actor: &str) -> Result<bool, DbError> {
        let (system, now) = (self.db.system(), self.clock.now());
        let is_released = system.release_quarantined(version, actor, now).await?;
        self.breakers.close_all(&version.digest, now);
        if let Ok(digest) = version.digest.parse() {
            self.plugins.forgive(&digest).await?;
        }
        self.quarantine.learn(system.quarantined().await?);
        Ok(is_released)
    }

    async fn write_breakers(&self) -> Result<(), DbError> {
        let snapshot = self.plugins.snapshot();
        let enabled: HashSet<(TenantId, &str)> = snapshot
            .iter()
            .map(|running| (running.row.tenant(), running.row.id.as_str()))
            .collect();
        self.breakers
            .retain(|tenant, id| enabled.contains(&(tenant, id)));
        let system = self.db.system();
        let mut changed = self.breakers.changed().into_iter();
        while let Some(change) = changed.next() {
            let written = match &change {
                Changed::Open(row) => system.put_breaker(row).await,
                Changed::Closed(tenant, id, digest) => {
                    system.delete_breaker(*tenant, id, digest).await
                }
            };
            if let Err(error) = written {
                self.breakers.unwritten(change);
                changed.for_each(|rest| self.breakers.unwritten(rest));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Components that brought this process down before its start run for nobody.
    async fn quarantine_suspects(&self) -> Result<(), DbError> {
        if self.knows_suspects.load(Ordering::Relaxed) {
            return Ok(());
        }
        for digest in self.plugins.runtime().suspects() {
            let version = self.db.system().version(&digest.to_string()).await?;
            let Some(version) = version else {
                continue;
            };
            let reason = "the process ended twice while it was being started";
            self.quarantine(&version, reason, SYSTEM).await?;
        }
        self.knows_suspects.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Replaces versions that are broken for many.
    async fn act_on_breakers(&self, now: Timestamp) -> Result<(), DbError> {
        let spread = self.breakers.spread(now);
        if spread.values().all(|spread| spread.open.is_empty()) {
            return Ok(());
        }
        let snapshot = self.plugins.snapshot();
        let mut running: HashMap<&str, Vec<&Arc<Running>>> = HashMap::new();
        for one in snapshot.iter() {
            if let Some(version) = &one.version {
                running.entry(&version.digest).or_default().push(one);
            }
        }
        for (digest, spread) in &spread {
            let Some(of_version) = running.get(digest.as_str()) else {
                continue;
            };
            let tenants: HashSet<TenantId> =
                of_version.iter().map(|one| one.row.tenant()).collect();
            let is_broken =
                is_broken_everywhere(spread.open.len(), spread.calling.len(), tenants.len());
            if is_broken && !self.quarantine.has(digest) {
                self.replace(of_version, spread, tenants.len()).await?;
            }
        }
        Ok(())
    }

    /// Goes back to the version before, on every track that leads to this one, and shuts this one out.
    async fn replace(
        &self,
        running: &[&Arc<Running>],
        spread: &Spread,
        tenants: usize,
    ) -> Result<(), DbError> {
        let Some(version) = running.first().and_then(|one| one.version.as_ref()) else {
            return Ok(());
        };
        let reason = format!(
            "it failed too often for {} of {tenants} tenants that use it; the latest failure: {}",
            spread.open.len(),
            spread.reason
        );
        // What tenants are told has nothing of another tenant's failures in it.
        let shown = "it failed too often for too many of those who use it";
        let is_following = |one: &&&Arc<Running>| one.row.pinned_digest.is_none();
        let tracks: BTreeSet<&str> = running
            .iter()
            .filter(is_following)
            .map(|one| one.row.track.as_str())
            .collect();
        let mut is_replaced = false;
        for track in tracks {
            let back = self
                .plugins
                .roll_back_failing(version, track, &reason)
                .await;
            match back {
                Ok(_) => is_replaced = true,
                Err(error) => tracing::error!(
                    plugin.id = version.plugin_id,
                    plugin.version = version.version,
                    track,
                    %error,
                    reason,
                    "a version is broken and cannot be replaced; those for whom it works go on with it"
                ),
            }
        }
        if is_replaced {
            self.observe.add(
                "shoal_plugin_rollbacks_total",
                &[
                    ("plugin", &version.plugin_id),
                    ("version", &version.version),
                ],
                1.0,
            );
            self.quarantine(version, shown, SYSTEM).await?;
        }
        Ok(())
    }

    /// Writes what shadow runs found out, and decides.
    async fn act_on_shadows(&self, now: Timestamp) -> Result<(), DbError> {
        let mut tallies = self.shadows.take(now).into_iter();
        while let Some(tally) = tallies.next() {
            if let Err(error) = self.act_on_shadow(&tally).await {
                self.shadows.put_back(tally);
                tallies.for_each(|rest| self.shadows.put_back(rest));
                return Err(error);
            }
        }
        Ok(())
    }

    async fn act_on_shadow(&self, tally: &Tally) -> Result<(), DbError> {
        let Tally { shadow, row } = tally;
        let snapshot = self.plugins.snapshot();
        let is_tried = snapshot.iter().any(|running| {
            let present = running.shadow.as_ref();
            present.is_some_and(|present| present.version.digest == row.digest)
        });
        if !is_tried {
            return Ok(());
        }
        let system = self.db.system();
        system.add_shadow(row).await?;
        self.count_shadow(tally);
        let known = system.shadow(&row.digest).await?;
        let Some(verdict) = known.and_then(|known| verdict(&known, shadow.needed)) else {
            return Ok(());
        };
        let (done, is_promoted) = match &verdict {
            Verdict::Promote(reason) => (
                self.plugins.promote_shadow(shadow, reason).await.err(),
                true,
            ),
            Verdict::Abandon(reason) => (
                self.plugins.abandon_shadow(shadow, reason).await.err(),
                false,
            ),
        };
        let (Verdict::Promote(reason) | Verdict::Abandon(reason)) = &verdict;
        if done.is_none() {
            let ended = if is_promoted { "promoted" } else { "abandoned" };
            system
                .end_shadow(&row.digest, ended, row.updated_at_ms)
                .await?;
        }
        match done {
            Some(error) => tracing::error!(
                plugin.id = row.plugin_id,
                plugin.version = row.version,
                %error,
                reason,
                "a shadow run has ended and nothing could be done about it"
            ),
            None if is_promoted => tracing::info!(
                plugin.id = row.plugin_id,
                plugin.version = row.version,
                reason,
                "a shadow has proved itself and is active"
            ),
            None => tracing::error!(
                plugin.id = row.plugin_id,
                plugin.version = row.version,
                reason,
                "a shadow has not proved itself and is tried no longer"
            ),
        }
        Ok(())
    }

    fn count_shadow(&self, tally: &Tally) {
        let row = &tally.row;
        for (result, count) in [
            ("equal", row.equal),
            ("differing", row.differing),
            ("failed", row.failed),
            ("skipped", row.skipped),
        ] {
            let labels = [
                ("plugin", row.plugin_id.as_str()),
                ("version", row.version.as_str()),
                ("result", result),
            ];
            self.observe
                .add("shoal_plugin_shadow_calls_total", &labels, count as f64);
        }
    }
}

/// The versions that run, each once.
fn versions<'a>(running: impl Iterator<Item = &'a Arc<Running>>) -> Vec<&'a VersionRow> {
    let mut seen = HashSet::new();
    running
        .filter_map(|one| one.version.as_ref())
        .filter(|version| seen.insert(&version.digest))
        .collect()
}
