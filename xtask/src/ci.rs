//! `cargo xtask ci`: what must be green before a change is handed in.

use anyhow::Result;

use crate::command::{cargo, exists, root, run as run_command};
use crate::report::Summary;
use crate::toolchain::{self, TARGET};
use crate::{plugins, test};

/// Formatting, lints, tests, licences; the cheap ones first.
pub(crate) fn run() -> Result<()> {
    let mut summary = Summary::default();
    for workspace in [".", "plugins", "tests/guests"] {
        summary.step(&format!("formatting of {workspace}"), || {
            run_command(
                cargo()
                    .current_dir(root().join(workspace))
                    .args(["fmt", "--all", "--check"]),
            )
        });
    }
    summary.step("lints of the host", || {
        let words = [
            "clippy",
            "--workspace",
            "--all-targets",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ];
        run_command(cargo().args(words))
    });
    for workspace in plugins::WORKSPACES {
        summary.step(&format!("lints of {workspace}"), || {
            toolchain::ensure_target()?;
            let words = [
                "clippy",
                "--workspace",
                "--quiet",
                "--target",
                TARGET,
                "--",
                "-D",
                "warnings",
            ];
            run_command(cargo().current_dir(root().join(workspace)).args(words))
        });
    }
    test::steps(&test::Options::default(), &mut summary);
    if exists("cargo-deny", "--version") {
        summary.step("licences, advisories, bans", || {
            run_command(cargo().args(["deny", "--all-features", "check"]))
        });
    } else {
        summary.skip(
            "licences, advisories, bans",
            "cargo-deny is not installed: cargo install cargo-deny",
        );
    }
    summary.finish()
}
