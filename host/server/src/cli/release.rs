//! `shoal plugin publish`, `promote`, `abandon`, `rollback`, `withdraw`, `versions`, `history`, `diff`: what operators do with
//! versions.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, segment};
use super::output::{Output, Table, text};

#[derive(Subcommand)]
pub(super) enum ReleaseCommand {
    /// Publish a version on a track, or try it for some tenants or as a shadow.
    #[command(after_help = "Examples:\n  shoal plugin publish http-check\n  \
                      shoal plugin publish http-check --canary acme,globex\n  \
                      shoal plugin publish mackerel-plan --shadow 100")]
    Publish {
        #[command(flatten)]
        on: OnTrack,
        /// Which version [default: the one added last].
        #[arg(long)]
        digest: Option<String>,
        /// Run it for these tenants only, until it is promoted or abandoned.
        #[arg(long, value_name = "TENANT", value_delimiter = ',')]
        canary: Vec<String>,
        /// Let it see copies of calls; after this many equal answers it becomes active. Receivers and billing rules.
        #[arg(long, value_name = "COUNT", conflicts_with = "canary")]
        shadow: Option<u32>,
        /// Approve it too, if it asks for no more than the active version was approved for.
        #[arg(long)]
        inherit: bool,
        /// Leave installations that it would break on the version that they have.
        #[arg(long)]
        force: bool,
    },
    /// Make the version that is tried the active one.
    Promote {
        #[command(flatten)]
        on: OnTrack,
        /// Leave installations that it would break on the version that they have.
        #[arg(long)]
        force: bool,
    },
    /// End the trial of a version.
    Abandon {
        #[command(flatten)]
        on: OnTrack,
    },
    /// Go back to the version that was active before; settings become what they were.
    #[command(
        after_help = "Example:\n  shoal plugin rollback http-check --reason 'reports wrong times'"
    )]
    Rollback {
        #[command(flatten)]
        on: OnTrack,
        /// To which version [default: the one before].
        #[arg(long, value_name = "DIGEST")]
        to: Option<String>,
    },
    /// Withdraw a version's approval, so that it runs nowhere.
    Withdraw {
        /// The plugin's id.
        plugin: String,
        /// Which version.
        #[arg(long)]
        digest: String,
        /// Even when it is active: the track is left without a version.
        #[arg(long)]
        force: bool,
        /// Why, for the history.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// List a plugin's versions and where they are active.
    Versions {
        /// The plugin's id.
        plugin: String,
    },
    /// List a plugin's tracks: what is active, what was, what is tried.
    Tracks {
        /// The plugin's id.
        plugin: String,
    },
    /// List what was done to a plugin's tracks.
    History {
        /// The plugin's id.
        plugin: String,
    },
    /// Compare what a version asks for with what the active one was approved for.
    Diff {
        /// The plugin's id.
        plugin: String,
        /// Which version [default: the one added last].
        #[arg(long)]
        digest: Option<String>,
        /// Whose active version.
        #[arg(long, default_value = "stable")]
        track: String,
    },
}

/// A track of a plugin, and why something is done to it.
#[derive(Args)]
pub(super) struct OnTrack {
    /// The plugin's id.
    plugin: String,
    /// Which track.
    #[arg(long, default_value = "stable")]
    track: String,
    /// Why, for the history.
    #[arg(long, default_value = "")]
    reason: String,
}

impl OnTrack {
    fn path(&self, action: &str) -> String {
        let (plugin, track) = (segment(&self.plugin), segment(&self.track));
        format!("/api/v1/plugins/{plugin}/tracks/{track}/{action}")
    }
}

pub(super) async fn run(client: &Client, command: ReleaseCommand, output: Output) -> Result<()> {
    match command {
        ReleaseCommand::Publish {
            on,
            digest,
            canary,
            shadow,
            inherit,
            force,
        } => {
            let digest = chosen(client, &on.plugin, digest).await?;
            let mut body = json!({
                "digest": digest, "inherit": inherit, "force": force, "reason": on.reason,
            });
            if !canary.is_empty() {
                body["canary"] = json!(canary);
            }
            if let Some(needed) = shadow {
                body["shadow"] = needed.into();
            }
            released(client, &on.path("publish"), &body, output).await?;
        }
        ReleaseCommand::Promote { on, force } => {
            let body = json!({ "force": force, "reason": on.reason });
            released(client, &on.path("promote"), &body, output).await?;
        }
        ReleaseCommand::Abandon { on } => {
            let body = json!({ "reason": on.reason });
            released(client, &on.path("abandon"), &body, output).await?;
        }
        ReleaseCommand::Rollback { on, to } => {
            let body = json!({ "to": to, "reason": on.reason });
            released(client, &on.path("rollback"), &body, output).await?;
        }
        ReleaseCommand::Withdraw {
            plugin,
            digest,
            force,
            reason,
        } => {
            let path = version_path(&plugin, &digest, "withdraw");
            let body = json!({ "force": force, "reason": reason });
            let done = client.post(&path, &body).await?;
            output.show(&done, |done| {
                format!("withdrew {plugin} {}", text(&done["version"]))
            });
        }
        ReleaseCommand::Versions { plugin } => versions(client, &plugin, output).await?,
        ReleaseCommand::Tracks { plugin } => {
            let path = format!("/api/v1/plugins/{}/tracks", segment(&plugin));
            let list = client.get(&path).await?;
            output.show(&list, |list| {
                let tracks = list["tracks"].as_array().into_iter().flatten();
                tracks.map(track_text).collect::<Vec<_>>().join("\n")
            });
        }
        ReleaseCommand::History { plugin } => {
            let path = format!("/api/v1/plugins/{}/history", segment(&plugin));
            let list = client.get(&path).await?;
            let columns = [
                "at_ms", "track", "action", "version", "digest", "actor", "reason",
            ];
            output.show(&list, |list| {
                Table::of(&list["releases"], &columns).to_string()
            });
        }
        ReleaseCommand::Diff {
            plugin,
            digest,
            track,
        } => {
            let digest = chosen(client, &plugin, digest).await?;
            let path = version_path(&plugin, &digest, "diff");
            let path = format!("{path}?track={}", segment(&track));
            let diff = client.get(&path).await?;
            output.show(&diff, diff_text);
        }
    }
    Ok(())
}

