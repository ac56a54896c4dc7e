//! SQL: one text for SQLite and PostgreSQL, and the only module that knows sqlx.
//!
//! Invariants:
//! - A tenant's data is reached only through [`TenantDb`], the handle of one tenant; what must look across tenants is
//!   a method of [`System`], in `db/system.rs` and its children. Both are made from a [`Db`].
//! - Every tenant table's primary key, indexes and foreign keys begin with `tenant_id`.
//! - SQLite has one writer connection, and every writing transaction begins with `BEGIN IMMEDIATE`: a
//!   transaction that upgraded from reading to writing would fail at once, whatever the busy timeout.
//! - Ids are `i64` or text, times `i64` Unix milliseconds, JSON and decimals text. Time is an argument.
//!
//! # How to add a table
//!
//! 1. `migrations/NNNN_note.sql`, in PostgreSQL's words (`db/dialect.rs` says what becomes of them on SQLite), and its
//!    line in `db/migrate.rs`:
//!
//! ```sql
//! CREATE TABLE note (
//!     tenant_id BIGINT NOT NULL REFERENCES tenant (id),
//!     id TEXT NOT NULL,
//!     text TEXT NOT NULL,
//!     created_at_ms BIGINT NOT NULL,
//!     PRIMARY KEY (tenant_id, id)
//! );
//! ```
//!
//! 2. `db/notes.rs`: a row type (columns read by name) and methods of [`TenantDb`]. `sql!` compiles its body once for each
//!    database; `c` is the connection. The handle names the tenant in *every* statement:
//!
//! ```ignore
//! #[derive(Debug, PartialEq, sqlx::FromRow)]
//! pub struct Note { pub id: String, pub text: String, pub created_at_ms: i64 }
//!
//! impl TenantDb {
//!     /// The newest notes first, at most `limit`.
//!     pub async fn notes(&self, limit: i64) -> Result<Vec<Note>, DbError> {
//!         let mut conn = self.reader().await?;
//!         Ok(sql!(conn, c => sqlx::query_as(
//!             "SELECT id, text, created_at_ms
//!              FROM note
//!              WHERE tenant_id = $1
//!              ORDER BY created_at_ms DESC, id
//!              LIMIT $2",
//!         ).bind(self.id().0).bind(limit).fetch_all(c).await?))
//!     }
//!
//!     /// Replaces a note's text. `false` when there is no such note.
//!     pub async fn set_note(&self, id: &str, text: &str) -> Result<bool, DbError> {
//!         let mut tx = self.begin().await?;          // or self.writer() for one statement
//!         let changed = sql!(tx, c => sqlx::query(
//!             "UPDATE note SET text = $3 WHERE tenant_id = $1 AND id = $2",
//!         ).bind(self.id().0).bind(id).bind(text).execute(&mut *c).await?.rows_affected());
//!         tx.commit().await?;                        // dropped without commit: rolled back
//!         Ok(changed == 1)
//!     }
//! }
//! ```
//!
//! 3. Tests run on both databases: `testing::each_database(|db| async move { … }).await`.
//!
//! Several statements of one transaction: `sql!` again and again on the same `tx`. Claim work by a lease in one statement, which is safe
//! on both: `UPDATE run SET lease_until_ms = $2 WHERE id IN (SELECT id FROM run WHERE lease_until_ms < $1 ORDER BY … LIMIT
//! $3) AND lease_until_ms < $1 RETURNING …` (the outer condition is what a concurrent PostgreSQL session re-checks). Never hold two
//! connections at once: SQLite's writer is one, so the second acquisition would wait for the first.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use shoal_model::TenantId;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{PgPool, Postgres, Sqlite, SqlitePool};

/// Runs one body on whichever database a [`Connection`] or [`Transaction`] belongs to.
///
/// The body is compiled twice, with `c` a `&mut SqliteConnection` and a `&mut PgConnection`. A body with several
/// statements passes `&mut *c`.
macro_rules! sql {
    ($source:expr, $c:ident => $body:expr) => {
        match $source.on() {
            $crate::db::On::Sqlite($c) => $body,
            $crate::db::On::Postgres($c) => $body,
        }
    };
}

pub mod alerts;
pub mod audit;
pub mod catalog;
mod dialect;
pub mod installations;
pub mod jobs;
mod migrate;
pub mod monitors;
pub mod notifications;
pub mod plugin_failures;
pub mod plugin_health;
pub mod plugin_kv;
pub mod plugin_limits;
pub mod plugin_usage;
pub mod plugins;
pub mod publishers;
pub mod statements;
pub mod system;
pub mod tenants;
#[cfg(test)]
pub(crate) mod testing;
pub mod tracks;
pub mod usage;

pub use system::System;

