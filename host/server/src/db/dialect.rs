//! The few places where SQLite and PostgreSQL need different words.
//!
//! Migrations are written for PostgreSQL. On SQLite each type becomes the one that a `STRICT` table accepts, so
//! that a wrong type is an error there too instead of being stored as it comes.

use super::Db;

/// PostgreSQL's word and SQLite's.
const SQLITE_WORDS: [(&str, &str); 5] = [
    ("DOUBLE PRECISION", "REAL"),
    ("BYTEA", "BLOB"),
    ("BIGINT", "INTEGER"),
    ("BOOLEAN", "INTEGER"),
    // Only the end of a CREATE TABLE stands alone on its line.
    ("\n);", "\n) STRICT;"),
];

/// A migration's text for this database.
pub(super) fn schema_text(db: &Db, text: &str) -> String {
    match db {
        Db::Postgres(_) => text.to_owned(),
        Db::Sqlite { .. } => SQLITE_WORDS
            .iter()
            .fold(text.to_owned(), |text, (theirs, ours)| {
                text.replace(theirs, ours)
            }),
    }
}