/// What a version asks for beyond what is approved already, line by line as in a patch.
pub(super) fn diff_text(diff: &Value) -> String {
    let against = match &diff["against"] {
        Value::Null => "nothing: no version is active".to_owned(),
        active => format!("the active version {}", text(&active["version"])),
    };
    let mut lines = vec![format!(
        "{} {} against {against}",
        text(&diff["plugin"]),
        text(&diff["version"])
    )];
    for (sign, list) in [("+", "added"), ("-", "removed"), (" ", "unchanged")] {
        for one in diff[list].as_array().into_iter().flatten() {
            let reasons = diff["reasons"].as_array().into_iter().flatten();
            let reason = reasons
                .into_iter()
                .find(|reason| reason["capability"] == *one);
            let reason = reason.map_or(String::new(), |it| format!("   {}", text(&it["reason"])));
            lines.push(format!("{sign} {}{reason}", text(one)));
        }
    }
    lines.join("\n")
}

pub(super) fn version_path(plugin: &str, digest: &str, action: &str) -> String {
    let (plugin, digest) = (segment(plugin), segment(digest));
    format!("/api/v1/plugins/{plugin}/versions/{digest}/{action}")
}

/// The version that is named, or the one that was added last.
pub(super) async fn chosen(
    client: &Client,
    plugin: &str,
    digest: Option<String>,
) -> Result<String> {
    if let Some(digest) = digest {
        return Ok(digest);
    }
    let list = client.get("/api/v1/plugins").await?;
    let versions = list["versions"].as_array().into_iter().flatten();
    let newest = versions
        .filter(|version| version["plugin"] == plugin)
        .max_by_key(|version| version["added_at_ms"].as_i64());
    match newest {
        Some(version) => Ok(text(&version["digest"])),
        None => bail!("there is no plugin {plugin:?}; add it with: shoal plugin add FILE"),
    }
}

async fn released(client: &Client, path: &str, body: &Value, output: Output) -> Result<()> {
    let released = client.post(path, body).await?;
    for one in released["held_back"].as_array().into_iter().flatten() {
        output.warn(&format!(
            "{} {} does not run it: {}",
            text(&one["tenant"]),
            text(&one["installation"]),
            text(&one["reason"])
        ));
    }
    output.show(&released, |released| track_text(&released["track"]));
    Ok(())
}

async fn versions(client: &Client, plugin: &str, output: Output) -> Result<()> {
    let list = client.get("/api/v1/plugins").await?;
    let versions = list["versions"].as_array().into_iter().flatten();
    let mut own: Vec<Value> = versions
        .filter(|version| version["plugin"] == plugin)
        .cloned()
        .collect();
    for version in &mut own {
        for field in ["active_on", "tried_on"] {
            let names = version[field].as_array().into_iter().flatten().map(text);
            version[field] = names.collect::<Vec<_>>().join(",").into();
        }
    }
    let columns = [
        "version",
        "state",
        "active_on",
        "tried_on",
        "signature",
        "publisher",
        "digest",
    ];
    let list = json!({ "versions": own });
    output.show(&list, |list| {
        Table::of(&list["versions"], &columns).to_string()
    });
    Ok(())
}

/// A track in one or two lines.
fn track_text(track: &Value) -> String {
    let version =
        |value: &Value| format!("{} ({})", text(&value["version"]), text(&value["digest"]));
    let active = match &track["active"] {
        Value::Null => "nothing".to_owned(),
        active => version(active),
    };
    let mut shown = format!(
        "{} {}: {active} is active",
        text(&track["plugin"]),
        text(&track["track"])
    );
    if let Some(before) = track["former"].get(0) {
        shown += &format!("; before it {}", version(before));
    }
    let candidate = &track["candidate"];
    if candidate.is_object() {
        let how = match candidate["mode"].as_str() {
            Some("shadow") => format!(
                "as a shadow, until {} answers were equal",
                candidate["needed"]
            ),
            _ => {
                let tenants = candidate["tenants"].as_array().into_iter().flatten();
                format!("for {}", tenants.map(text).collect::<Vec<_>>().join(", "))
            }
        };
        shown += &format!("\n  {} is tried {how}", version(candidate));
    }
    shown
}
