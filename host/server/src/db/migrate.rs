//! Brings the schema up to date: migrations run in order, each in its own transaction, each recorded with the checksum
//! of its text.
//!
//! A migration that was run is never edited: the checksum would differ and the server refuses to start.
//! Forward only. Processes that start together wait for each other.

use sha2::{Digest as _, Sha256};
use sqlx::AssertSqlSafe;

use super::{Db, DbError, Transaction, dialect};

struct Migration {
    version: i64,
    name: &'static str,
    text: &'static str,
}

macro_rules! migrations {
    ($($version:literal $name:literal),* $(,)?) => {
        &[$(Migration {
            version: $version,
            name: $name,
            text: include_str!(concat!("../../../../migrations/", $name, ".sql")),
        }),*]
    };
}

/// Every migration, oldest first: its number and the name of its file.
const MIGRATIONS: &[Migration] = migrations![
    1 "0001_tenants",
    2 "0002_plugins",
    3 "0003_telemetry",
    4 "0004_monitoring",
    5 "0005_jobs_and_billing",
    6 "0006_plugin_lifecycle",
    7 "0007_plugin_health",
    8 "0008_plugin_limits",
    9 "0009_plugin_kv",
];

/// Any number that other programs on the same PostgreSQL are unlikely to lock.
const ADVISORY_LOCK: i64 = 0x5348_4f41_4c00_0001;

/// Runs what has not been run yet.
pub(super) async fn run(db: &Db) -> Result<(), DbError> {
    run_up_to(db, i64::MAX).await?;
    refuse_newer(db).await
}

async fn run_up_to(db: &Db, newest: i64) -> Result<(), DbError> {
    let mut tx = locked(db).await?;
    let table = dialect::schema_text(
        db,
        "CREATE TABLE IF NOT EXISTS schema_migration (
    version BIGINT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    checksum BYTEA NOT NULL
);",
    );
    sql!(tx, c => sqlx::raw_sql(AssertSqlSafe(table)).execute(c).await?.rows_affected());
    tx.commit().await?;
    for migration in MIGRATIONS.iter().filter(|one| one.version <= newest) {
        apply(db, migration).await?;
    }
    Ok(())
}

async fn locked(db: &Db) -> Result<Transaction, DbError> {
    let mut tx = db.begin().await?;
    if let Transaction::Postgres(tx) = &mut tx {
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(ADVISORY_LOCK)
            .execute(&mut **tx)
            .await?;
    }
    Ok(tx)
}

async fn apply(db: &Db, migration: &Migration) -> Result<(), DbError> {
    let mut tx = locked(db).await?;
    let checksum = Sha256::digest(migration.text).to_vec();
    let done: Option<Vec<u8>> = sql!(tx, c => sqlx::query_scalar(
        "SELECT checksum FROM schema_migration WHERE version = $1",
    ).bind(migration.version).fetch_optional(c).await?);
    match done {
        Some(known) if known == checksum => return Ok(()),
        Some(_) => {
            return Err(migration.failed("its text differs from the one that was run; use the Shoal that ran it or a newer one"));
        }
        None => {}
    }
    let text = dialect::schema_text(db, migration.text);
    let run = sql!(tx, c => sqlx::raw_sql(AssertSqlSafe(text)).execute(c).await.map(|_| ()));
    run.map_err(|error| migration.failed(&error.to_string()))?;
    sql!(tx, c => sqlx::query("INSERT INTO schema_migration (version, name, checksum) VALUES ($1, $2, $3)")
        .bind(migration.version).bind(migration.name).bind(checksum).execute(c).await?.rows_affected());
    tx.commit().await
}

