//! The WebAssembly target: there, or installed.

use std::process::Command;

use anyhow::{Context, Result};

use crate::command;

/// What plugins are compiled to.
pub(crate) const TARGET: &str = "wasm32-wasip2";

/// Makes sure that plugins can be compiled, installing the target where rustup manages the toolchain.
///
/// # Errors
/// When the target is missing and rustup is absent or cannot fetch it; says what to install by hand.
pub(crate) fn ensure_target() -> Result<()> {
    if is_installed()? {
        return Ok(());
    }
    let mut rustup = Command::new("rustup");
    rustup.current_dir(command::root());
    command::run(rustup.args(["target", "add", TARGET])).with_context(|| {
        format!(
            "plugins need the Rust target {TARGET}; install rustup, or your distribution's \
             standard library for that target"
        )
    })
}

/// Whether the standard library of the target lies in the compiler's folder.
fn is_installed() -> Result<bool> {
    let mut rustc = Command::new("rustc");
    rustc.current_dir(command::root());
    let folder = command::output(rustc.args(["--print", "target-libdir", "--target", TARGET]))
        .context("no Rust compiler; rust-toolchain.toml names the version to install")?;
    Ok(std::path::Path::new(folder.trim()).is_dir())
}
