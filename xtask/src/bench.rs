//! `cargo xtask bench NAME`: builds optimised, measures, leaves the figures as the last lines.
//!
//! The measuring code is an example of the package that it measures, so that it reaches the same parts as the server
//! and is compiled only when asked for.

use anyhow::{Context as _, Result};

use crate::command::{cargo, run as run_command, run_long};
use crate::{plugins, report};

/// One thing that can be measured.
struct Bench {
    name: &'static str,
    package: &'static str,
    /// Where its package is built, when it is not where everything is.
    target: Option<&'static str>,
    /// Whether it calls plugins.
    plugins: bool,
}

/// Everything that can be measured. The store is built apart: alone it takes a minute, and building it alone beside
/// the server would make cargo build the server's dependencies anew each time.
const BENCHES: [Bench; 3] = [
    Bench {
        name: "ingest",
        package: "shoal-server",
        target: None,
        plugins: true,
    },
    Bench {
        name: "plugin-call",
        package: "shoal-server",
        target: None,
        plugins: true,
    },
    Bench {
        name: "store",
        package: "shoal-store",
        target: Some("target/store"),
        plugins: false,
    },
];

/// Runs one benchmark; arguments after the name go to it.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let names = BENCHES.map(|bench| bench.name).join(", ");
    let (name, rest) = arguments
        .split_first()
        .with_context(|| format!("which benchmark? There are: {names}"))?;
    let bench = BENCHES
        .iter()
        .find(|bench| bench.name == name)
        .with_context(|| format!("there is no benchmark `{name}`; there are: {names}"))?;
    if bench.plugins {
        plugins::build()?;
    }
    report::line("==> building optimised (the first time takes minutes)");
    let example = format!("bench_{}", name.replace('-', "_"));
    let mut build = vec!["--release", "--package", bench.package];
    build.extend(["--example", &example]);
    if let Some(target) = bench.target {
        build.extend(["--target-dir", target]);
    }
    run_long(cargo().arg("build").args(&build))?;
    let mut measure = cargo();
    measure.args(["run", "--quiet"]).args(build);
    run_command(measure.arg("--").args(rest))
}
