//! Notifications: what each channel is to be told of each alert, and what it was told last.
//!
//! Invariants:
//! - There is one row for each alert and channel, made when the alert opens: a channel enabled later is told
//!   nothing about it. Every transition wants the row anew, in the transition's own transaction.
//! - A row is told by one process at a time: [`TenantDb::claim_notifications`] leases it, and only the latest claim
//!   can record what became of it. When the process dies the lease ends and the row is told again.
//! - `told_revision` moves only when a receiver has confirmed.

use std::borrow::Cow;

use shoal_model::alert::Severity;
use shoal_model::id::NotificationId;
use shoal_model::{TenantId, Timestamp};

use super::alerts::{Source, storable};
use super::{DbError, System, TenantDb, Transaction};
use crate::random::RandomId as _;

/// Channels that are told of one alert; of a tenant with more, those first by id.
pub const CHANNELS_MAX: i64 = 100;
/// Notifications that are wanted again after a change at a time; the rest is found by the next run.
const RETRIED_MAX: i64 = 1000;
/// Attempts kept of each notification.
const DELIVERIES_KEPT: i64 = 20;

/// A channel that is to be told of an alert that opens.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    installation: String,
    name: String,
    /// Why it cannot be told; it is shown as failed then.
    problem: Option<&'static str>,
}

/// Where a notification stands.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct NotificationRow {
    /// `ntf_…`.
    pub id: String,
    /// The channel's installation.
    pub installation_id: String,
    /// The channel's name when the alert opened.
    pub channel: String,
    /// `pending`, `delivered` or `failed`.
    pub status: String,
    /// What was told last; `None` when nothing was.
    pub told_severity: Option<String>,
    /// To tell what is to be told now.
    pub attempts: i64,
    /// When it is tried next, Unix ms; means something while it is pending.
    pub next_attempt_at_ms: i64,
    /// Why the latest attempt told nothing.
    pub last_error: Option<String>,
    /// What the receiver said.
    pub summary: Option<String>,
    /// When it was told last, Unix ms.
    pub delivered_at_ms: Option<i64>,
}

/// One attempt to tell.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct DeliveryRow {
    /// Of which notification.
    pub notification_id: String,
    /// The severity that was told.
    pub severity: String,
    /// `delivered`, `retry`, `failed`, `waiting` or `nothing-to-tell`.
    pub result: String,
    /// What the receiver said, or why it was not told.
    pub detail: String,
    /// When it ended, Unix ms.
    pub at_ms: i64,
}

/// A notification that this process may tell until its lease ends.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Claimed {
    /// `ntf_…`.
    pub id: String,
    /// Of which alert.
    pub alert_id: String,
    /// Through which channel.
    pub installation_id: String,
    /// This attempt's number, from 1.
    pub attempts: i64,
    /// Which claim this is.
    pub claim: i64,
    /// Claims since the latest confirmed one, this one included: what the others told may have arrived.
    pub unconfirmed: i64,
    /// Since when it is to be told, Unix ms.
    pub wanted_at_ms: i64,
    /// The alert's revision that was told last; 0 when none was.
    pub told_revision: i64,
    /// What was told last.
    pub told_severity: Option<String>,
}

impl Claimed {
    /// What was told last; `None` when nothing was.
    pub fn told(&self) -> Option<Severity> {
        self.told_severity
            .as_deref()
            .and_then(|text| text.parse().ok())
    }
}

/// What became of telling.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// The receiver has it, and said this.
    Delivered(String),
    /// What is to be told was told before; why.
    NothingToTell(String),
    /// It may work later.
    Retry {
        /// Why it did not.
        error: String,
        /// When to try again.
        at: Timestamp,
    },
    /// The channel is not to be used now; does not count as an attempt.
    Waiting {
        /// Why not.
        error: String,
        /// When to look again.
        at: Timestamp,
    },
    /// It will not work.
    Failed {
        /// Why not.
        error: String,
        /// The installation's revision that failed, if it was there.
        installation_revision: Option<i64>,
    },
}

impl Told {
    /// Its name in lists and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Told::Delivered(_) => "delivered",
            Told::NothingToTell(_) => "nothing-to-tell",
            Told::Retry { .. } => "retry",
            Told::Waiting { .. } => "waiting",
            Told::Failed { .. } => "failed",
        }
    }

    fn detail(&self) -> Cow<'_, str> {
        storable(match self {
            Told::Delivered(text) | Told::NothingToTell(text) => text,
            Told::Retry { error, .. }
            | Told::Waiting { error, .. }
            | Told::Failed { error, .. } => error,
        })
    }
}