async fn refuse_newer(db: &Db) -> Result<(), DbError> {
    let newest = MIGRATIONS.last().map_or(0, |migration| migration.version);
    let mut conn = db.reader().await?;
    let newer: Option<(i64, String)> = sql!(conn, c => sqlx::query_as(
        "SELECT version, name FROM schema_migration WHERE version > $1 ORDER BY version LIMIT 1",
    ).bind(newest).fetch_optional(c).await?);
    match newer {
        None => Ok(()),
        Some((version, name)) => Err(DbError::Migration {
            version,
            name,
            problem: "a newer Shoal has run on this database; start that one".to_owned(),
        }),
    }
}

impl Migration {
    fn failed(&self, problem: &str) -> DbError {
        DbError::Migration {
            version: self.version,
            name: self.name.to_owned(),
            problem: problem.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing;

    #[test]
    fn every_migration_file_is_listed_in_the_order_of_its_number() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .expect("the folder of migrations")
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .filter(|name| name.ends_with(".sql"))
            .collect();
        files.sort();
        let listed: Vec<String> = MIGRATIONS
            .iter()
            .map(|m| format!("{}.sql", m.name))
            .collect();
        assert_eq!(files, listed);
        for migration in MIGRATIONS {
            assert!(
                migration
                    .name
                    .starts_with(&format!("{:04}_", migration.version))
            );
        }
    }

    #[tokio::test]
    async fn the_version_that_was_approved_last_becomes_the_active_one() {
        testing::each_address(|address| async move {
            let db = Db::connect(&address).await.expect("connected");
            run_up_to(&db, 5).await.expect("as it was before tracks");
            let mut conn = db.writer().await.expect("a connection");
            for (digest, approval) in [("a", Some(1)), ("b", Some(3)), ("c", None), ("d", Some(2))] {
                let added = sql!(conn, c => sqlx::query(
                    "INSERT INTO plugin_version
                         (digest, plugin_id, version, kind, manifest, size_bytes, added_at_ms, approved_at_ms, approval)
                     VALUES ($1, 'p', '1.0.0', 'check', '', 1, 1, $2, $2)",
                ).bind(digest).bind::<Option<i64>>(approval).execute(c).await.expect("added").rows_affected());
                assert_eq!(added, 1);
            }
            drop(conn);
            run(&db).await.expect("up to date");
            let tracks = db.system().tracks().await.expect("read");
            assert_eq!(tracks.len(), 1);
            assert_eq!((&*tracks[0].plugin_id, &*tracks[0].track), ("p", "stable"));
            assert_eq!(tracks[0].active_digest.as_deref(), Some("b"));
            assert_eq!(tracks[0].former().expect("a list"), ["d"]);
            let releases = db.system().releases("p", 10).await.expect("read");
            let releases: Vec<_> = releases.iter().map(|one| (one.seq, &*one.digest)).collect();
            assert_eq!(releases, [(3, "b"), (2, "d"), (1, "a")]);
            db.close().await;
        })
        .await;
    }

    #[tokio::test]
    async fn a_migration_that_was_edited_after_it_ran_is_refused() {
        testing::each_database(|db| async move {
            let mut conn = db.writer().await.expect("a connection");
            sql!(conn, c => sqlx::query("UPDATE schema_migration SET checksum = $1 WHERE version = 1")
                .bind(vec![0u8]).execute(c).await.expect("an update").rows_affected());
            drop(conn);
            let error = run(&db).await.expect_err("the text differs");
            assert!(error.to_string().starts_with("migration 1 (0001_tenants): its text differs"), "{error}");
        })
        .await;
    }

    #[tokio::test]
    async fn a_database_of_a_newer_shoal_is_refused() {
        testing::each_database(|db| async move {
            let mut conn = db.writer().await.expect("a connection");
            sql!(conn, c => sqlx::query("INSERT INTO schema_migration (version, name, checksum) VALUES (9999, 'later', $1)")
                .bind(vec![0u8]).execute(c).await.expect("an insert").rows_affected());
            drop(conn);
            let error = run(&db).await.expect_err("newer");
            assert!(error.to_string().contains("newer Shoal"), "{error}");
        })
        .await;
    }
}
