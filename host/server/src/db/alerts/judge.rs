//! Judging a slot: what the caller decides is written in one transaction.

use shoal_model::Timestamp;
use shoal_model::alert::Severity;
use shoal_model::id::AlertId;

use super::change::{Step, add_transition, change_alert, lock_source};
use super::read::{TargetRow, hex, labels_json};
use super::{Change, Decision, Judged, Known, Source, SourceKind, Target, Trigger, storable};
use crate::db::notifications::{self, Channel};
use crate::db::{DbError, TenantDb, Transaction};
use crate::random::RandomId as _;

impl TenantDb {
    /// Judges one slot of a source: hands what is known to `decide` and writes what it returns, if the slot is later
    /// than every one that was judged before. `Err` of `decide` refuses: only the reason is written.
    ///
    /// Called by the engines, from several processes at a time.
    pub async fn judge(
        &self,
        source: &Source,
        slot: Timestamp,
        now: Timestamp,
        decide: impl FnOnce(Known) -> Result<Decision, String> + Send,
    ) -> Result<Judged, DbError> {
        let mut tx = self.begin().await?;
        let query_before = self.source_query(&mut tx, source).await?;
        if !self.claim_slot(&mut tx, source, slot).await? {
            return Ok(Judged::Before);
        }
        if !self.is_current(&mut tx, source).await? {
            return Ok(Judged::Outdated);
        }
        let known = Known {
            targets: self.targets(&mut tx, &source.id).await?,
            query: query_before,
        };
        let decision = match decide(known) {
            Ok(decision) => decision,
            Err(reason) => {
                drop(tx);
                self.note_error(source, slot, &reason, now).await?;
                return Ok(Judged::Refused);
            }
        };
        self.write_source(&mut tx, source, decision.error.as_deref(), now)
            .await?;
        let transitions = self
            .write_changes(&mut tx, source, slot, now, decision.changes)
            .await?;
        tx.commit().await?;
        Ok(Judged::Now { transitions })
    }

    /// Notes that a slot of a source could not be judged. The slot stays open: a later attempt may judge it.
    pub async fn note_error(
        &self,
        source: &Source,
        slot: Timestamp,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        lock_source(&mut tx, self.id(), &source.id, source.kind_text()).await?;
        if !self.is_current(&mut tx, source).await? {
            return Ok(());
        }
        sql!(tx, c => sqlx::query(
            "UPDATE alert_source
             SET last_error = $3, last_error_at_ms = $4
             WHERE tenant_id = $1 AND id = $2 AND (last_slot_ms IS NULL OR last_slot_ms < $5)",
        )
        .bind(self.id().0)
        .bind(&source.id)
        .bind(storable(reason))
        .bind(now.0)
        .bind(slot.0)
        .execute(c).await?.rows_affected());
        tx.commit().await
    }

    async fn source_query(&self, tx: &mut Transaction, source: &Source) -> Result<String, DbError> {
        lock_source(tx, self.id(), &source.id, source.kind_text()).await?;
        let (query,): (String,) = sql!(tx, c => sqlx::query_as(
            "SELECT query FROM alert_source WHERE tenant_id = $1 AND id = $2",
        ).bind(self.id().0).bind(&source.id).fetch_one(c).await?);
        Ok(query)
    }

    async fn claim_slot(
        &self,
        tx: &mut Transaction,
        source: &Source,
        slot: Timestamp,
    ) -> Result<bool, DbError> {
        let changed = sql!(tx, c => sqlx::query(
            "UPDATE alert_source
             SET last_slot_ms = $3
             WHERE tenant_id = $1 AND id = $2 AND (last_slot_ms IS NULL OR last_slot_ms < $3)",
        ).bind(self.id().0).bind(&source.id).bind(slot.0).execute(c).await?.rows_affected());
        Ok(changed == 1)
    }

    /// Whether the source still is what was evaluated.
    async fn is_current(&self, tx: &mut Transaction, source: &Source) -> Result<bool, DbError> {
        let found: Option<(i64,)> = match source.kind {
            SourceKind::Query { revision, .. } => sql!(tx, c => sqlx::query_as(
                "SELECT revision
                 FROM monitor
                 WHERE tenant_id = $1 AND id = $2 AND revision = $3 AND is_enabled = 1",
            ).bind(self.id().0).bind(&source.id).bind(revision).fetch_optional(c).await?),
            SourceKind::Check => sql!(tx, c => sqlx::query_as(
                "SELECT revision
                 FROM installation
                 WHERE tenant_id = $1 AND id = $2 AND is_enabled = 1",
            ).bind(self.id().0).bind(&source.id).fetch_optional(c).await?),
        };
        Ok(found.is_some())
    }

    async fn targets(&self, tx: &mut Transaction, source: &str) -> Result<Vec<Target>, DbError> {
        let rows: Vec<TargetRow> = sql!(tx, c => sqlx::query_as(
            "SELECT fingerprint, labels, severity, pending_severity, pending_attempts, last_slot_ms, seen_slot_ms,
                    value, alert_id
             FROM alert_target
             WHERE tenant_id = $1 AND source_id = $2
             ORDER BY fingerprint",
        ).bind(self.id().0).bind(source).fetch_all(c).await?);
        rows.into_iter().map(TargetRow::parsed).collect()
    }

