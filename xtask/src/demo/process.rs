//! The programs that the demo starts: the server, the agent, and single commands of `shoal`.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{command, interrupt, report};

/// How often something is looked at until it is so.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How often a person is told that we still wait.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How long a program may take to end before it is killed.
const END_MAX: Duration = Duration::from_secs(20);

/// Where the demo keeps everything.
pub(super) struct Folder {
    pub(super) data: PathBuf,
    pub(super) log: PathBuf,
    pub(super) agent_log: PathBuf,
}

impl Folder {
    /// An empty folder below `target`; what an earlier demo left is removed.
    ///
    /// # Errors
    /// Another demo is running.
    pub(super) fn make() -> Result<Folder> {
        let top = command::root().join("target").join("demo");
        let data = top.join("data");
        if let Ok(lock) = File::open(data.join("lock"))
            && lock.try_lock().is_err()
        {
            bail!("another demo is running; end it with Ctrl-C first");
        }
        if top.exists() {
            std::fs::remove_dir_all(&top)
                .with_context(|| format!("cannot empty {}", top.display()))?;
        }
        std::fs::create_dir_all(&top).with_context(|| format!("cannot make {}", top.display()))?;
        Ok(Folder {
            data,
            log: top.join("server.log"),
            agent_log: top.join("agent.log"),
        })
    }
}

/// A program that runs beside us and ends with us.
pub(super) struct Running {
    name: &'static str,
    log: PathBuf,
    child: Child,
}

impl Running {
    /// Starts a program whose output goes to a file. Its input stays open until it is to end.
    pub(super) fn start(name: &'static str, command: &mut Command, log: &Path) -> Result<Running> {
        let file = OpenOptions::new().create(true).append(true).open(log);
        let file = file.with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("could not start {name}"))?;
        Ok(Running {
            name,
            log: log.to_owned(),
            child,
        })
    }

    /// An error when it has ended.
    pub(super) fn expect_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!(
                "{} ended with {status}; the end of {}:\n{}",
                self.name,
                self.log.display(),
                tail(&self.log)
            ),
        }
    }
}

impl Drop for Running {
    /// Asks it to end, waits, and kills it when it does not.
    fn drop(&mut self) {
        // The agent ends with its input, the server when it is told.
        drop(self.child.stdin.take());
        if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return;
        }
        let kill = format!("kill -TERM {}", self.child.id());
        // Errors mean that it has ended in between; the loop below finds out.
        let _ = Command::new("sh").args(["-c", &kill]).status();
        let begun = Instant::now();
        while begun.elapsed() < END_MAX {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        report::line(format_args!("{} does not end and is killed", self.name));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines of a file.
fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Looks until `look` finds something, and returns it; tells how long it has been.
///
/// # Errors
/// What `look` fails with, Ctrl-C, or `patience` is over.
pub(super) fn wait_for<T>(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let begun = Instant::now();
    let mut told = TELL_EVERY;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        let waited = begun.elapsed();
        if interrupt::interrupted() {
            bail!("interrupted");
        }
        if waited > patience {
            bail!("in {} s there was no {what}", waited.as_secs());
        }
        if waited > told {
            report::line(format_args!(
                "    … {} s: still waiting for {what}",
                waited.as_secs()
            ));
            told += TELL_EVERY;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The command line `shoal` against the demo's server.
pub(super) struct Shoal {
    pub(super) binary: PathBuf,
    pub(super) data: PathBuf,
    /// `http://127.0.0.1:PORT`
    pub(super) server: String,
}

impl Shoal {
    /// Runs one command, shows it as a person would type it, and returns its JSON.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<Value> {
        report::line(format_args!("    $ shoal {}", shown(arguments)));
        let mut shoal = Command::new(&self.binary);
        shoal
            .args(arguments)
            .args(["--json", "--server", &self.server]);
        shoal.arg("--data-folder").arg(&self.data);
        // The developer's own server and key are another matter.
        for name in ["SHOAL_SERVER", "SHOAL_KEY", "SHOAL_DATA"] {
            shoal.env_remove(name);
        }
        let text = command::output(&mut shoal)?;
        serde_json::from_str(&text).with_context(|| format!("`shoal` printed no JSON: {text}"))
    }
}

/// Arguments without the folders that make them long.
fn shown(arguments: &[&str]) -> String {
    let root = format!("{}/", command::root().display());
    arguments.join(" ").replace(&root, "")
}
