//! What one call did on the network, for its report.

use std::fmt::Display;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::call::RefusedContact;

/// Counts and lists; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Contacts(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    open: u32,
    traffic: Traffic,
}

/// One open connection, as long as it lives.
pub(crate) struct Open(Contacts);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.lock().open -= 1;
    }
}

/// See the fields of the same names in [`CallReport`](crate::CallReport).
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) requests: u32,
    pub(crate) bytes_out: u64,
    pub(crate) contacted: Vec<String>,
    pub(crate) refused: Vec<RefusedContact>,
}

impl Contacts {
    /// Counts a request; false when there have been `max` already.
    pub(crate) fn may_ask(&self, max: u32) -> bool {
        let traffic = &mut self.0.lock().traffic;
        if traffic.requests >= max {
            return false;
        }
        traffic.requests += 1;
        true
    }

    /// Counts an open connection; `None` when there are `max` already.
    pub(crate) fn open(&self, max: u32) -> Option<Open> {
        let mut inner = self.0.lock();
        if inner.open >= max {
            return None;
        }
        inner.open += 1;
        Some(Open(self.clone()))
    }

    /// Remembers that somebody was reached.
    pub(crate) fn contacted(&self, whom: impl Display) {
        self.0.lock().traffic.contacted.push(whom.to_string());
    }

    /// Remembers that somebody was not reached because of the grant or the policy; at most once a request.
    pub(crate) fn refused(&self, refused: RefusedContact) {
        self.0.lock().traffic.refused.push(refused);
    }

    /// Counts what was sent.
    pub(crate) fn sent(&self, bytes: usize) {
        let traffic = &mut self.0.lock().traffic;
        traffic.bytes_out = traffic.bytes_out.saturating_add(bytes as u64);
    }

    /// Takes all of it and begins anew; what is open stays so.
    pub(crate) fn take(&self) -> Traffic {
        std::mem::take(&mut self.0.lock().traffic)
    }
}
