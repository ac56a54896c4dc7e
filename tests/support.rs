//! What every test of the real process needs: a server, clients, plugins, and the other ends of its roads.

pub(crate) mod client;
pub(crate) mod components;
pub(crate) mod database;
pub(crate) mod listener;
pub(crate) mod otlp;
pub(crate) mod server;

use std::time::{Duration, Instant};

pub(crate) use client::{Answer, Client};
pub(crate) use database::Database;
pub(crate) use listener::{Listener, Post};
pub(crate) use server::{Server, Tenant};

/// Two slow cores that compile components beside three other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(100);

/// How often something is looked at until it is so.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Runs a test against a server on SQLite and against one on PostgreSQL, at the same time, because both wait more than
/// they work; both must end cleanly.
pub(crate) async fn each_database(test: impl AsyncFn(&mut Server)) {
    let on = async |database| {
        let mut server = Server::start(database).await;
        test(&mut server).await;
        server.stop().await;
    };
    tokio::join!(on(Database::sqlite()), on(Database::postgres().await));
}

/// Looks until `look` finds something, and returns it.
///
/// # Panics
/// When it has not happened after [`PATIENCE`]; `what` says what was waited for.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        let waited = begun.elapsed();
        assert!(waited < PATIENCE, "in {waited:?} there was no {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Now, in milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let ms = since.expect("the clock stands after 1970").as_millis();
    i64::try_from(ms).expect("the clock stands before the year 292 million")
}
