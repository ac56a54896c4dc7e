//! Makes a version ready to be called for one installation: with what it may do and the settings that it needs.

use std::sync::Arc;

use serde_json::{Map, Value};
use shoal_model::grant::Grants;
use shoal_runtime::{InstallError, InstallOptions, Installed, Plugin};

use super::ceiling::Ceiling;
use super::permission::{Missing, Sides};
use super::services::PluginServices;
use crate::db::Db;
use crate::db::installations::InstallationRow;

/// What all installations of this process have in common.
pub(super) struct Installer {
    /// What none of them gets beyond.
    pub(super) ceiling: Ceiling,
    /// Where values are kept.
    pub(super) db: Db,
    /// What is done for them.
    pub(super) services: PluginServices,
}

/// A version for one installation, ready to be called.
pub(super) struct Ready {
    pub(super) installed: Arc<Installed>,
    /// What it asks for and does not get, though it can run without.
    pub(super) missing: Vec<Missing>,
}

impl Installer {
    /// The error says what is wrong and who can do what about it.
    pub(super) fn install(
        &self,
        row: &InstallationRow,
        plugin: &Arc<Plugin>,
        approved: &Grants,
        settings: Map<String, Value>,
    ) -> Result<Ready, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let manifest = plugin.manifest();
        let granted = row.grants().map_err(|error| text(&error))?;
        // With their defaults, which may name a destination too. Settings that are not right are told of by the runtime.
        let complete = manifest.settings.validate(settings.clone());
        let complete = complete.map_or_else(|_| Map::new(), |settings| settings.as_map().clone());
        let permission = Sides {
            asked: &manifest.asked(),
            approved,
            granted: granted.as_ref(),
            ceiling: &self.ceiling,
            settings: &complete,
        }
        .permission();
        let id = row.id().map_err(|error| text(&error))?;
        let options = InstallOptions {
            tenant: row.tenant_id as u64,
            services: self.services.of(&self.db.tenant(row.tenant()), &row.id),
            ..InstallOptions::new(id, permission.effective.clone(), settings)
        };
        match plugin.install(options) {
            Ok(installed) => Ok(Ready {
                installed,
                missing: permission.missing,
            }),
            Err(InstallError::MissingGrant { capability, .. }) => {
                let digest = plugin.digest().to_string();
                Err(permission.why_missing(&capability, &row.plugin_id, &digest))
            }
            Err(error) => Err(error.to_string()),
        }
    }
}
