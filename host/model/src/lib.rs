//! What monitoring and billing mean, without any input or output.
//!
//! This crate knows no clock, no randomness, no database and no network: times and random bytes are
//! arguments. Everything in it can be tested by calling it.
//!
//! Start with [`alert`] (when a monitor fires) or [`usage`] (what a tenant is billed for).
#![warn(missing_docs)]

pub mod alert;
pub mod breaker;
pub mod grant;
pub mod id;
pub mod labels;
pub mod limit;
pub mod money;
pub mod telemetry;
pub mod time;
pub mod usage;

pub use id::{Digest, InstallationId, MonitorId, PluginId, TenantId};
pub use labels::Labels;
pub use time::Timestamp;
