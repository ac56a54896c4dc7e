//! Plugins in this process: what the operator and the tenants want, made ready to be called.
//!
//! [`PluginRegistry`] keeps the [`Snapshot`] of what runs up to date with the database, and does what operators do with
//! versions: prepares, publishes, tries, rolls back. [`PluginCalls`] is the only way to call what runs.

mod asked;
mod breakers;
mod calls;
mod catalogue;
mod ceiling;
mod compiled;
mod failures;
mod fit;
mod install;
mod keeper;
mod lifecycle;
mod meters;
mod permission;
mod prepare;
mod quarantine;
mod registry;
mod services;
mod shadow;
mod snapshot;
mod wishes;

pub use breakers::ShownBreaker;
pub use calls::{Called, NoAnswer, PluginCalls, Refused};
pub use catalogue::{Catalogue, Known};
pub use ceiling::{Ceiling, InvalidPattern};
pub use lifecycle::{Approve, By, HeldBack, Publish, Released, RollBack};
pub use permission::{Missing, Side};
pub use prepare::{Prepared, SignaturePolicy};
pub use registry::{NotRunnable, PluginRegistry, Policy, RegistryParts, secret_place};
pub use services::PluginServices;
pub use snapshot::{Running, Shadow, Snapshot};
pub use wishes::{Stored, Wish};
