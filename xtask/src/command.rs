//! Running other programs: what they print passes through, how they end becomes a `Result`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{interrupt, report};

/// How often a running program is looked at; also how late Ctrl-C may be noticed.
const POLL: Duration = Duration::from_millis(50);

/// How often a person is told that a long program still runs.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// The top folder of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the repository")
        .to_owned()
}

/// Cargo as the one that runs us, in the repository's top folder.
///
/// What cargo told this program of its own package is taken away: build scripts (ring's) look at these variables, and
/// would make a build by us and one by hand undo each other.
pub(crate) fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs to the end; an error when it could not start, failed, or somebody pressed Ctrl-C.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    run_telling(command, |_| {})
}

/// Like [`run`], for what may take minutes: says every now and then how long it has taken.
pub(crate) fn run_long(command: &mut Command) -> Result<()> {
    let mut next = TELL_EVERY;
    run_telling(command, |elapsed| {
        if elapsed >= next {
            report::line(format_args!("    … {} s", elapsed.as_secs()));
            next += TELL_EVERY;
        }
    })
}

fn run_telling(command: &mut Command, tell: impl FnMut(Duration)) -> Result<()> {
    let shown = show(command);
    let mut child = command
        .spawn()
        .with_context(|| format!("could not start `{shown}`"))?;
    let status = wait(&mut child, tell).with_context(|| format!("`{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// Runs to the end and returns what it printed; its errors are part of ours.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command
        .output()
        .with_context(|| format!("could not start `{shown}`"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let also = String::from_utf8_lossy(&output.stdout);
        bail!("`{shown}` ended with {}: {said}{also}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` printed no UTF-8"))
}

/// Whether a program can be started at all.
pub(crate) fn exists(program: &str, version_argument: &str) -> bool {
    let found = Command::new(program).arg(version_argument).output();
    !matches!(found, Err(error) if error.kind() == ErrorKind::NotFound)
}

fn wait(child: &mut Child, mut tell: impl FnMut(Duration)) -> Result<ExitStatus> {
    let begun = Instant::now();
    loop {
        tell(begun.elapsed());
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if interrupt::interrupted() {
            child.kill()?;
            child.wait()?;
            bail!("interrupted");
        }
        std::thread::sleep(POLL);
    }
}

/// The command line as a person would type it.
fn show(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut words = vec![program.file_name().unwrap_or_default().to_string_lossy()];
    words.extend(command.get_args().map(|word| word.to_string_lossy()));
    words.join(" ")
}