    async fn write_source(
        &self,
        tx: &mut Transaction,
        source: &Source,
        error: Option<&str>,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let query = match &source.kind {
            SourceKind::Query { query, .. } => query,
            SourceKind::Check => "",
        };
        let changed = sql!(tx, c => sqlx::query(
            "UPDATE alert_source
             SET query = $3, last_error = $4, last_error_at_ms = $5
             WHERE tenant_id = $1 AND id = $2",
        )
        .bind(self.id().0)
        .bind(&source.id)
        .bind(query)
        .bind(error.map(storable))
        .bind(error.map(|_| now.0))
        .execute(c).await?.rows_affected());
        DbError::expect_rows("alert_source", &source.id, changed, 1)
    }

    async fn write_changes(
        &self,
        tx: &mut Transaction,
        source: &Source,
        slot: Timestamp,
        now: Timestamp,
        changes: Vec<Change>,
    ) -> Result<u64, DbError> {
        let mut transitions = 0;
        let mut channels = None;
        for change in changes {
            let (mut target, transition) = match change {
                Change::Forget(fingerprint) => {
                    self.forget_target(tx, &source.id, fingerprint).await?;
                    continue;
                }
                Change::Keep { target, transition } => (target, transition),
            };
            if let Some((transition, message)) = transition {
                let step = Step {
                    transition,
                    trigger: Trigger::Monitor,
                    value: target.value,
                    message: &message,
                    reason: None,
                    now,
                };
                target.alert = match target.alert.take() {
                    Some(alert) => {
                        change_alert(tx, self.id(), &alert, Some(&source.note()), &step).await?;
                        (transition.to != Severity::Ok).then_some(alert)
                    }
                    None => {
                        if channels.is_none() {
                            channels = Some(notifications::channels(tx, self.id(), source).await?);
                        }
                        let told = channels.as_deref().unwrap_or_default();
                        Some(self.open_alert(tx, source, &target, &step, told).await?)
                    }
                };
                transitions += 1;
            }
            self.write_target(tx, &source.id, slot, &target).await?;
        }
        Ok(transitions)
    }

    async fn open_alert(
        &self,
        tx: &mut Transaction,
        source: &Source,
        target: &Target,
        step: &Step<'_>,
        channels: &[Channel],
    ) -> Result<String, DbError> {
        let id = AlertId::random().to_string();
        let note = serde_json::to_string(&source.note()).expect("it is text and numbers");
        sql!(tx, c => sqlx::query(
            "INSERT INTO alert
                 (tenant_id, id, source_id, fingerprint, labels, monitor, severity, value, message, opened_at_ms,
                  changed_at_ms, revision)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, 1)",
        )
        .bind(self.id().0)
        .bind(&id)
        .bind(&source.id)
        .bind(hex(target.fingerprint))
        .bind(labels_json(&target.labels).to_string())
        .bind(&note)
        .bind(step.transition.to.as_str())
        .bind(step.value)
        .bind(storable(step.message))
        .bind(step.now.0)
        .execute(c).await?.rows_affected());
        add_transition(tx, self.id(), &id, 1, step).await?;
        notifications::want(tx, self.id(), &id, channels, step.now).await?;
        Ok(id)
    }

    /// The state's `last_slot` is the guard again, as in the source's row.
    async fn write_target(
        &self,
        tx: &mut Transaction,
        source: &str,
        slot: Timestamp,
        target: &Target,
    ) -> Result<(), DbError> {
        let changed = sql!(tx, c => sqlx::query(
            "INSERT INTO alert_target
                 (tenant_id, source_id, fingerprint, labels, severity, pending_severity, pending_attempts,
                  last_slot_ms, seen_slot_ms, value, alert_id)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
             ON CONFLICT (tenant_id, source_id, fingerprint) DO UPDATE
             SET labels = $4, severity = $5, pending_severity = $6, pending_attempts = $7, last_slot_ms = $8,
                 seen_slot_ms = $9, value = $10, alert_id = $11
             WHERE alert_target.last_slot_ms < $8",
        )
        .bind(self.id().0)
        .bind(source)
        .bind(hex(target.fingerprint))
        .bind(labels_json(&target.labels).to_string())
        .bind(target.state.severity.as_str())
        .bind(target.state.pending.map(|(severity, _)| severity.as_str()))
        .bind(i64::from(target.state.pending.map_or(0, |(_, attempts)| attempts)))
        .bind(slot.0)
        .bind(target.seen_slot.0)
        .bind(target.value)
        .bind(&target.alert)
        .execute(c).await?.rows_affected());
        DbError::expect_rows("alert_target", hex(target.fingerprint), changed, 1)
    }

    async fn forget_target(
        &self,
        tx: &mut Transaction,
        source: &str,
        fingerprint: u128,
    ) -> Result<(), DbError> {
        sql!(tx, c => sqlx::query(
            "DELETE FROM alert_target
             WHERE tenant_id = $1 AND source_id = $2 AND fingerprint = $3 AND alert_id IS NULL",
        ).bind(self.id().0).bind(source).bind(hex(fingerprint)).execute(c).await?.rows_affected());
        Ok(())
    }
}
