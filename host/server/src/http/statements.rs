//! Statements: a month's usage, priced.

use super::Route;

pub(super) fn routes() -> Vec<Route> {
    Vec::new()
}