/// SQLite connections that only read. Reads are short; more would only compete for two cores.
const SQLITE_READERS_MAX: u32 = 4;
/// PostgreSQL connections of one process; a default server allows 100 in all.
const POSTGRES_CONNECTIONS_MAX: u32 = 16;
/// How long a caller waits for a connection before it gets [`DbError::Unavailable`].
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long SQLite waits for another process (a backup, a shell) to leave the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The database. Clones share its connections.
#[derive(Clone, Debug)]
pub enum Db {
    /// A file.
    Sqlite {
        /// The only connection that writes.
        writer: SqlitePool,
        /// Connections that cannot write.
        reader: SqlitePool,
    },
    /// A server.
    Postgres(PgPool),
}

/// What can go wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The address of the database makes no sense.
    #[error(
        "database address {address:?} is not usable: {problem}; use sqlite:<path> or postgres://user@host/name"
    )]
    Address {
        /// The address, without password.
        address: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A row with this key exists.
    #[error("it exists already: {0}")]
    Exists(#[source] sqlx::Error),
    /// A row points to one that does not exist, or one that is still pointed to was to be deleted.
    #[error("it refers to something that does not exist, or is still referred to: {0}")]
    Reference(#[source] sqlx::Error),
    /// A write changed another number of rows than it should have; nothing is committed.
    #[error("{table} {key:?}: {changed} rows changed instead of {expected}")]
    RowCount {
        /// The table written to.
        table: &'static str,
        /// Which row was meant.
        key: String,
        /// Rows changed.
        changed: u64,
        /// Rows that should have changed.
        expected: u64,
    },
    /// What was stored cannot be read back: another program wrote it, or a newer Shoal.
    #[error("{table} {key:?} cannot be read: {problem}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// Which row.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The database was written by another version of Shoal.
    #[error("migration {version} ({name}): {problem}")]
    Migration {
        /// The migration's number.
        version: i64,
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The database does not answer or refuses.
    #[error("the database failed: {0}")]
    Unavailable(#[source] sqlx::Error),
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(cause) if cause.is_unique_violation() => DbError::Exists(error),
            sqlx::Error::Database(cause) if cause.is_foreign_key_violation() => {
                DbError::Reference(error)
            }
            _ => DbError::Unavailable(error),
        }
    }
}

impl DbError {
    /// Fails unless exactly `expected` rows changed: a write that silently hits nothing is a bug or a lost race.
    pub(in crate::db) fn expect_rows(
        table: &'static str,
        key: impl ToString,
        changed: u64,
        expected: u64,
    ) -> Result<(), DbError> {
        if changed == expected {
            return Ok(());
        }
        let key = key.to_string();
        Err(DbError::RowCount {
            table,
            key,
            changed,
            expected,
        })
    }

    /// For a value in a column that its type refuses.
    pub(crate) fn corrupt(
        table: &'static str,
        key: impl ToString,
        problem: impl ToString,
    ) -> DbError {
        let (key, problem) = (key.to_string(), problem.to_string());
        DbError::Corrupt {
            table,
            key,
            problem,
        }
    }
}

impl Db {
    /// Opens `sqlite:<path>` (made when absent) or `postgres://…` and brings its schema up to date.
    ///
    /// # Errors
    /// [`DbError::Address`], [`DbError::Migration`] when the schema is of another or newer Shoal, else
    /// [`DbError::Unavailable`].
    pub async fn open(address: &str) -> Result<Db, DbError> {
        let db = Db::connect(address).await?;
        migrate::run(&db).await?;
        Ok(db)
    }

    /// Connects, whatever the schema is.
    async fn connect(address: &str) -> Result<Db, DbError> {
        Ok(if let Some(path) = address.strip_prefix("sqlite:") {
            Db::open_sqlite(Path::new(path.strip_prefix("//").unwrap_or(path))).await?
        } else if address.starts_with("postgres://") || address.starts_with("postgresql://") {
            let options =
                PgConnectOptions::from_str(address).map_err(|error| DbError::Address {
                    address: without_password(address),
                    problem: error.to_string(),
                })?;
            Db::open_postgres(options).await?
        } else {
            return Err(DbError::Address {
                address: without_password(address),
                problem: "unknown scheme".to_owned(),
            });
        })
    }

    async fn open_sqlite(path: &Path) -> Result<Db, DbError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true);
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(ACQUIRE_TIMEOUT)
        };
        let writer = pool(1)
            .min_connections(1)
            .connect_with(options.clone().create_if_missing(true))
            .await?;
        let reader = pool(SQLITE_READERS_MAX)
            .connect_with(options.read_only(true))
            .await?;
        Ok(Db::Sqlite { writer, reader })
    }

    async fn open_postgres(options: PgConnectOptions) -> Result<Db, DbError> {
        let pool = PgPoolOptions::new()
            .max_connections(POSTGRES_CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options.application_name("shoal"))
            .await?;
        Ok(Db::Postgres(pool))
    }

    /// The handle of one tenant.
    ///
    /// Who calls this vouches for the tenant: only who checked an API key and the engines that work for all tenants
    /// may, and a test keeps it so.
    pub(crate) fn tenant(&self, id: TenantId) -> TenantDb {
        TenantDb {
            db: self.clone(),
            id,
        }
    }

    /// The handle for what looks across tenants.
    pub fn system(&self) -> System {
        System::new(self.clone())
    }

    /// `sqlite` or `postgres`, for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Db::Sqlite { .. } => "sqlite",
            Db::Postgres(_) => "postgres",
        }
    }

    /// Closes every connection, after what is running on them.
    pub async fn close(&self) {
        match self {
            Db::Sqlite { writer, reader } => {
                reader.close().await;
                writer.close().await;
            }
            Db::Postgres(pool) => pool.close().await,
        }
    }

    async fn reader(&self) -> Result<Connection, DbError> {
        Ok(match self {
            Db::Sqlite { reader, .. } => Connection::Sqlite(reader.acquire().await?),
            Db::Postgres(pool) => Connection::Postgres(pool.acquire().await?),
        })
    }

    async fn writer(&self) -> Result<Connection, DbError> {
        Ok(match self {
            Db::Sqlite { writer, .. } => Connection::Sqlite(writer.acquire().await?),
            Db::Postgres(pool) => Connection::Postgres(pool.acquire().await?),
        })
    }

    async fn begin(&self) -> Result<Transaction, DbError> {
        Ok(match self {
            Db::Sqlite { writer, .. } => {
                Transaction::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?)
            }
            Db::Postgres(pool) => Transaction::Postgres(pool.begin().await?),
        })
    }
}

