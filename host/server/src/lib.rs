//! The process and the binary `shoal`: everything that touches the network, the disk, the clock or SQL.
//!
//! [`db`] is the only module that knows sqlx, `http` and `grpc` the only ones that know axum and tonic, [`clock`] the
//! only one that reads the time, [`task`] the only one that spawns.

pub mod app;
pub mod audit;
pub mod auth;
pub mod billing;
pub mod cli;
pub mod clock;
pub mod config;
pub mod db;
pub mod grpc;
pub mod http;
pub mod ingest;
pub mod jobs;
pub mod limits;
pub mod mail;
pub mod monitoring;
pub mod notify;
pub mod observe;
pub mod plugins;
pub mod query;
pub mod random;
pub mod secrets;
pub mod serve;
pub mod task;
pub mod telemetry;
#[cfg(test)]
pub(crate) mod testing;
