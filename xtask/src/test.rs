//! `cargo xtask test`: prepares what tests need, runs all of them, prints one line a step.
//!
//! A preparation that fails ends the run, because what follows would only repeat its message; tests
//! that fail do not keep other tests from running.

use std::process::Command;

use anyhow::{Result, bail};

use crate::command::{cargo, exists, root, run as run_command};
use crate::report::{self, Summary};
use crate::{other_languages, plugins, postgres, python, toolchain};

/// Parts of the tests that can be asked for by name.
const PARTS: [&str; 9] = [
    "model", "promql", "store", "runtime", "server", "road", "xtask", "plugins", "doc",
];

/// Tests at a time for each processor: those of the road wait for their server more than they work.
const TESTS_PER_PROCESSOR: usize = 2;

/// What to run.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Options {
    /// Which parts; empty means all.
    only: Vec<String>,
    /// For the test runner, as they are.
    passed_on: Vec<String>,
}

impl Options {
    /// Reads the command line.
    ///
    /// # Errors
    /// When an option or a part is unknown; names it and what exists.
    pub(crate) fn parse(arguments: &[String]) -> Result<Options> {
        let mut options = Options::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--only" => match rest.next() {
                    Some(parts) => options.only.extend(parts.split(',').map(str::to_owned)),
                    None => bail!("--only wants parts such as `store,road`"),
                },
                "--" => options.passed_on.extend(rest.by_ref().cloned()),
                other => bail!(
                    "`cargo xtask test` has no option `{other}`; put `--` before options of the runner"
                ),
            }
        }
        match options
            .only
            .iter()
            .find(|part| !PARTS.contains(&part.as_str()))
        {
            Some(unknown) => bail!(
                "--only {unknown}: there is no such part; parts are {}",
                PARTS.join(", ")
            ),
            None => Ok(options),
        }
    }

    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == part)
    }

    fn wants_any(&self, parts: &[&str]) -> bool {
        parts.iter().any(|part| self.wants(part))
    }
}

/// Runs the tests; an error when any failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut summary = Summary::default();
    steps(options, &mut summary);
    summary.finish()
}

/// The steps, for commands that have more of their own.
pub(crate) fn steps(options: &Options, summary: &mut Summary) {
    let Some(prepared) = prepare(options, summary) else {
        return;
    };
    if options.wants_any(&PARTS[..7]) {
        summary.step("host tests", || {
            run_command(&mut host_tests(options, &prepared))
        });
    }
    if options.wants("plugins") {
        summary.step("plugin tests (native)", || {
            let mut cargo = cargo();
            run_command(
                cargo
                    .current_dir(root().join("plugins"))
                    .args(["test", "--quiet"]),
            )
        });
    }
    if options.wants("plugins") {
        summary.step("plugin tests (Python, JavaScript)", other_languages::test);
    }
    if options.wants("doc") {
        summary.step("doc tests", || {
            run_command(cargo().args(["test", "--quiet", "--workspace", "--doc"]))
        });
    }
}

/// What the tests find in their environment; PostgreSQL lives as long as this does.
struct Prepared {
    environment: Vec<(&'static str, String)>,
    _postgres: Option<postgres::Postgres>,
}

/// `None` when something could not be prepared.
fn prepare(options: &Options, summary: &mut Summary) -> Option<Prepared> {
    let mut environment = Vec::new();
    if options.wants_any(&["runtime", "server", "road", "plugins"]) {
        summary.step("Rust target of plugins", toolchain::ensure_target)?;
        summary.step("plugins and guests", plugins::build)?;
    }
    if options.wants("road") {
        // Where it fails, one test of the road fails with it, and the others run.
        summary.step("plugins in Python and JavaScript", other_languages::build);
        let python = summary.step("Python with the OTLP exporters", python::prepare)?;
        environment.push((python::VARIABLE, python.display().to_string()));
    }
    let mut postgres = None;
    if options.wants_any(&["server", "road"]) && std::env::var_os(postgres::VARIABLE).is_none() {
        let server = summary.step("private PostgreSQL", postgres::Postgres::start)?;
        environment.push((postgres::VARIABLE, server.url.clone()));
        postgres = Some(server);
    }
    Some(Prepared {
        environment,
        _postgres: postgres,
    })
}

/// One run over all wanted packages, by nextest where it is installed: it runs tests of several binaries at once.
fn host_tests(options: &Options, prepared: &Prepared) -> Command {
    let mut command = cargo();
    let nextest = exists("cargo-nextest", "--version");
    if nextest {
        command.args(["nextest", "run", "--no-fail-fast", "--no-tests=fail"]);
        // As a variable, so that `-- --test-threads N` still has its way.
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let at_once = processors * TESTS_PER_PROCESSOR;
        command.env("NEXTEST_TEST_THREADS", at_once.to_string());
    } else {
        report::line("    (cargo-nextest is not installed; cargo test takes longer)");
        command.args([
            "test",
            "--no-fail-fast",
            "--lib",
            "--bins",
            "--tests",
            "--examples",
        ]);
    }
    command.args(packages(options));
    if !options.passed_on.is_empty() {
        if !nextest {
            command.arg("--");
        }
        command.args(&options.passed_on);
    }
    for (name, value) in &prepared.environment {
        command.env(name, value);
    }
    command
}

/// Cargo's words for the wanted parts.
fn packages(options: &Options) -> Vec<String> {
    if options.only.is_empty() {
        return vec!["--workspace".to_owned()];
    }
    let mut words = Vec::new();
    for part in PARTS[..7].iter().filter(|part| options.wants(part)) {
        let package = match *part {
            "xtask" => "xtask".to_owned(),
            "road" => "shoal-server".to_owned(),
            part => format!("shoal-{part}"),
        };
        words.push(format!("--package={package}"));
    }
    // The road is a test of the server's package: alone it is named, without it it is left out.
    match (options.wants("server"), options.wants("road")) {
        (true, false) => words.extend(["--lib".to_owned(), "--bins".to_owned()]),
        (false, true) => words.push("--test=road".to_owned()),
        _ => {}
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&words)
    }

    #[track_caller]
    fn check_packages(line: &str, expected: &str) {
        let options = parse(line).expect("the line is right");
        assert_eq!(packages(&options).join(" "), expected);
    }

    #[test]
    fn parts_become_packages() {
        check_packages("", "--workspace");
        check_packages(
            "--only model,store",
            "--package=shoal-model --package=shoal-store",
        );
        check_packages("--only road", "--package=shoal-server --test=road");
        check_packages("--only server", "--package=shoal-server --lib --bins");
        check_packages("--only plugins", "");
    }

    #[test]
    fn what_follows_two_dashes_goes_to_the_runner() {
        let options = parse("--only road -- kill --nocapture").expect("the line is right");
        assert_eq!(options.passed_on, ["kill", "--nocapture"]);
    }

    #[test]
    fn an_unknown_part_is_refused_by_name() {
        let error = parse("--only stores").expect_err("there is no such part");
        assert!(error.to_string().contains("stores"), "{error}");
    }
}