/// The channels that are told of what a source raises now: those that it names, or every enabled one.
pub(super) async fn channels(
    tx: &mut Transaction,
    tenant: TenantId,
    source: &Source,
) -> Result<Vec<Channel>, DbError> {
    let present: Vec<(String, String, i64)> = sql!(tx, c => sqlx::query_as(
        "SELECT id, name, is_enabled
         FROM installation
         WHERE tenant_id = $1 AND kind = 'channel'
         ORDER BY id
         LIMIT $2",
    ).bind(tenant.0).bind(CHANNELS_MAX).fetch_all(c).await?);
    let Some(named) = &source.channels else {
        let enabled = present
            .into_iter()
            .filter(|(_, _, is_enabled)| *is_enabled == 1);
        return Ok(enabled
            .map(|(installation, name, _)| Channel {
                installation,
                name,
                problem: None,
            })
            .collect());
    };
    let channel = |id: &String| {
        let found = present.iter().find(|(present, _, _)| present == id);
        Channel {
            installation: id.clone(),
            name: found.map_or_else(|| id.clone(), |(_, name, _)| name.clone()),
            problem: match found {
                None => Some("the channel was deleted; name another in the monitor"),
                Some((_, _, 0)) => Some("the channel was disabled when the alert opened"),
                Some(_) => None,
            },
        }
    };
    Ok(named.iter().map(channel).collect())
}

/// Wants that channels are told of an alert that opens.
pub(super) async fn want(
    tx: &mut Transaction,
    tenant: TenantId,
    alert: &str,
    channels: &[Channel],
    now: Timestamp,
) -> Result<(), DbError> {
    for channel in channels {
        let status = match channel.problem {
            None => "pending",
            Some(_) => "failed",
        };
        sql!(tx, c => sqlx::query(
            "INSERT INTO notification
                 (tenant_id, id, alert_id, installation_id, channel, wanted_revision, wanted_at_ms, told_revision,
                  status, attempts, next_attempt_at_ms, lease_until_ms, claim, unconfirmed, last_error)
             VALUES ($1, $2, $3, $4, $5, 1, $6, 0, $7, 0, $6, 0, 0, 0, $8)",
        )
        .bind(tenant.0)
        .bind(NotificationId::random().as_str())
        .bind(alert)
        .bind(&channel.installation)
        .bind(&channel.name)
        .bind(now.0)
        .bind(status)
        .bind(channel.problem)
        .execute(c).await?.rows_affected());
    }
    Ok(())
}

/// Wants that the channels that know of an alert are told of its next revision.
///
/// A row that waits to be tried again goes on waiting, so that an alert that flaps does not press a receiver that asked
/// for patience. A channel that was not there or disabled when the alert opened never knew of it.
pub(super) async fn want_again(
    tx: &mut Transaction,
    tenant: TenantId,
    alert: &str,
    revision: i64,
    now: Timestamp,
) -> Result<(), DbError> {
    sql!(tx, c => sqlx::query(
        "UPDATE notification
         SET wanted_revision = $3, wanted_at_ms = $4, status = 'pending', attempts = 0,
             next_attempt_at_ms = CASE WHEN status = 'pending' THEN next_attempt_at_ms ELSE $4 END
         WHERE tenant_id = $1 AND alert_id = $2 AND NOT (status = 'failed' AND claim = 0)",
    ).bind(tenant.0).bind(alert).bind(revision).bind(now.0).execute(c).await?.rows_affected());
    Ok(())
}

