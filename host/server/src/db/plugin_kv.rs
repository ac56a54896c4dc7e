//! What plugins keep from call to call: a few values of each installation.
//!
//! A write first takes the row of its installation for itself, so that of two writes at a time the second sees what the
//! first left; only then are bounds and expectations looked at. A value whose time is over is not there, whether it was
//! deleted yet or not.

use shoal_model::Timestamp;

use super::{DbError, TenantDb, Transaction};

/// What is to be written.
#[derive(Clone, Debug)]
pub struct KvWrite<'a> {
    /// Whose value.
    pub installation: &'a str,
    /// Which.
    pub name: &'a str,
    /// Write only if this is there now; `Some(None)`: only if nothing is.
    pub expected: Option<Option<Vec<u8>>>,
    /// The value; `None` deletes.
    pub new: Option<Vec<u8>>,
    /// When its time is over.
    pub expires: Option<Timestamp>,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvWritten {
    /// It is as was wanted.
    Yes,
    /// Something else was there; nothing changed.
    NotExpected,
    /// The installation would have so many values and bytes, which is too much; nothing changed.
    Full {
        /// Values.
        keys: i64,
        /// Names and values together.
        bytes: i64,
    },
}

/// How much an installation may keep.
#[derive(Clone, Copy, Debug)]
pub struct KvMax {
    /// Values.
    pub keys: i64,
    /// Names and values together.
    pub bytes: i64,
}

