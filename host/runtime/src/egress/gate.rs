//! The gate of one instance: what it may do on the network, and what it did.

use std::fmt::Display;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::egress::allow::{Act, Permits};
use crate::egress::target::Target;
use crate::egress::{Contacts, Network};
use crate::log::CallLog;

/// What one instance may do. Its parts are shared with the call's report.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) network: Arc<Network>,
    pub(crate) allow: Arc<Permits>,
    pub(crate) contacts: Contacts,
    pub(crate) log: CallLog,
    pub(crate) requests_max: u32,
    /// Of one HTTP request or answer, and of one connection each way.
    pub(crate) body_max_bytes: u64,
    /// One permit a connection that the guest may hold.
    pub(crate) connections: Arc<Semaphore>,
}

/// The call has made as many requests as it may.
pub(crate) struct TooMany(pub(crate) String);

impl Gate {
    /// Counts a request.
    pub(crate) fn may_ask(&self) -> Result<(), TooMany> {
        if self.contacts.may_ask(self.requests_max) {
            return Ok(());
        }
        let why = format!(
            "the request was refused: {} are the most that one call may make",
            self.requests_max
        );
        self.log.remark(why.clone());
        Err(TooMany(why))
    }

    /// Room for a connection, until it is dropped.
    pub(crate) fn may_hold(&self) -> Result<OwnedSemaphorePermit, TooMany> {
        Arc::clone(&self.connections)
            .try_acquire_owned()
            .map_err(|_| {
                let why = "the connection was refused: the call holds as many as it may".to_owned();
                self.log.remark(why.clone());
                TooMany(why)
            })
    }

    /// Whether the grant covers it; where it does not, why.
    pub(crate) fn check(&self, act: Act<'_>, target: &Target) -> Result<(), String> {
        let checked = self.allow.check(act, target);
        checked.map_err(|why| self.refuse(why))
    }

    /// Tells the plugin's author and the report why somebody was not reached.
    pub(crate) fn refuse(&self, why: impl Display) -> String {
        let why = why.to_string();
        self.log.remark(why.clone());
        self.contacts.refused(&why);
        why
    }
}