impl TenantDb {
    /// Leases notifications that are due, those due longest first, at most `limit`. Each claim counts as an attempt,
    /// so that one that kills its process does not do so for ever.
    pub async fn claim_notifications(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: i64,
    ) -> Result<Vec<Claimed>, DbError> {
        let mut conn = self.writer().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "UPDATE notification
             SET lease_until_ms = $3, claim = claim + 1, attempts = attempts + 1, unconfirmed = unconfirmed + 1
             WHERE tenant_id = $1
                 AND id IN (
                     SELECT n.id
                     FROM notification n
                     WHERE n.tenant_id = $1 AND n.status = 'pending' AND n.next_attempt_at_ms <= $2
                         AND n.lease_until_ms <= $2
                     ORDER BY n.next_attempt_at_ms, n.id
                     LIMIT $4)
                 AND status = 'pending' AND next_attempt_at_ms <= $2 AND lease_until_ms <= $2
             RETURNING id, alert_id, installation_id, attempts, claim, unconfirmed, wanted_at_ms, told_revision,
                 told_severity",
        )
        .bind(self.id().0)
        .bind(now.0)
        .bind(lease_until.0)
        .bind(limit)
        .fetch_all(c).await?))
    }

    /// Records what became of telling an alert as it was at `revision`, and gives the lease back. `false`, with nothing
    /// recorded, when somebody else has claimed it since.
    pub async fn record_delivery(
        &self,
        claimed: &Claimed,
        revision: i64,
        severity: Severity,
        told: &Told,
        now: Timestamp,
    ) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let changed = match told {
            Told::Delivered(_) | Told::NothingToTell(_) => {
                self.record_success(&mut tx, claimed, revision, severity, told, now)
                    .await?
            }
            Told::Retry { error, at } => self.record_later(&mut tx, claimed, error, *at, 0).await?,
            Told::Waiting { error, at } => {
                self.record_later(&mut tx, claimed, error, *at, 1).await?
            }
            Told::Failed {
                error,
                installation_revision,
            } => {
                self.record_failure(
                    &mut tx,
                    claimed,
                    revision,
                    error,
                    *installation_revision,
                    now,
                )
                .await?
            }
        };
        if changed == 0 {
            return Ok(false);
        }
        self.add_delivery(&mut tx, claimed, revision, severity, told, now)
            .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// It was told; what changed since is to be told at once.
    async fn record_success(
        &self,
        tx: &mut Transaction,
        claimed: &Claimed,
        revision: i64,
        severity: Severity,
        told: &Told,
        now: Timestamp,
    ) -> Result<u64, DbError> {
        let is_delivered = matches!(told, Told::Delivered(_));
        Ok(sql!(tx, c => sqlx::query(
            "UPDATE notification
             SET told_revision = $4, told_severity = $5, summary = $6, last_error = NULL, lease_until_ms = 0,
                 unconfirmed = 0, delivered_at_ms = COALESCE($7, delivered_at_ms),
                 status = CASE WHEN wanted_revision > $4 THEN 'pending' ELSE 'delivered' END,
                 next_attempt_at_ms = $8
             WHERE tenant_id = $1 AND id = $2 AND claim = $3 AND lease_until_ms > 0",
        )
        .bind(self.id().0)
        .bind(&claimed.id)
        .bind(claimed.claim)
        .bind(revision)
        .bind(severity.as_str())
        .bind(told.detail())
        .bind(is_delivered.then_some(now.0))
        .bind(now.0)
        .execute(c).await?.rows_affected()))
    }

    async fn record_later(
        &self,
        tx: &mut Transaction,
        claimed: &Claimed,
        error: &str,
        at: Timestamp,
        attempts_back: i64,
    ) -> Result<u64, DbError> {
        Ok(sql!(tx, c => sqlx::query(
            "UPDATE notification
             SET last_error = $4, lease_until_ms = 0, next_attempt_at_ms = $5,
                 attempts = CASE WHEN attempts > $6 THEN attempts - $6 ELSE 0 END,
                 unconfirmed = unconfirmed - $6
             WHERE tenant_id = $1 AND id = $2 AND claim = $3 AND lease_until_ms > 0",
        )
        .bind(self.id().0)
        .bind(&claimed.id)
        .bind(claimed.claim)
        .bind(storable(error))
        .bind(at.0)
        .bind(attempts_back)
        .execute(c).await?.rows_affected()))
    }

    /// It failed for good; what changed since is another thing to tell.
    async fn record_failure(
        &self,
        tx: &mut Transaction,
        claimed: &Claimed,
        revision: i64,
        error: &str,
        installation_revision: Option<i64>,
        now: Timestamp,
    ) -> Result<u64, DbError> {
        Ok(sql!(tx, c => sqlx::query(
            "UPDATE notification
             SET last_error = $5, lease_until_ms = 0, failed_installation_revision = $6, next_attempt_at_ms = $7,
                 status = CASE WHEN wanted_revision > $4 THEN 'pending' ELSE 'failed' END
             WHERE tenant_id = $1 AND id = $2 AND claim = $3 AND lease_until_ms > 0",
        )
        .bind(self.id().0)
        .bind(&claimed.id)
        .bind(claimed.claim)
        .bind(revision)
        .bind(storable(error))
        .bind(installation_revision)
        .bind(now.0)
        .execute(c).await?.rows_affected()))
    }

    async fn add_delivery(
        &self,
        tx: &mut Transaction,
        claimed: &Claimed,
        revision: i64,
        severity: Severity,
        told: &Told,
        now: Timestamp,
    ) -> Result<(), DbError> {
        sql!(tx, c => sqlx::query(
            "INSERT INTO delivery (tenant_id, notification_id, claim, revision, severity, result, detail, at_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(self.id().0)
        .bind(&claimed.id)
        .bind(claimed.claim)
        .bind(revision)
        .bind(severity.as_str())
        .bind(told.as_str())
        .bind(told.detail())
        .bind(now.0)
        .execute(c).await?.rows_affected());
        sql!(tx, c => sqlx::query(
            "DELETE FROM delivery WHERE tenant_id = $1 AND notification_id = $2 AND claim <= $3",
        )
        .bind(self.id().0)
        .bind(&claimed.id)
        .bind(claimed.claim - DELIVERIES_KEPT)
        .execute(c).await?.rows_affected());
        Ok(())
    }

    /// What the channels were told of an alert, by channel.
    pub async fn notifications(&self, alert: &str) -> Result<Vec<NotificationRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT id, installation_id, channel, status, told_severity, attempts, next_attempt_at_ms, last_error,
                    summary, delivered_at_ms
             FROM notification
             WHERE tenant_id = $1 AND alert_id = $2
             ORDER BY channel, id",
        ).bind(self.id().0).bind(alert).fetch_all(c).await?))
    }

    /// The latest attempts to tell of an alert, oldest first; at most [`CHANNELS_MAX`] times the attempts that are kept
    /// of a channel.
    pub async fn deliveries(&self, alert: &str) -> Result<Vec<DeliveryRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT d.notification_id, d.severity, d.result, d.detail, d.at_ms
             FROM delivery d
             JOIN notification n ON n.tenant_id = d.tenant_id AND n.id = d.notification_id
             WHERE d.tenant_id = $1 AND n.alert_id = $2
             ORDER BY d.notification_id, d.claim",
        ).bind(self.id().0).bind(alert).fetch_all(c).await?))
    }
}