impl TenantDb {
    /// One value.
    pub async fn kv_get(
        &self,
        installation: &str,
        name: &str,
        now: Timestamp,
    ) -> Result<Option<Vec<u8>>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_scalar(
            "SELECT value FROM plugin_kv
             WHERE tenant_id = $1 AND installation_id = $2 AND name = $3
                   AND (expires_at_ms IS NULL OR expires_at_ms > $4)",
        ).bind(self.id().0).bind(installation).bind(name).bind(now.0).fetch_optional(c).await?))
    }

    /// The names of an installation's values, in no order.
    pub async fn kv_names(
        &self,
        installation: &str,
        now: Timestamp,
    ) -> Result<Vec<String>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_scalar(
            "SELECT name FROM plugin_kv
             WHERE tenant_id = $1 AND installation_id = $2 AND (expires_at_ms IS NULL OR expires_at_ms > $3)",
        ).bind(self.id().0).bind(installation).bind(now.0).fetch_all(c).await?))
    }

    /// Sets, swaps or deletes a value.
    ///
    /// # Errors
    /// [`DbError::RowCount`] when the installation is gone.
    pub async fn kv_write(
        &self,
        write: KvWrite<'_>,
        max: KvMax,
        now: Timestamp,
    ) -> Result<KvWritten, DbError> {
        let mut tx = self.begin().await?;
        let locked = sql!(tx, c => sqlx::query(
            "UPDATE installation SET revision = revision WHERE tenant_id = $1 AND id = $2",
        ).bind(self.id().0).bind(write.installation).execute(c).await?.rows_affected());
        DbError::expect_rows("installation", write.installation, locked, 1)?;
        sql!(tx, c => sqlx::query(
            "DELETE FROM plugin_kv WHERE tenant_id = $1 AND installation_id = $2 AND expires_at_ms <= $3",
        ).bind(self.id().0).bind(write.installation).bind(now.0).execute(c).await?.rows_affected());
        if let Some(expected) = &write.expected {
            let present: Option<Vec<u8>> = sql!(tx, c => sqlx::query_scalar(
                "SELECT value FROM plugin_kv WHERE tenant_id = $1 AND installation_id = $2 AND name = $3",
            ).bind(self.id().0).bind(write.installation).bind(write.name).fetch_optional(c).await?);
            if present != *expected {
                return Ok(KvWritten::NotExpected);
            }
        }
        let written = match &write.new {
            Some(value) => self.kv_put(&mut tx, &write, value, max).await?,
            None => {
                sql!(tx, c => sqlx::query(
                    "DELETE FROM plugin_kv WHERE tenant_id = $1 AND installation_id = $2 AND name = $3",
                ).bind(self.id().0).bind(write.installation).bind(write.name).execute(c).await?.rows_affected());
                KvWritten::Yes
            }
        };
        if written == KvWritten::Yes {
            tx.commit().await?;
        }
        Ok(written)
    }

    async fn kv_put(
        &self,
        tx: &mut Transaction,
        write: &KvWrite<'_>,
        value: &[u8],
        max: KvMax,
    ) -> Result<KvWritten, DbError> {
        let (others, others_bytes): (i64, i64) = sql!(tx, c => sqlx::query_as(
            "SELECT COUNT(*), COALESCE(CAST(SUM(size_bytes) AS BIGINT), 0) FROM plugin_kv
             WHERE tenant_id = $1 AND installation_id = $2 AND name <> $3",
        ).bind(self.id().0).bind(write.installation).bind(write.name).fetch_one(c).await?);
        let size = i64::try_from(write.name.len() + value.len()).unwrap_or(i64::MAX);
        let (keys, bytes) = (others + 1, others_bytes.saturating_add(size));
        if keys > max.keys || bytes > max.bytes {
            return Ok(KvWritten::Full { keys, bytes });
        }
        let changed = sql!(tx, c => sqlx::query(
            "INSERT INTO plugin_kv (tenant_id, installation_id, name, value, size_bytes, expires_at_ms)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (tenant_id, installation_id, name) DO UPDATE
             SET value = $4, size_bytes = $5, expires_at_ms = $6",
        )
        .bind(self.id().0)
        .bind(write.installation)
        .bind(write.name)
        .bind(value)
        .bind(size)
        .bind(write.expires.map(|at| at.0))
        .execute(c).await?.rows_affected());
        DbError::expect_rows("plugin_kv", write.name, changed, 1)?;
        Ok(KvWritten::Yes)
    }

    /// Deletes values whose time was over, `batch` at most. Returns how many.
    pub async fn delete_expired_kv(&self, now: Timestamp, batch: i64) -> Result<u64, DbError> {
        let mut conn = self.writer().await?;
        Ok(sql!(conn, c => sqlx::query(
            "DELETE FROM plugin_kv
             WHERE (tenant_id, installation_id, name) IN
                   (SELECT tenant_id, installation_id, name FROM plugin_kv
                    WHERE tenant_id = $1 AND expires_at_ms <= $2
                    LIMIT $3)",
        ).bind(self.id().0).bind(now.0).bind(batch).execute(c).await?.rows_affected()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Db;
    use crate::db::testing::each_database;
    use crate::monitoring::testing::{installation, put, tenant};

    const MAX: KvMax = KvMax {
        keys: 3,
        bytes: 100,
    };

    /// A tenant with an installation.
    async fn installed(db: &Db, key: &str) -> (TenantDb, String) {
        let (tenant, new) = (tenant(db, key).await, installation(7, "check"));
        put(&tenant, &new).await;
        (tenant, new.id.to_string())
    }

    fn set<'a>(installation: &'a str, name: &'a str, value: &[u8]) -> KvWrite<'a> {
        KvWrite {
            installation,
            name,
            expected: None,
            new: Some(value.to_vec()),
            expires: None,
        }
    }

    #[tokio::test]
    async fn values_belong_to_their_installation_and_go_with_it() {
        each_database(|db| async move {
            let (acme, id) = installed(&db, "acme").await;
            let (other, _) = installed(&db, "other").await;
            let now = Timestamp(10);
            let written = acme.kv_write(set(&id, "k", b"1"), MAX, now).await;
            assert_eq!(written.expect("written"), KvWritten::Yes);
            assert_eq!(other.kv_get(&id, "k", now).await.expect("read"), None);
            assert_eq!(
                acme.kv_get(&id, "k", now).await.expect("read"),
                Some(b"1".to_vec())
            );
            assert!(acme.remove_installation(&id).await.expect("deleted"));
            assert_eq!(
                acme.kv_names(&id, now).await.expect("read"),
                [] as [&str; 0]
            );
            let gone = acme.kv_write(set(&id, "k", b"1"), MAX, now).await;
            assert!(matches!(gone, Err(DbError::RowCount { .. })), "{gone:?}");
        })
        .await;
    }

    #[tokio::test]
    async fn a_swap_and_an_end_are_kept() {
        each_database(|db| async move {
            let (acme, id) = installed(&db, "acme").await;
            let swap = |expected: Option<&[u8]>, new: Option<&[u8]>| KvWrite {
                expected: Some(expected.map(<[u8]>::to_vec)),
                new: new.map(<[u8]>::to_vec),
                expires: Some(Timestamp(100)),
                ..set(&id, "k", b"")
            };
            for (now, write, written) in [
                (10, swap(Some(b"1"), Some(b"2")), KvWritten::NotExpected),
                (10, swap(None, Some(b"1")), KvWritten::Yes),
                (99, swap(None, Some(b"2")), KvWritten::NotExpected),
                (100, swap(None, Some(b"2")), KvWritten::Yes),
            ] {
                let done = acme.kv_write(write, MAX, Timestamp(now)).await;
                assert_eq!(done.expect("answered"), written, "{now}");
            }
            let (before, after) = (Timestamp(99), Timestamp(100));
            assert_eq!(
                acme.kv_get(&id, "k", before).await.expect("read"),
                Some(b"2".to_vec())
            );
            assert_eq!(acme.kv_get(&id, "k", after).await.expect("read"), None);
            assert_eq!(
                acme.delete_expired_kv(before, 10).await.expect("deleted"),
                0
            );
            assert_eq!(acme.delete_expired_kv(after, 10).await.expect("deleted"), 1);
            let delete = KvWrite {
                expected: None,
                ..swap(None, None)
            };
            let done = acme.kv_write(delete, MAX, after).await;
            assert_eq!(done.expect("nothing there"), KvWritten::Yes);
        })
        .await;
    }

    #[tokio::test]
    async fn writers_at_a_time_stay_within_the_bounds_together() {
        each_database(|db| async move {
            let (acme, id) = installed(&db, "acme").await;
            let names: Vec<_> = ('a'..='l').map(|c| format!("k{c}")).collect();
            let writes = names
                .iter()
                .map(|name| acme.kv_write(set(&id, name, b"v"), MAX, Timestamp(10)));
            let written = futures_util::future::join_all(writes).await;
            let kept = written
                .iter()
                .filter(|w| matches!(w, Ok(KvWritten::Yes)))
                .count();
            let full = written
                .iter()
                .filter(|w| matches!(w, Ok(KvWritten::Full { .. })))
                .count();
            assert_eq!((kept, full), (3, 9), "{written:?}");
            let present = acme.kv_names(&id, Timestamp(10)).await.expect("read");
            assert_eq!(present.len(), 3);
            let large = set(&id, &present[0], &[0; 97]);
            let full = acme
                .kv_write(large, MAX, Timestamp(10))
                .await
                .expect("answered");
            assert_eq!(
                full,
                KvWritten::Full {
                    keys: 3,
                    bytes: 105
                }
            );
            let fits = set(&id, &present[0], &[0; 90]);
            let fits = acme
                .kv_write(fits, MAX, Timestamp(10))
                .await
                .expect("answered");
            assert_eq!(fits, KvWritten::Yes, "its own old bytes do not count");
        })
        .await;
    }

    #[tokio::test]
    async fn of_many_who_count_at_a_time_none_is_lost() {
        each_database(|db| async move {
            let (acme, id) = installed(&db, "acme").await;
            let count = || async {
                loop {
                    let present = acme.kv_get(&id, "n", Timestamp(10)).await.expect("read");
                    let next = present.as_ref().map_or(1, |bytes| bytes[0] + 1);
                    let write = KvWrite {
                        expected: Some(present),
                        ..set(&id, "n", &[next])
                    };
                    let done = acme.kv_write(write, MAX, Timestamp(10)).await;
                    if done.expect("answered") == KvWritten::Yes {
                        return;
                    }
                }
            };
            futures_util::future::join_all((0..8).map(|_| count())).await;
            let counted = acme.kv_get(&id, "n", Timestamp(10)).await.expect("read");
            assert_eq!(counted, Some(vec![8]));
        })
        .await;
    }
}
