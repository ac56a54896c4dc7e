//! Building the first-party plugins and the tests' hostile guests, both plain `cargo build` for one target.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::command::{cargo, root, run_long};
use crate::report;
use crate::toolchain::{self, TARGET};

/// The workspaces whose members are components.
pub(crate) const WORKSPACES: [&str; 2] = ["plugins", "tests/guests"];

/// Those that are there: the guests come after the first plugins.
fn workspaces() -> impl Iterator<Item = &'static str> {
    let is_there = |workspace: &&str| root().join(workspace).join("Cargo.toml").exists();
    WORKSPACES.into_iter().filter(is_there)
}

/// Builds every component, optimised: what tests and the demo load is what ships.
pub(crate) fn build() -> Result<()> {
    toolchain::ensure_target()?;
    fetch(WORKSPACES[0])?;
    for workspace in workspaces() {
        build_workspace(workspace)?;
    }
    for file in components()? {
        let bytes = std::fs::metadata(&file)?.len();
        let shown = file.strip_prefix(root()).unwrap_or(&file);
        report::line(format_args!(
            "    {:>7} KiB  {}",
            bytes / 1024,
            shown.display()
        ));
    }
    Ok(())
}

/// Builds the plugins without the tests' guests.
pub(crate) fn build_first_party() -> Result<()> {
    toolchain::ensure_target()?;
    build_workspace(WORKSPACES[0])
}

/// Brings what native tests of plugins need as well, which a build for wasm leaves out: the pages for authors are tried
/// without a network.
fn fetch(workspace: &str) -> Result<()> {
    let mut cargo = cargo();
    cargo.current_dir(root().join(workspace));
    run_long(cargo.args(["fetch", "--quiet", "--locked"]))
        .with_context(|| format!("could not fetch the libraries of {workspace}"))
}

fn build_workspace(workspace: &str) -> Result<()> {
    let mut cargo = cargo();
    cargo.current_dir(root().join(workspace));
    run_long(cargo.args(["build", "--release", "--target", TARGET]))
        .with_context(|| format!("could not build the components of {workspace}"))
}

/// Where the build leaves a first-party plugin's component.
pub(crate) fn first_party_component(plugin: &str) -> PathBuf {
    let file = format!("{}.wasm", plugin.replace('-', "_"));
    folder_of(WORKSPACES[0]).join(file)
}

fn folder_of(workspace: &str) -> PathBuf {
    root()
        .join(workspace)
        .join("target")
        .join(TARGET)
        .join("release")
}

/// The built components, sorted.
pub(crate) fn components() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for workspace in workspaces() {
        let folder = folder_of(workspace);
        let entries = std::fs::read_dir(&folder)
            .with_context(|| format!("no components in {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "wasm") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
