//! Plugins in this process: what the operator and the tenants want, made ready to be called.
//!
//! [`PluginRegistry`] keeps the [`Snapshot`] of what runs up to date with the database.

mod compiled;
mod registry;
mod services;
mod snapshot;

pub use registry::{NotRunnable, PluginRegistry, secret_place};
pub use services::PluginServices;
pub use snapshot::{Running, Shadow, Snapshot};
