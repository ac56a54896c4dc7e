//! The process: everything that the binary `shoal` does.

pub mod telemetry;
