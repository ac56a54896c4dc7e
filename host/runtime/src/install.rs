//! What an installation gives a plugin.

use std::sync::Arc;

use serde_json::{Map, Value};
use shoal_model::InstallationId;
use shoal_model::grant::Grants;
use shoal_model::limit::LimitOverrides;

use crate::egress::Network;
use crate::state::FixedWorld;

use crate::services::Services;

/// Everything that [`Plugin::install`](crate::Plugin::install) needs to know.
#[derive(Clone, Debug)]
pub struct InstallOptions {
    /// Whose use of the plugin it is.
    pub installation: InstallationId,
    /// What it may do; of it only what the plugin asks for.
    pub grants: Grants,
    /// Its settings, secrets included.
    pub settings: Map<String, Value>,
    /// Who shares the slots with whom: calls of one tenant do not keep those of another waiting.
    pub tenant: u64,
    /// How much of the slots the tenant gets while others wait, 1 as a rule.
    pub weight: u32,
    /// Bounds of the tenant's own, of which only the lower ones count.
    pub limits: LimitOverrides,
    /// What the deployment does for it.
    pub services: Services,
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
            tenant: 0,
            weight: 1,
            limits: LimitOverrides::default(),
            services: Services::default(),
        }
    }
}

/// What surrounds an installation.
pub(crate) struct World {
    /// The way out.
    pub(crate) network: Arc<Network>,
    /// Clock and randomness, where they are made up for every call.
    pub(crate) fixed: Option<FixedWorld>,
}
