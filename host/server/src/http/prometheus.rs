//! The Prometheus HTTP API, as Grafana's data source asks it.

use super::Route;

pub(super) fn routes() -> Vec<Route> {
    Vec::new()
}
