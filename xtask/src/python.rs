//! A Python with the public OTLP exporters, in `target/venv`, for the tests that must not trust our own encoder.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{exists, output, root, run};

/// The variable in which tests find that Python.
pub(crate) const VARIABLE: &str = "SHOAL_TEST_PYTHON";

/// Pinned, so that a release of theirs does not fail a change of ours.
const PACKAGES: [&str; 3] = [
    "opentelemetry-sdk==1.45.2",
    "opentelemetry-exporter-otlp-proto-http==1.45.2",
    "opentelemetry-exporter-otlp-proto-grpc==1.45.2",
];

/// Makes the environment, or finds it made by an earlier run. Returns its interpreter.
///
/// # Errors
/// When there is no Python 3 with `venv` (the message names Debian's package) or no package index.
pub(crate) fn prepare() -> Result<PathBuf> {
    anyhow::ensure!(
        exists("python3", "--version"),
        "the exporters' tests need Python 3; install Debian's package `python3-venv`"
    );
    let folder = root().join("target").join("venv");
    let python = folder.join("bin").join("python");
    let stamp = folder.join("shoal-packages");
    let wanted = PACKAGES.join("\n");
    if python.exists() && std::fs::read_to_string(&stamp).is_ok_and(|had| had == wanted) {
        return Ok(python);
    }
    output(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&folder),
    )
    .context("could not make a Python environment; install Debian's package `python3-venv`")?;
    let mut pip = Command::new(&python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]);
    run(pip.args(PACKAGES)).context("could not install the exporters from the package index")?;
    std::fs::write(&stamp, wanted)?;
    Ok(python)
}
