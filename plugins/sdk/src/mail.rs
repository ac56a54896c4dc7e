//! Mail through the operator's relay. Capability `mail`; only channels may have it.
//!
//! The sender and all headers but the subject are the host's, and a message that is sent again for the same work is the same
//! message to its receivers.

use crate::Failure;

pub use crate::bindings::channel::shoal::plugin::mail::{MailError, Message};

/// Recipients of one message.
pub const RECIPIENTS_MAX: usize = 50;

/// Hands a message to the relay; returns what the relay answered when it took it for all recipients.
///
/// # Errors
/// Nobody gets it. With `?` only [`MailError::Retry`] is tried again.
pub fn send(message: &Message) -> Result<String, MailError> {
    #[cfg(target_arch = "wasm32")]
    return crate::bindings::channel::shoal::plugin::mail::send(message);
    #[cfg(not(target_arch = "wasm32"))]
    crate::double::send_mail(message)
}

impl From<MailError> for Failure {
    fn from(error: MailError) -> Failure {
        match error {
            MailError::Denied(why) => Failure::rejected("denied", why),
            MailError::Invalid(why) => Failure::rejected("bad-message", why),
            MailError::Rejected(why) => Failure::rejected("relay-refused", why),
            MailError::Retry(why) => Failure::retry("relay-busy", why),
        }
    }
}
