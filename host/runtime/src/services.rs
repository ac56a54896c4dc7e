//! What the deployment does for an installation's calls: keeping values, sending mail.

use std::fmt;
use std::sync::Arc;

use crate::kv::KeyValue;
use crate::mail::{MailRelay, Recipients};
use crate::secrets::Secrets;

/// What a deployment offers an installation. What is `None` is not offered, and a plugin that cannot run without is not
/// installed.
#[derive(Clone, Default)]
pub struct Services {
    /// Where this installation's values are kept.
    pub kv: Option<Arc<dyn KeyValue>>,
    /// The way of mail.
    pub mail: Option<Arc<dyn MailRelay>>,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services")
            .field("kv", &self.kv.is_some())
            .field("mail", &self.mail.is_some())
            .finish()
    }
}

/// What an instance is given beside the network.
#[derive(Clone, Default)]
pub(crate) struct Provided {
    pub(crate) services: Services,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) recipients: Arc<Recipients>,
    /// What the present call is called, the same for every attempt.
    pub(crate) work: String,
    /// Messages that the present call has sent.
    pub(crate) mails: u32,
    /// Times that the present call has turned to its values.
    pub(crate) value_turns: u32,
}

impl Provided {
    /// Makes ready for a call.
    pub(crate) fn begin_call(&mut self, work: String) {
        self.work = work;
        self.mails = 0;
        self.value_turns = 0;
    }
}
