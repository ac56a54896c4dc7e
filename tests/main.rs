//! The road, end to end: the real binary `shoal`, real sockets, real databases, real plugins.
//!
//! One binary, because linking is what takes long. Each test starts a server of its own on free ports, with a
//! folder of its own, so tests run side by side. `cargo xtask test --only road` prepares what they need: built
//! plugins, and a PostgreSQL in which they may make databases.
#![expect(
    clippy::disallowed_methods,
    reason = "these tests stand outside the process: they read its environment, clock and tasks for themselves"
)]

mod author;
mod bad_input;
mod cli;
mod compile;
mod crash;
mod dev;
mod docs;
mod hostile;
mod hot_change;
mod isolation;
mod openapi;
mod other_languages;
mod otlp;
mod plugin_health;
mod refused_uploads;
mod releases;
mod road;
mod services;
mod support;
