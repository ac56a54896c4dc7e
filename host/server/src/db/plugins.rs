//! The catalogue of plugins: versions, their components and what the operator approved.

use shoal_model::Timestamp;
use shoal_model::grant::Grants;

use super::{DbError, System, Transaction};

/// One version of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct VersionRow {
    /// `sha256:…`.
    pub digest: String,
    /// The plugin's id.
    pub plugin_id: String,
    /// Its semantic version.
    pub version: String,
    /// Its kind.
    pub kind: String,
    /// The text of plugin.toml.
    pub manifest: String,
    /// Size of the component.
    pub size_bytes: i64,
    /// When it was added, Unix ms.
    pub added_at_ms: i64,
    /// What the operator approved, JSON; `None` until then.
    pub approved_grants: Option<String>,
    /// When, Unix ms.
    pub approved_at_ms: Option<i64>,
    /// Grows with each approval.
    pub approval: Option<i64>,
}

impl VersionRow {
    /// What the operator approved; `None` until then.
    ///
    /// # Errors
    /// [`DbError::Corrupt`].
    pub fn approved(&self) -> Result<Option<Grants>, DbError> {
        let Some(text) = &self.approved_grants else {
            return Ok(None);
        };
        grants(text)
            .map(Some)
            .map_err(|problem| DbError::corrupt("plugin_version", &self.digest, problem))
    }
}

/// Reads a JSON list of capabilities.
pub(super) fn grants(text: &str) -> Result<Grants, String> {
    let list: Vec<String> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    list.iter()
        .map(|one| one.parse().map_err(|error| format!("{error}")))
        .collect()
}

/// Writes a JSON list of capabilities.
pub(super) fn grants_text(grants: &Grants) -> String {
    let list: Vec<String> = grants.0.iter().map(ToString::to_string).collect();
    serde_json::Value::from(list).to_string()
}

impl System {
    /// Adds a version with its component; `false` when it is there already. Called by the operator's route.
    pub async fn add_version(
        &self,
        version: &VersionRow,
        component: &[u8],
    ) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let added = sql!(tx, c => sqlx::query(
            "INSERT INTO plugin_version (digest, plugin_id, version, kind, manifest, size_bytes, added_at_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (digest) DO NOTHING",
        )
        .bind(&version.digest)
        .bind(&version.plugin_id)
        .bind(&version.version)
        .bind(&version.kind)
        .bind(&version.manifest)
        .bind(version.size_bytes)
        .bind(version.added_at_ms)
        .execute(c).await?.rows_affected());
        if added == 1 {
            sql!(tx, c => sqlx::query("INSERT INTO plugin_component (digest, bytes) VALUES ($1, $2)")
                .bind(&version.digest).bind(component).execute(c).await?.rows_affected());
        }
        tx.commit().await?;
        Ok(added == 1)
    }

    /// Every version of every plugin, newest approval first within a plugin. Called by routes and the registry.
    pub async fn versions(&self) -> Result<Vec<VersionRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT digest, plugin_id, version, kind, manifest, size_bytes, added_at_ms,
                    approved_grants, approved_at_ms, approval
             FROM plugin_version
             ORDER BY plugin_id, COALESCE(approval, 0) DESC, added_at_ms DESC, digest",
        ).fetch_all(c).await?))
    }

    /// One version. Called by routes.
    pub async fn version(&self, digest: &str) -> Result<Option<VersionRow>, DbError> {
        let mut conn = self.reader().await?;
        Ok(sql!(conn, c => sqlx::query_as(
            "SELECT digest, plugin_id, version, kind, manifest, size_bytes, added_at_ms,
                    approved_grants, approved_at_ms, approval
             FROM plugin_version
             WHERE digest = $1",
        ).bind(digest).fetch_optional(c).await?))
    }

    /// A version's component. Called by the registry.
    pub async fn component(&self, digest: &str) -> Result<Option<Vec<u8>>, DbError> {
        let mut conn = self.reader().await?;
        let row: Option<(Vec<u8>,)> = sql!(conn, c => sqlx::query_as(
            "SELECT bytes FROM plugin_component WHERE digest = $1",
        ).bind(digest).fetch_optional(c).await?);
        Ok(row.map(|(bytes,)| bytes))
    }

    /// Approves a version: it becomes the one that runs. `false` when there is no such version. Called by the operator's route.
    pub async fn approve(
        &self,
        digest: &str,
        grants: &Grants,
        now: Timestamp,
    ) -> Result<bool, DbError> {
        let mut tx = self.begin().await?;
        let approval = next(&mut tx, "approval").await?;
        let changed = sql!(tx, c => sqlx::query(
            "UPDATE plugin_version
             SET approved_grants = $2, approved_at_ms = $3, approval = $4
             WHERE digest = $1",
        )
        .bind(digest)
        .bind(grants_text(grants))
        .bind(now.0)
        .bind(approval)
        .execute(c).await?.rows_affected());
        next(&mut tx, "plugin_revision").await?;
        tx.commit().await?;
        Ok(changed == 1)
    }

    /// Grows with every change of what should run. Called by the registry, twice a second.
    pub async fn plugin_revision(&self) -> Result<i64, DbError> {
        let mut conn = self.reader().await?;
        let (revision,): (i64,) = sql!(conn, c => sqlx::query_as(
            "SELECT next FROM id_counter WHERE name = 'plugin_revision'",
        ).fetch_one(c).await?);
        Ok(revision)
    }
}

