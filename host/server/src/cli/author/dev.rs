//! `shoal plugin dev`: what is on the author's disk runs for one tenant of a server, seconds after it was saved.
//!
//! Each build that passes its golden tests becomes a version that only this tenant's installation is pinned to. At the
//! end, the installation is as it was.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};
use shoal_runtime::{Inspection, Plugin, Runtime, RuntimeOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

use super::{SettingsArguments, runtime, source};
use crate::cli::Server;
use crate::cli::client::{Client, segment};
use crate::cli::output::{Output, text};

/// How often sources and failures are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Folders that hold no sources.
const NOT_SOURCES: [&str; 3] = ["target", ".git", "node_modules"];
/// Files that are watched; a plugin has some dozens.
const FILES_MAX: usize = 10_000;

#[derive(Args)]
pub(in crate::cli) struct DevCommand {
    /// The folder of the plugin's sources.
    folder: PathBuf,
    /// For whom it runs.
    #[arg(long)]
    tenant: String,
    /// The installation's name [default: the plugin's id]. One that is not there is made, and deleted at the end.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    settings: SettingsArguments,
    /// End after the first build runs, and leave it running.
    #[arg(long)]
    once: bool,
}

pub(super) async fn run(server: &Server, command: DevCommand, output: Output) -> Result<()> {
    ensure!(
        command.folder.is_dir(),
        "{} is no folder",
        command.folder.display()
    );
    let mut session = Session {
        client: Client::new(server)?,
        runtime: runtime(RuntimeOptions::default())?,
        command,
        output,
        before: None,
        told: 0,
    };
    if session.command.once {
        let built = session.build().await?;
        return session.swap(built).await;
    }
    let mut end = End::new().context("cannot wait for Ctrl-C")?;
    let watched = session.watch(&mut end).await;
    let restored = session.restore().await;
    watched.and(restored)
}

/// Ctrl-C, or SIGTERM.
struct End {
    interrupt: Signal,
    terminate: Signal,
}

impl End {
    fn new() -> std::io::Result<End> {
        Ok(End {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Until the command is to end; may be dropped and asked again.
    async fn wanted(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// A plugin that was built and keeps its promises, and its bytes.
type Built = (Arc<Plugin>, Vec<u8>);

/// What the tenant had before.
enum Before {
    /// This installation, pinned to a digest or not.
    Was { id: String, pin: Value },
    /// Nothing: this one was made here.
    Nothing { id: String },
}

impl Before {
    fn id(&self) -> &str {
        match self {
            Before::Was { id, .. } | Before::Nothing { id } => id,
        }
    }
}

struct Session {
    client: Client,
    runtime: Runtime,
    command: DevCommand,
    output: Output,
    before: Option<Before>,
    /// Time of the latest failure that was shown, in milliseconds since the Unix epoch.
    told: i64,
}

impl Session {
    /// Builds and swaps whenever something changed, until it is to end; shows failures as they come.
    ///
    /// A build is broken off, a swap is not: what was asked of the server may happen all the same, and has to be known to be
    /// undone.
    async fn watch(&mut self, end: &mut End) -> Result<()> {
        let mut seen = None;
        loop {
            let now = latest_change(&self.command.folder)?;
            if seen != Some(now) {
                seen = Some(now);
                let built = tokio::select! {
                    built = self.build() => built,
                    () = end.wanted() => return Ok(()),
                };
                let swapped = match built {
                    Ok(built) => self.swap(built).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = swapped {
                    self.say("failed", &format!("{error:#}"));
                }
            }
            self.show_failures().await;
            tokio::select! {
                () = sleep(LOOK_EVERY) => {}
                () = end.wanted() => return Ok(()),
            }
        }
    }

    /// Builds and tries the golden tests.
    async fn build(&self) -> Result<Built> {
        let file = source::build(&self.command.folder).await?;
        let bytes = source::read(&file)?;
        let plugin = self.runtime.load(bytes.clone()).await?;
        for result in plugin.run_golden_tests().await {
            if let Err(problem) = result.outcome {
                bail!("golden test {:?}: {problem}", result.name);
            }
        }
        Ok((plugin, bytes))
    }

    /// Uploads, approves and pins.
    async fn swap(&mut self, (plugin, bytes): Built) -> Result<()> {
        let inspection = plugin.inspection();
        let digest = inspection.digest.to_string();
        let id = segment(inspection.manifest.id.as_str());
        self.client.upload("/api/v1/plugins", bytes).await?;
        let path = format!("/api/v1/plugins/{id}/versions/{}/approve", segment(&digest));
        let approval = json!({ "publish": false });
        self.client.post(&path, &approval).await?;
        self.pin(inspection, &digest).await?;
        self.say("running", &digest);
        Ok(())
    }

    /// Pins the tenant's installation to a digest; makes it the first time if there is none.
    async fn pin(&mut self, inspection: &Inspection, digest: &str) -> Result<()> {
        if self.before.is_none() {
            self.before = self.found(inspection).await?;
        }
        if let Some(before) = &self.before {
            let path = self.installation(before.id());
            let pinned = self
                .client
                .patch(&path, &json!({ "digest": digest }))
                .await?;
            return no_error(&pinned);
        }
        let manifest = &inspection.manifest;
        let settings = self.command.settings.read(manifest)?;
        let body = json!({
            "plugin": manifest.id.to_string(),
            "name": self.name(inspection),
            "settings": settings,
            "digest": digest,
        });
        let tenant = segment(&self.command.tenant);
        let path = format!("/api/v1/installations?tenant={tenant}");
        let made = self.client.post(&path, &body).await?;
        let id = text(&made["id"]);
        self.before = Some(Before::Nothing { id });
        no_error(&made)
    }

    /// The installation that the tenant has.
    async fn found(&self, inspection: &Inspection) -> Result<Option<Before>> {
        let tenant = segment(&self.command.tenant);
        let path = format!("/api/v1/installations?tenant={tenant}");
        let list = self.client.get(&path).await?;
        let all = list["installations"].as_array().into_iter().flatten();
        let (plugin, name) = (inspection.manifest.id.as_str(), self.name(inspection));
        let mut ours = all.filter(|i| i["plugin"] == plugin && i["name"] == *name);
        Ok(ours.next().map(|installation| Before::Was {
            id: text(&installation["id"]),
            pin: installation["pinned_digest"].clone(),
        }))
    }

    fn name(&self, inspection: &Inspection) -> String {
        let given = self.command.name.clone();
        given.unwrap_or_else(|| inspection.manifest.id.to_string())
    }

    fn installation(&self, id: &str) -> String {
        let tenant = segment(&self.command.tenant);
        format!("/api/v1/installations/{}?tenant={tenant}", segment(id))
    }

    /// Tells what went wrong in calls since the last look.
    async fn show_failures(&mut self) {
        let Some(before) = &self.before else { return };
        let tenant = segment(&self.command.tenant);
        let id = segment(before.id());
        let path = format!("/api/v1/installations/{id}/failures?tenant={tenant}");
        // A server that cannot be reached now may be there at the next look.
        let Ok(list) = self.client.get(&path).await else {
            return;
        };
        let failures = list["failures"].as_array().cloned().unwrap_or_default();
        for failure in failures.iter().rev() {
            let at_ms = failure["at_ms"].as_i64().unwrap_or(0);
            if at_ms > self.told {
                self.told = at_ms;
                self.say("call failed", &described(failure));
            }
        }
    }

    /// Leaves the installation as it was.
    async fn restore(&mut self) -> Result<()> {
        match self.before.take() {
            None => return Ok(()),
            Some(Before::Was { id, pin }) => {
                let path = self.installation(&id);
                self.client.patch(&path, &json!({ "digest": pin })).await?;
                self.say("restored", &id);
            }
            Some(Before::Nothing { id }) => {
                self.client.delete(&self.installation(&id)).await?;
                self.say("deleted", &id);
            }
        }
        Ok(())
    }

    fn say(&self, event: &str, detail: &str) {
        let shown = json!({ "event": event, "detail": detail });
        self.output.show(&shown, |_| format!("{event}: {detail}"));
    }
}

fn no_error(installation: &Value) -> Result<()> {
    match installation["error"].as_str() {
        Some(error) => bail!("{error}"),
        None => Ok(()),
    }
}

/// A failure with its log and its backtrace.
fn described(failure: &Value) -> String {
    let mut lines = vec![format!(
        "{}: {}",
        text(&failure["code"]),
        text(&failure["message"])
    )];
    for list in ["backtrace", "log"] {
        let entries = failure[list].as_array().into_iter().flatten();
        lines.extend(entries.map(|entry| match entry["message"].as_str() {
            Some(message) => format!("  {}: {message}", text(&entry["level"])),
            None => format!("  {}", text(entry)),
        }));
    }
    lines.join("\n")
}

/// The latest time at which a source was changed.
fn latest_change(folder: &Path) -> Result<SystemTime> {
    let mut latest = SystemTime::UNIX_EPOCH;
    let mut folders = vec![folder.to_owned()];
    let mut files = 0usize;
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder)
            .with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            if NOT_SOURCES.iter().any(|left_out| name == *left_out) {
                continue;
            }
            // A file that is gone again, as editors make them, does not matter.
            let Ok(known) = entry.metadata() else {
                continue;
            };
            if known.is_dir() {
                folders.push(entry.path());
            } else if let Ok(changed) = known.modified() {
                latest = latest.max(changed);
                files += 1;
            }
        }
        ensure!(files <= FILES_MAX, "more than {FILES_MAX} files to watch");
    }
    Ok(latest)
}
