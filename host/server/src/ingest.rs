//! How telemetry gets from a client through a receiver plugin to durable samples.
//!
//! A request is authenticated, bounded and decompressed here ([`receive`], [`admission`], [`body`]); the tenant's
//! receiver plugin understands it and hands columns back through [`TenantIngest`](write::TenantIngest); [`flatten`]
//! makes samples of them and the store commits them before the plugin, and so the client, gets its answer. The
//! host parses nothing of the protocol.

pub mod admission;
pub mod body;
pub mod flatten;
pub mod naming;
pub mod own;
pub mod problem;
pub mod receive;
pub mod rpc_status;
pub mod write;
