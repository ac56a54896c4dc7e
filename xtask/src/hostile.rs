//! `cargo xtask hostile [DIR]`: hostile plugins, each in a process of its own, and what they cost.
//!
//! Without a folder: every case of the runtime's tests, then all of their files again with noise and damaged plugins
//! among them. With a folder: every `.wasm` and `.wat` in it. A file passes when it is refused or its calls
//! end in an outcome with a name; a process that crashes, hangs or keeps memory fails the command.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::command::{cargo, output, root, run_long};
use crate::{interrupt, plugins, report};

/// Longest life of a process: the runtime's own bounds end everything in a fraction of it.
const HANGS_AFTER: Duration = Duration::from_secs(150);
/// How often a process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Damaged plugins among the files.
const DAMAGED: &str = "200";
/// Longest text of a row.
const TEXT_MAX_CHARACTERS: usize = 110;

/// Runs cases or files; an error when any of them harmed the host.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (folder, is_optimised) = options(arguments)?;
    if folder.is_none() {
        plugins::build()?;
    }
    let program = build(is_optimised)?;
    let Some(folder) = folder else {
        let names = said(&program, &["list"])?;
        let names = names.as_array().context("`hostile list` names no cases")?;
        let cases: Vec<Work> = names.iter().filter_map(Work::case).collect();
        // One at a time: their figures are those of a machine that does nothing else.
        let harmed = all(&program, &cases, 1);
        let folder = root().join("target").join("hostile-files");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)?;
        said(&program, &["fill", &folder.display().to_string(), DAMAGED])?;
        report::line("");
        return verdict(harmed + files(&program, &folder)?);
    };
    verdict(files(&program, &folder)?)
}

fn options(arguments: &[String]) -> Result<(Option<PathBuf>, bool)> {
    let (mut folder, mut is_optimised) = (None, false);
    for argument in arguments {
        match argument.as_str() {
            "--release" => is_optimised = true,
            option if option.starts_with('-') => {
                bail!("`cargo xtask hostile` has no option `{option}`; it has --release")
            }
            // Relative to where the command was typed.
            path => folder = Some(std::path::absolute(path)?),
        }
    }
    Ok((folder, is_optimised))
}

/// The program that runs one case or file.
fn build(is_optimised: bool) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--quiet", "--workspace", "--example=hostile"]);
    if is_optimised {
        build.arg("--release");
    }
    run_long(&mut build)?;
    let profile = if is_optimised { "release" } else { "debug" };
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(target.join(profile).join("examples").join("hostile"))
}

fn said(program: &Path, arguments: &[&str]) -> Result<Value> {
    let text = output(Command::new(program).args(arguments))?;
    serde_json::from_str(&text)
        .with_context(|| format!("`hostile {}` says no JSON", arguments.join(" ")))
}

fn verdict(harmed: usize) -> Result<()> {
    match harmed {
        0 => Ok(()),
        1 => bail!("one of them is not as it should be"),
        several => bail!("{several} of them are not as they should be"),
    }
}

/// Every component of a folder.
fn files(program: &Path, folder: &Path) -> Result<usize> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|end| end == "wasm" || end == "wat")
        {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        bail!("there is no .wasm and no .wat in {}", folder.display());
    }
    let work: Vec<Work> = paths.into_iter().map(Work::file).collect();
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(all(program, &work, at_once))
}

/// One process.
struct Work {
    name: String,
    arguments: Vec<String>,
}

impl Work {
    fn case(name: &Value) -> Option<Work> {
        let name = name.as_str()?.to_owned();
        let arguments = vec!["case".to_owned(), name.clone()];
        Some(Work { name, arguments })
    }

    fn file(path: PathBuf) -> Work {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Work {
            name: name.into_owned(),
            arguments: vec!["file".to_owned(), path.display().to_string()],
        }
    }

