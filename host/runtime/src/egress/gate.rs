//! The gate of one instance: what it may do on the network, and what it did.

use std::fmt::Display;
use std::sync::Arc;

use crate::call::RefusedContact;
use crate::egress::Network;
use crate::egress::allow::{Act, Permits};
use crate::egress::contacts::{Contacts, Open};
use crate::egress::target::Target;
use crate::log::CallLog;
use crate::secrets::Secrets;

/// What one instance may do. Its parts are shared with the call's report.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) network: Arc<Network>,
    pub(crate) allow: Arc<Permits>,
    pub(crate) contacts: Contacts,
    /// What the host puts in on the way out, and takes out on the way in.
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) log: CallLog,
    pub(crate) requests_max: u32,
    /// Of one HTTP request, and of what is written to one connection.
    pub(crate) request_body_max_bytes: u64,
    /// Of one HTTP answer, and of what is read from one connection.
    pub(crate) body_max_bytes: u64,
    pub(crate) connections_max: u32,
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
    pub(crate) fn may_hold(&self) -> Result<Open, TooMany> {
        self.contacts.open(self.connections_max).ok_or_else(|| {
            let why = format!(
                "the request was refused: {} connections are the most that one call may have open at a time",
                self.connections_max
            );
            self.log.remark(why.clone());
            TooMany(why)
        })
    }

    /// Whether the grant covers it; where it does not, why.
    pub(crate) fn check(&self, act: Act<'_>, target: &Target) -> Result<(), String> {
        let checked = self.allow.check(act, target);
        checked.map_err(|why| self.refuse(why.wanted(), &why))
    }

    /// Tells the plugin's author and the report why somebody was not reached.
    pub(crate) fn refuse(&self, wanted: impl Display, why: impl Display) -> String {
        let reason = why.to_string();
        self.log.remark(reason.clone());
        self.contacts.refused(RefusedContact {
            wanted: wanted.to_string(),
            reason: reason.clone(),
        });
        reason
    }
}
