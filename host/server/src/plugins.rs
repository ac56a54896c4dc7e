//! Plugins in this process: what the operator and the tenants want, made ready to be called.
//!
//! [`PluginRegistry`] keeps the [`Snapshot`] of what runs up to date with the database, and does what operators do with
//! versions: prepares, publishes, tries, rolls back.

mod catalogue;
mod ceiling;
mod compiled;
mod fit;
mod install;
mod lifecycle;
mod permission;
mod prepare;
mod registry;
mod snapshot;
mod wishes;

pub use catalogue::{Catalogue, Known};
pub use ceiling::{Ceiling, InvalidPattern};
pub use lifecycle::{Approve, By, HeldBack, Publish, Released, RollBack};
pub use permission::{Missing, Side};
pub use prepare::{Prepared, SignaturePolicy};
pub use registry::{NotRunnable, PluginRegistry, Policy, RegistryParts, secret_place};
pub use snapshot::{Running, Shadow, Snapshot};
pub use wishes::{Stored, Wish};
