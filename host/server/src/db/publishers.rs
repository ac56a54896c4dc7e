//! Keys by which versions may be signed.

use shoal_model::Timestamp;

use super::audit::record;
use super::{DbError, System};
use crate::audit::Audit;

/// A trusted key.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct PublisherRow {
    /// The publisher's name.
    pub name: String,
    /// `shoal-pub:…`.
    pub key: String,
    /// When it was added, Unix ms.
    pub added_at_ms: i64,
    /// By whom.
    pub added_by: String,
}

impl System {
    /// Every trusted key, by name. Called by the operator's routes.
    pub async fn publishers(&self) -> Result<Vec<PublisherRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT name, key, added_at_ms, added_by FROM publisher_key ORDER BY name",
        ).fetch_all(c).await?))
    }

    /// Trusts a key. Called by the operator's route.
    ///
    /// # Errors
    /// [`DbError::Exists`] when the name or the key is there.
    pub async fn add_publisher(&self, new: &PublisherRow, audit: &Audit) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        sql!(tx, c => sqlx::query(
            "INSERT INTO publisher_key (name, key, added_at_ms, added_by) VALUES ($1, $2, $3, $4)",
        )
        .bind(&new.name)
        .bind(&new.key)
        .bind(new.added_at_ms)
        .bind(&new.added_by)
        .execute(c).await?.rows_affected());
        record(&mut tx, audit, Timestamp(new.added_at_ms)).await?;
        tx.commit().await
    }

    /// Trusts a key no longer; versions that were added stay. `false` when there is none. Called by the operator's route.
    pub async fn remove_publisher(
        &self,
        name: &str,
        audit: &Audit,
        now: Timestamp,
    ) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let removed = sql!(tx, c => sqlx::query("DELETE FROM publisher_key WHERE name = $1")
            .bind(name).execute(c).await?.rows_affected());
        if removed == 1 {
            record(&mut tx, audit, now).await?;
            tx.commit().await?;
        }
        Ok(removed == 1)
    }
}
