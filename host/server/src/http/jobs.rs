//! Jobs: what there is, posting a run, looking at runs.

use super::Route;

pub(super) fn routes() -> Vec<Route> {
    Vec::new()
}
