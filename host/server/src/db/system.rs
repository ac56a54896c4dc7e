//! Queries that look across tenants: finding who a key belongs to, which plugins run, which work is due.
//!
//! Everything here names in its documentation who calls it. What belongs to one tenant is a method of
//! [`TenantDb`](super::TenantDb) instead.

use super::{Connection, Db, DbError, Transaction};

/// The handle for what looks across tenants. Clones are cheap.
#[derive(Clone, Debug)]
pub struct System {
    db: Db,
}

impl System {
    pub(in crate::db) fn new(db: Db) -> System {
        System { db }
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
