//! Plugins in this process: what the operator and the tenants want, made ready to be called.
//!
//! [`PluginRegistry`] keeps the [`Snapshot`] of what runs up to date with the database; [`PluginCalls`] is the only way to
//! call it.

mod asked;
mod breakers;
mod calls;
mod compiled;
mod failures;
mod keeper;
mod lifecycle;
mod meters;
mod quarantine;
mod registry;
mod shadow;
mod snapshot;

pub use breakers::ShownBreaker;
pub use calls::{Called, NoAnswer, PluginCalls, Refused};

pub use registry::{NotRunnable, PluginRegistry, secret_place};
pub use snapshot::{Running, Shadow, Snapshot};
