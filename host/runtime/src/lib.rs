//! Plugins: read, check, grant, limit, run.
//!
//! Invariants:
//! - nothing outside this crate knows what plugins are made of;
//! - a plugin can do exactly what it was granted, and nothing else;
//! - no plugin can panic the host, make it allocate without bound or outlive its deadline.
//!
//! The way of a plugin: its bytes are read without running anything, loaded (compiled and checked
//! against its kind's contract), installed for a tenant with grants and settings, and called.
#![warn(missing_docs)]

mod manifest;
mod settings;

pub use manifest::{
    Asked, AskedLimits, Endpoint, InvalidManifest, MANIFEST_MAX_BYTES, Manifest, SECTION,
};
pub use settings::{
    InvalidSchema, InvalidSettings, SETTINGS_MAX_BYTES, SettingProblem, Settings, SettingsSchema,
};