/// The handle of one tenant: every query on tenant data is a method of it. Clones are cheap.
#[derive(Clone, Debug)]
pub struct TenantDb {
    db: Db,
    id: TenantId,
}

impl TenantDb {
    /// Which tenant.
    pub fn id(&self) -> TenantId {
        self.id
    }

    /// A connection for one or more reading statements.
    pub(in crate::db) async fn reader(&self) -> Result<Connection, DbError> {
        self.db.reader().await
    }

    /// A connection for one writing statement.
    pub(in crate::db) async fn writer(&self) -> Result<Connection, DbError> {
        self.db.writer().await
    }

    /// A transaction that may write.
    pub(in crate::db) async fn begin(&self) -> Result<Transaction, DbError> {
        self.db.begin().await
    }
}

/// A connection to either database, given back when dropped.
pub(in crate::db) enum Connection {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

/// A transaction on either database, rolled back when dropped without [`Transaction::commit`].
pub(in crate::db) enum Transaction {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

/// What `sql!` looks at.
pub(in crate::db) enum On<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

impl Connection {
    pub(in crate::db) fn on(&mut self) -> On<'_> {
        match self {
            Connection::Sqlite(connection) => On::Sqlite(connection),
            Connection::Postgres(connection) => On::Postgres(connection),
        }
    }
}

impl Transaction {
    pub(in crate::db) fn on(&mut self) -> On<'_> {
        match self {
            Transaction::Sqlite(tx) => On::Sqlite(tx),
            Transaction::Postgres(tx) => On::Postgres(tx),
        }
    }

    /// Makes everything done in it permanent.
    pub(in crate::db) async fn commit(self) -> Result<(), DbError> {
        match self {
            Transaction::Sqlite(tx) => tx.commit().await?,
            Transaction::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }
}

/// An address as it may be shown: `postgres://user:secret@host/name` without the secret.
fn without_password(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else {
        return address.to_owned();
    };
    let Some((credentials, place)) = rest.rsplit_once('@') else {
        return address.to_owned();
    };
    let user = credentials.split(':').next().unwrap_or_default();
    format!("{scheme}://{user}@{place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_of_another_sort_is_refused_without_showing_its_password() {
        let error = Db::open("mysql://root:hunter2@db/shoal")
            .await
            .expect_err("no such database");
        let text = error.to_string();
        assert!(text.contains("mysql://root@db/shoal"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[tokio::test]
    async fn a_transaction_that_is_dropped_changes_nothing() {
        testing::each_database(|db| async move {
            let mut tx = db.begin().await.expect("a transaction");
            let changed = sql!(tx, c => sqlx::query("UPDATE id_counter SET next = next + 1 WHERE name = 'tenant'")
                .execute(c).await.expect("an update").rows_affected());
            assert_eq!(changed, 1);
            drop(tx);
            let mut conn = db.reader().await.expect("a connection");
            let next: i64 = sql!(conn, c => sqlx::query_scalar("SELECT next FROM id_counter WHERE name = 'tenant'")
                .fetch_one(c).await.expect("a row"));
            assert_eq!(next, 1);
        })
        .await;
    }

    #[tokio::test]
    async fn a_second_open_finds_the_schema_up_to_date() {
        testing::each_address(|address| async move {
            Db::open(&address).await.expect("the first").close().await;
            Db::open(&address).await.expect("the second").close().await;
        })
        .await;
    }
}