    /// What it printed, or how it ended instead.
    fn done(&self, program: &Path) -> Result<Value> {
        let mut child = Command::new(program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("could not start {}", program.display()))?;
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if begun.elapsed() > HANGS_AFTER || interrupt::interrupted() {
                child.kill()?;
                child.wait()?;
                bail!("HUNG: no end after {} s", begun.elapsed().as_secs());
            }
            std::thread::sleep(LOOK_EVERY);
        };
        let (line, said) = printed(&mut child);
        if !status.success() {
            let last = said.lines().rev().find(|line| !line.trim().is_empty());
            bail!("CRASHED: {status}: {}", last.unwrap_or_default());
        }
        serde_json::from_str(&line).with_context(|| format!("CRASHED: it printed {line:?}"))
    }
}

/// What an ended process left in its pipes; each is one line, which a pipe holds.
fn printed(child: &mut Child) -> (String, String) {
    let (mut line, mut said) = (String::new(), String::new());
    if let Some(stdout) = &mut child.stdout {
        let _ = stdout.read_to_string(&mut line);
    }
    if let Some(stderr) = &mut child.stderr {
        let _ = stderr.read_to_string(&mut said);
    }
    (line, said)
}

/// Runs all of it and prints a row for each; returns how many are not as they should be.
fn all(program: &Path, work: &[Work], at_once: usize) -> usize {
    report::line(format_args!(
        "{:<44} {:<15} {:>8} {:>8} {:>8} {:>9}  what stops it; what people are told",
        "case", "outcome", "time", "CPU", "memory", "p99"
    ));
    let (next, harmed, printing) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(()));
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(work) = work.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let done = work.done(program);
                    let (row, is_well) = row(&work.name, &done);
                    harmed.fetch_add(usize::from(!is_well), Ordering::SeqCst);
                    let _turn = printing.lock();
                    report::line(row);
                    if interrupt::interrupted() {
                        return;
                    }
                }
            });
        }
    });
    let harmed = harmed.into_inner();
    report::line(format_args!(
        "{} run, {harmed} not as they should be (p99: calls of a neighbour meanwhile)",
        work.len()
    ));
    harmed
}

/// A row, and whether it is as it should be.
fn row(name: &str, done: &Result<Value>) -> (String, bool) {
    let value = match done {
        Ok(value) => value,
        Err(error) => return (format!("{name:<44} {error:#}"), false),
    };
    let number = |field: &str| value[field].as_f64().unwrap_or_default();
    let text = |field: &str| value[field].as_str().unwrap_or_default();
    let problem = text("problem");
    let by = match text("stopped_by") {
        "" => String::new(),
        by => format!("[{by}] "),
    };
    // Text of a guest may hold anything; a terminal gets what can be seen.
    let told: String = format!("{by}{}", text("text")).escape_debug().collect();
    let told: String = told.chars().take(TEXT_MAX_CHARACTERS).collect();
    let row = format!(
        "{name:<44} {:<15} {:>5.0} ms {:>5.0} ms {:>4.0} MiB {:>6.1} ms  {told}",
        text("outcome"),
        number("wall_ms"),
        number("cpu_ms"),
        number("peak_mib"),
        number("neighbour_p99_ms"),
    );
    if problem.is_empty() {
        return (row, true);
    }
    (
        format!("{row}\n    NOT WELL: {}", problem.escape_debug()),
        false,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_folder_and_an_option_are_told_apart() {
        let (folder, is_optimised) = options(&words("--release /tmp/x")).expect("both are known");
        assert_eq!(
            (folder, is_optimised),
            (Some(PathBuf::from("/tmp/x")), true)
        );
        assert!(options(&words("--fast")).is_err());
    }

    #[test]
    fn what_harms_the_host_is_shown_and_counted() {
        let crashed = Err(anyhow::anyhow!("CRASHED: signal: 11"));
        assert!(!row("x.wasm", &crashed).1);
        let kept = serde_json::json!({ "outcome": "done", "problem": "it kept 90 MiB" });
        let (text, is_well) = row("x.wasm", &Ok(kept));
        assert!(
            text.contains("NOT WELL: it kept 90 MiB") && !is_well,
            "{text}"
        );
        let well =
            serde_json::json!({ "outcome": "refused", "text": "\u{1b}[2J", "problem": null });
        let (text, is_well) = row("x.wasm", &Ok(well));
        assert!(is_well && !text.contains('\u{1b}'), "{text}");
    }
}
