//! Where a test's server keeps its tables.

use sqlx::{AssertSqlSafe, ConnectOptions as _};

/// One of the two databases, empty.
#[derive(Clone, Debug)]
pub(crate) enum Database {
    /// A file in the server's data folder.
    Sqlite,
    /// A database of its own in the tests' PostgreSQL.
    Postgres {
        /// `postgres://…`
        url: String,
    },
}

impl Database {
    pub(crate) fn sqlite() -> Database {
        Database::Sqlite
    }

    /// Makes a database in the PostgreSQL that `SHOAL_TEST_POSTGRES` names.
    ///
    /// # Panics
    /// When the variable is not set or the server does not answer.
    pub(crate) async fn postgres() -> Database {
        let server = std::env::var("SHOAL_TEST_POSTGRES").unwrap_or_else(|_| {
            panic!(
                "these tests need a PostgreSQL in which they may make databases: run them with `cargo xtask test \
                 --only road`, or set SHOAL_TEST_POSTGRES to what `cargo xtask postgres` prints"
            )
        });
        let name = format!(
            "shoal_road_{:016x}",
            u64::from_ne_bytes(shoal_server::random::bytes())
        );
        let options: sqlx::postgres::PgConnectOptions = server
            .parse()
            .unwrap_or_else(|error| panic!("SHOAL_TEST_POSTGRES is no postgres URL: {error}"));
        let mut connection = options
            .connect()
            .await
            .unwrap_or_else(|error| panic!("SHOAL_TEST_POSTGRES does not answer: {error}"));
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .execute(&mut connection)
            .await
            .expect("the user may create databases");
        let mut url = reqwest::Url::parse(&server).expect("sqlx read it as well");
        url.set_path(&name);
        Database::Postgres { url: url.into() }
    }

    /// For messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Database::Sqlite => "SQLite",
            Database::Postgres { .. } => "PostgreSQL",
        }
    }
}
