//! `cargo xtask bench NAME`: builds optimised, measures, leaves the figures as the last lines.
//!
//! The measuring code is an example of the server's package, so that it reaches the same parts as the server
//! and is compiled only when asked for.

use anyhow::{Result, bail};

use crate::command::{cargo, run as run_command, run_long};
use crate::{plugins, report};

/// What can be measured.
const NAMES: [&str; 2] = ["ingest", "plugin-call"];

/// Runs one benchmark; arguments after the name go to it.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let Some((name, rest)) = arguments.split_first() else {
        bail!("which benchmark? There are: {}", NAMES.join(", "));
    };
    if !NAMES.contains(&name.as_str()) {
        bail!(
            "there is no benchmark `{name}`; there are: {}",
            NAMES.join(", ")
        );
    }
    plugins::build()?;
    report::line("==> building optimised (the first time takes some ten minutes)");
    let example = format!("bench_{}", name.replace('-', "_"));
    let build = ["--release", "--package=shoal-server", "--example"];
    run_long(cargo().arg("build").args(build).arg(&example))?;
    let mut measure = cargo();
    measure.args(["run", "--quiet"]).args(build).arg(&example);
    run_command(measure.arg("--").args(rest))
}