/// The next number of a counter; the row stays locked until the transaction ends.
pub(super) async fn next(tx: &mut Transaction, counter: &'static str) -> Result<i64, DbError> {
    let (number,): (i64,) = sql!(tx, c => sqlx::query_as(
        "UPDATE id_counter SET next = next + 1 WHERE name = $1 RETURNING next - 1",
    ).bind(counter).fetch_one(c).await?);
    Ok(number)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::db::testing::each_database;

    /// A version as a test needs it.
    pub(crate) fn version(digest: &str, plugin_id: &str) -> VersionRow {
        VersionRow {
            digest: digest.to_owned(),
            plugin_id: plugin_id.to_owned(),
            version: "1.0.0".to_owned(),
            kind: "check".to_owned(),
            manifest: String::new(),
            size_bytes: 3,
            added_at_ms: 1,
            approved_grants: None,
            approved_at_ms: None,
            approval: None,
        }
    }

    #[tokio::test]
    async fn the_version_approved_last_comes_first() {
        each_database(|db| async move {
            let system = db.system();
            for digest in ["sha256:a", "sha256:b"] {
                assert!(
                    system
                        .add_version(&version(digest, "p"), b"abc")
                        .await
                        .expect("added")
                );
            }
            assert!(
                !system
                    .add_version(&version("sha256:a", "p"), b"abc")
                    .await
                    .expect("known")
            );
            assert_eq!(
                system.component("sha256:a").await.expect("read").as_deref(),
                Some(&b"abc"[..])
            );
            let before = system.plugin_revision().await.expect("read");
            let grants: Grants = ["http a.example".parse().expect("a capability")]
                .into_iter()
                .collect();
            for digest in ["sha256:b", "sha256:a"] {
                assert!(
                    system
                        .approve(digest, &grants, Timestamp(2))
                        .await
                        .expect("approved")
                );
            }
            assert!(
                !system
                    .approve("sha256:x", &grants, Timestamp(2))
                    .await
                    .expect("unknown")
            );
            let versions = system.versions().await.expect("listed");
            assert_eq!(
                versions
                    .iter()
                    .map(|v| v.digest.as_str())
                    .collect::<Vec<_>>(),
                ["sha256:a", "sha256:b"]
            );
            assert_eq!(versions[0].approved().expect("readable"), Some(grants));
            assert!(system.plugin_revision().await.expect("read") > before);
        })
        .await;
    }
}
