//! Alerts: looking at them and closing them by hand.

use super::Route;

pub(super) fn routes() -> Vec<Route> {
    Vec::new()
}
