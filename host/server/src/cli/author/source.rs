//! Where a component comes from: a file, or a folder whose sources are built.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tokio::process::Command;

const TARGET: &str = "wasm32-wasip2";

/// The bytes of a file, or of what a folder's sources build to.
pub(super) async fn component(plugin: &Path) -> Result<Vec<u8>> {
    if plugin.is_dir() {
        read(&build(plugin).await?)
    } else {
        read(plugin)
    }
}

/// Builds a folder with cargo and returns the component's file.
pub(super) async fn build(folder: &Path) -> Result<PathBuf> {
    let manifest = folder.join("Cargo.toml");
    ensure!(
        manifest.is_file(),
        "{} has no Cargo.toml: build the component with your language's tools and give its file",
        folder.display()
    );
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--release", "--target", TARGET])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true);
    let done = cargo.output().await.context(
        "cannot start cargo: install Rust, and its target with: rustup target add wasm32-wasip2",
    )?;
    ensure!(
        done.status.success(),
        "{} does not build; cargo said why",
        folder.display()
    );
    let manifest = manifest.canonicalize()?;
    let lines = String::from_utf8_lossy(&done.stdout);
    let messages = lines.lines().filter_map(|l| serde_json::from_str(l).ok());
    match messages
        .filter_map(|message| component_of(&message, &manifest))
        .next_back()
    {
        Some(file) => Ok(file),
        None => bail!(
            "{} builds no component: set crate-type = [\"cdylib\"] in Cargo.toml",
            folder.display()
        ),
    }
}

/// The component that a message of cargo tells of.
fn component_of(message: &Value, manifest: &Path) -> Option<PathBuf> {
    let is_ours = message["reason"] == "compiler-artifact"
        && Path::new(message["manifest_path"].as_str()?) == manifest;
    let files = message["filenames"].as_array().filter(|_| is_ours)?;
    let file = files.iter().filter_map(Value::as_str);
    file.map(PathBuf::from)
        .find(|file| file.extension().is_some_and(|end| end == "wasm"))
}

pub(super) fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Writes a file as a whole or not at all.
pub(super) fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, bytes)
        .and_then(|()| std::fs::rename(&beside, file))
        .with_context(|| format!("cannot write {}", file.display()))
}
