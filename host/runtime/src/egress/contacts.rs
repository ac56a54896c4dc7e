//! What one call did on the network, for its report.

use std::fmt::Display;
use std::sync::Arc;

use parking_lot::Mutex;

/// Counts and lists; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Contacts(Arc<Mutex<Traffic>>);

/// See the fields of the same names in [`CallReport`](crate::CallReport).
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) requests: u32,
    pub(crate) bytes_out: u64,
    pub(crate) contacted: Vec<String>,
    pub(crate) refused: Vec<String>,
}

impl Contacts {
    /// Counts a request; false when there have been `max` already.
    pub(crate) fn may_ask(&self, max: u32) -> bool {
        let mut traffic = self.0.lock();
        if traffic.requests >= max {
            return false;
        }
        traffic.requests += 1;
        true
    }

    /// Remembers that somebody was reached.
    pub(crate) fn contacted(&self, whom: impl Display) {
        self.0.lock().contacted.push(whom.to_string());
    }

    /// Remembers that somebody was not reached because of the grant or the policy; at most once a request.
    pub(crate) fn refused(&self, why: impl Display) {
        self.0.lock().refused.push(why.to_string());
    }

    /// Counts what was sent.
    pub(crate) fn sent(&self, bytes: usize) {
        let mut traffic = self.0.lock();
        traffic.bytes_out = traffic.bytes_out.saturating_add(bytes as u64);
    }

    /// Takes all of it and begins anew.
    pub(crate) fn take(&self) -> Traffic {
        std::mem::take(&mut *self.0.lock())
    }
}
