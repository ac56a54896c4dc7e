//! What an installation gives a plugin.

use serde_json::{Map, Value};
use shoal_model::InstallationId;
use shoal_model::grant::Grants;

/// Everything that [`Plugin::install`](crate::Plugin::install) needs to know.
#[derive(Clone, Debug)]
pub struct InstallOptions {
    /// Whose use of the plugin it is.
    pub installation: InstallationId,
    /// What it may do; of it only what the plugin asks for.
    pub grants: Grants,
    /// Its settings, secrets included.
    pub settings: Map<String, Value>,
}

impl InstallOptions {
    /// An installation with nothing beside these.
    pub fn new(
        installation: InstallationId,
        grants: Grants,
        settings: Map<String, Value>,
    ) -> InstallOptions {
        InstallOptions {
            installation,
            grants,
            settings,
        }
    }
}
