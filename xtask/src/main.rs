//! Everything a developer runs: `cargo xtask test`, `demo`, `bench`, `hostile`, `ci`, `plugins`, `docs`, `postgres`.
//!
//! One module a command, in the order in which they build on each other: [`report`] prints, [`command`]
//! runs other programs, [`toolchain`], [`plugins`], [`postgres`] and [`python`] prepare, and the rest is what
//! people type. Dependencies are few so that the first line of output comes seconds after the first `cargo xtask`.

#![expect(
    clippy::disallowed_methods,
    reason = "a developer's tool: it measures, waits and reads its environment where it needs to"
)]

mod bench;
mod ci;
mod command;
mod demo;
mod docs;
mod hostile;
mod interrupt;
mod other_languages;
mod plugins;
mod postgres;
mod python;
mod report;
mod test;
#[cfg(test)]
mod tidy;
mod toolchain;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
Everything a developer runs.

Usage: cargo xtask <COMMAND>

Commands:
  demo [--check] [--release]     Build and run Shoal on this machine, watching this machine; Ctrl-C ends it.
                                 --check ends it after the last step and says of each whether it worked.
  test [--only PARTS] [-- ARGS]  Run all tests, on SQLite and on a private PostgreSQL.
                                 PARTS: any of model, promql, store, runtime, server, road, xtask,
                                 plugins, doc, separated by commas. ARGS go to the test runner.
  ci                             Formatting, lints, all tests, licences and advisories.
  bench NAME                     Measure; NAME: ingest, plugin-call or store. Figures are the last lines, as JSON.
                                 store takes --series N (active series; 1000000) and --capture (scrape anew).
  hostile [DIR] [--release]      Run every hostile case, or every .wasm and .wat of a folder, each in a process of its
                                 own; fails when one crashes, hangs or keeps memory.
  plugins [--all]                Build the plugins and the tests' guests; --all: those in Python and JavaScript as well.
  docs                           Write the pages that follow from the code: the contract, the limits.
  postgres                       Start a private PostgreSQL, print its address, stop it on Ctrl-C.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::failure(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    interrupt::listen()?;
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", arguments),
    };
    match command {
        "demo" => demo::run(rest),
        "test" => test::run(&test::Options::parse(rest)?),
        "ci" => no_more(rest).and_then(|()| ci::run()),
        "bench" => bench::run(rest),
        "hostile" => hostile::run(rest),
        "plugins" => match rest {
            [all] if all == "--all" => plugins::build().and_then(|()| other_languages::build()),
            rest => no_more(rest).and_then(|()| plugins::build()),
        },
        "docs" => no_more(rest).and_then(|()| docs::write()),
        "postgres" => no_more(rest).and_then(|()| postgres::serve()),
        "help" | "--help" | "-h" => {
            report::line(USAGE);
            Ok(())
        }
        other => bail!("there is no command `{other}`; `cargo xtask help` lists them"),
    }
}

/// Refuses what a command without options does not understand.
fn no_more(rest: &[String]) -> Result<()> {
    match rest.first() {
        None => Ok(()),
        Some(extra) => bail!("`{extra}` was not expected; `cargo xtask help` shows what is"),
    }
}