impl System {
    /// Tenants with notifications that are due, and how many each has. Called by the job that delivers.
    pub async fn tenants_to_tell(&self, now: Timestamp) -> Result<Vec<(TenantId, u64)>, DbError> {
        let mut conn = self.reader().await?;
        let rows: Vec<(i64, i64)> = sql!(conn, c => sqlx::query_as(
            "SELECT tenant_id, COUNT(*)
             FROM notification
             WHERE status = 'pending' AND next_attempt_at_ms <= $1 AND lease_until_ms <= $1
             GROUP BY tenant_id
             ORDER BY tenant_id",
        ).bind(now.0).fetch_all(c).await?);
        Ok(rows
            .into_iter()
            .map(|(tenant, count)| (TenantId(tenant), count.unsigned_abs()))
            .collect())
    }

    /// Wants again what was wanted after `after` and failed for good, where the channel was changed in the meantime.
    /// Returns how many, at most [`RETRIED_MAX`]. Called by the job that delivers.
    ///
    /// Alerts that are over are told too: what failed may have arrived, and then its receiver believes that they are open.
    pub async fn retry_after_change(
        &self,
        after: Timestamp,
        now: Timestamp,
    ) -> Result<u64, DbError> {
        let failed: Vec<(i64, String, i64)> = {
            let mut conn = self.reader().await?;
            sql!(conn, c => sqlx::query_as(
                "SELECT n.tenant_id, n.id, n.failed_installation_revision
                 FROM notification n
                 JOIN installation i ON i.tenant_id = n.tenant_id AND i.id = n.installation_id
                 WHERE n.status = 'failed' AND n.wanted_at_ms > $1 AND i.is_enabled = 1
                     AND i.revision <> n.failed_installation_revision
                 LIMIT $2",
            ).bind(after.0).bind(RETRIED_MAX).fetch_all(c).await?)
        };
        let mut wanted = 0;
        // One by one: a statement that locked several rows could wait in a circle with a transition that wants them.
        for (tenant, id, revision) in failed {
            let mut conn = self.writer().await?;
            wanted += sql!(conn, c => sqlx::query(
                "UPDATE notification
                 SET status = 'pending', attempts = 0, next_attempt_at_ms = $4
                 WHERE tenant_id = $1 AND id = $2 AND status = 'failed' AND failed_installation_revision = $3",
            ).bind(tenant).bind(id).bind(revision).bind(now.0).execute(c).await?.rows_affected());
        }
        Ok(wanted)
    }
}
