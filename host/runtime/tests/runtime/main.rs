//! Plugins of every kind and every sort of misbehaviour, against the public interface of the crate.
//!
//! Guests are written in the WebAssembly text format (`guests/*.wat`) and made into components here, so that
//! these tests need no other toolchain.
#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]
#![expect(clippy::disallowed_methods, reason = "a test owns what it starts")]

mod contract;
mod determinism;
mod golden;
mod grants;
mod hostile;
mod hostile_files;
mod limits;
mod loading;
mod network;
mod optional;
mod packing;
mod pages;
mod receivers;
mod support;
