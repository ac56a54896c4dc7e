//! `shoal plugin …`

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::Server;
use super::author::{self, AuthorCommand};
use super::client::{Client, segment};
use super::output::{Output, Table, text};
use super::release::{self, ReleaseCommand};
use super::settings::{Which, changes, from_files, pairs, schema};

#[derive(Subcommand)]
pub(super) enum PluginCommand {
    #[command(flatten)]
    Author(AuthorCommand),
    /// Add a version to the catalogue.
    Add {
        /// The component (.wasm).
        file: PathBuf,
    },
    /// Approve a version and publish it: it then runs wherever the track is followed.
    #[command(
        after_help = "Examples:\n  shoal plugin approve http-check\n  shoal plugin approve http-check --no-publish"
    )]
    Approve {
        /// The plugin's id.
        plugin: String,
        /// Which version [default: the one added last].
        #[arg(long)]
        digest: Option<String>,
        /// Approve only this capability; may be given several times [default: all that it asks for].
        #[arg(long = "grant")]
        grants: Vec<String>,
        /// On which track it is published.
        #[arg(long, default_value = "stable")]
        track: String,
        /// Only approve it; what runs stays as it is.
        #[arg(long, conflicts_with = "force")]
        no_publish: bool,
        /// Leave installations that it would break on the version that they have.
        #[arg(long)]
        force: bool,
        /// Why, for the history.
        #[arg(long, default_value = "")]
        reason: String,
    },
    #[command(flatten)]
    Release(ReleaseCommand),
    /// Enable a plugin for a tenant.
    #[command(
        after_help = "Example:\n  shoal plugin enable http-check --tenant acme --set url=https://example.com/"
    )]
    Enable {
        /// The plugin's id.
        plugin: String,
        /// For whom.
        #[arg(long)]
        tenant: String,
        /// A name for it [default: the plugin's id].
        #[arg(long)]
        name: Option<String>,
        /// A setting as NAME=VALUE; VALUE is text where the schema asks for text, else JSON. May be given several times.
        #[arg(long = "set", value_name = "NAME=VALUE")]
        settings: Vec<String>,
        /// A setting as the text of a file, or of standard input when FILE is -: keeps a secret out of the list of
        /// processes. May be given several times.
        #[arg(long = "set-file", value_name = "NAME=FILE")]
        files: Vec<String>,
        /// Grant only this capability; may be given several times [default: all that is approved].
        #[arg(long = "grant")]
        grants: Vec<String>,
        /// Follow this track [default: stable].
        #[arg(long)]
        track: Option<String>,
        /// Stay with one version, whatever is published.
        #[arg(long, value_name = "DIGEST")]
        pin: Option<String>,
        /// How often a check runs, in milliseconds.
        #[arg(long)]
        interval_ms: Option<i64>,
    },
    /// Change an installation: settings, grants, track, pin.
    #[command(
        after_help = "Examples:\n  shoal plugin configure ins_x --tenant acme --set url=https://example.com/\n  \
                      shoal plugin configure ins_x --tenant acme --track beta --unpin"
    )]
    Configure {
        /// Its id, ins_….
        installation: String,
        /// Whose.
        #[arg(long)]
        tenant: String,
        /// A new name for it.
        #[arg(long)]
        name: Option<String>,
        /// A setting as NAME=VALUE; VALUE is text where the schema asks for text, else JSON; null takes it
        /// away. The others stay.
        #[arg(long = "set", value_name = "NAME=VALUE")]
        settings: Vec<String>,
        /// A setting as the text of a file, or of standard input when FILE is -.
        #[arg(long = "set-file", value_name = "NAME=FILE")]
        files: Vec<String>,
        /// Grant only this capability; may be given several times.
        #[arg(long = "grant", conflicts_with = "grant_all")]
        grants: Vec<String>,
        /// Grant all that is approved.
        #[arg(long)]
        grant_all: bool,
        /// Follow this track.
        #[arg(long)]
        track: Option<String>,
        /// Stay with one version, whatever is published.
        #[arg(long, value_name = "DIGEST", conflicts_with = "unpin")]
        pin: Option<String>,
        /// Follow the track again.
        #[arg(long)]
        unpin: bool,
        /// How often a check runs, in milliseconds.
        #[arg(long)]
        interval_ms: Option<i64>,
        /// Enable it.
        #[arg(long)]
        enable: bool,
    },
    /// Disable an installation; it keeps its settings.
    Disable {
        /// Its id, ins_….
        installation: String,
        /// Whose.
        #[arg(long)]
        tenant: String,
    },
    /// How plugins are.
    #[command(flatten)]
    Health(super::health::HealthCommand),
    /// List plugins, or what a tenant has enabled.
    List {
        /// Whose installations.
        #[arg(long)]
        tenant: Option<String>,
    },
}

pub(super) async fn run(server: &Server, command: PluginCommand, output: Output) -> Result<()> {
    match command {
        PluginCommand::Author(command) => author::run(server, command, output).await?,
        PluginCommand::Add { file } => {
            let bytes = read(&file)?;
            let added = Client::new(server)?
                .upload("/api/v1/plugins", bytes)
                .await?;
            if let Some(warning) = added["warning"].as_str() {
                output.warn(warning);
            }
            output.show(&added, |added| {
                let plugin = text(&added["plugin"]);
                format!(
                    "added {plugin} {} ({})\nnext: shoal plugin approve {plugin}",
                    text(&added["version"]),
                    text(&added["digest"])
                )
            });
        }
        PluginCommand::Approve {
            plugin,
            digest,
            grants,
            track,
            no_publish,
            force,
            reason,
        } => {
            let client = Client::new(server)?;
            let digest = release::chosen(&client, &plugin, digest).await?;
            let diff_path = release::version_path(&plugin, &digest, "diff");
            let diff = client
                .get(&format!("{diff_path}?track={}", segment(&track)))
                .await?;
            let mut body = json!({
                "publish": !no_publish, "track": track, "force": force, "reason": reason,
            });
            if !grants.is_empty() {
                body["grants"] = json!(grants);
            }
            let path = release::version_path(&plugin, &digest, "approve");
            let approved = client.post(&path, &body).await?;
            output.show(&approved, |approved| {
                format!(
                    "{}\napproved {plugin} {} with {}",
                    release::diff_text(&diff),
                    text(&approved["version"]),
                    approved["approved"]
                )
            });
        }
        PluginCommand::Release(command) => {
            release::run(&Client::new(server)?, command, output).await?;
        }
        PluginCommand::Enable {
            plugin,
            tenant,
            name,
            settings,
            files,
            grants,
            track,
            pin,
            interval_ms,
        } => {
            let client = Client::new(server)?;
            let mut given = from_files(&files)?;
            if !settings.is_empty() {
                let of_track = Which::Track(track.as_deref().unwrap_or("stable"));
                let which = pin.as_deref().map_or(of_track, Which::Digest);
                given.extend(pairs(&settings, &schema(&client, &plugin, which).await?)?);
            }
            let mut body = json!({ "plugin": plugin, "settings": given });
            if let Some(name) = name {
                body["name"] = name.into();
            }
            if !grants.is_empty() {
                body["grants"] = json!(grants);
            }
            if let Some(interval_ms) = interval_ms {
                body["interval_ms"] = interval_ms.into();
            }
            if let Some(track) = track {
                body["track"] = track.into();
            }
            if let Some(digest) = pin {
                body["digest"] = digest.into();
            }
            let path = format!("/api/v1/installations?tenant={}", segment(&tenant));
            let enabled = client.post(&path, &body).await?;
            warn_of_missing(&enabled, output);
            output.show(&enabled, |enabled| {
                format!("enabled {plugin} as {}", text(&enabled["id"]))
            });
        }
        PluginCommand::Configure {
            installation,
            tenant,
            name,
            settings,
            files,
            grants,
            grant_all,
            track,
            pin,
            unpin,
            interval_ms,
            enable,
        } => {
            let client = Client::new(server)?;
            let path = installation_path(&installation, &tenant);
            let present = client.get(&path).await?;
            // Another change in between is refused instead of undone.
            let mut body = json!({ "revision": present["revision"] });
            let mut given = from_files(&files)?;
            if !settings.is_empty() {
                let which = match (&pin, &track, present["digest"].as_str()) {
                    (Some(digest), _, _) => Which::Digest(digest),
                    (None, Some(track), _) => Which::Track(track),
                    (None, None, Some(running)) if !unpin => Which::Digest(running),
                    _ => Which::Track(present["track"].as_str().unwrap_or("stable")),
                };
                let plugin = text(&present["plugin"]);
                given.extend(changes(&settings, &schema(&client, &plugin, which).await?)?);
            }
            if !given.is_empty() {
                body["settings"] = with_settings(&present["settings"], given);
            }
            let fields = [
                ("name", name.map(Value::from)),
                ("track", track.map(Value::from)),
                ("interval_ms", interval_ms.map(Value::from)),
                (
                    "digest",
                    pin.map(Value::from).or(unpin.then_some(Value::Null)),
                ),
                ("grants", grant_all.then_some(Value::Null)),
                ("enabled", enable.then_some(Value::Bool(true))),
            ];
            for (field, value) in fields {
                if let Some(value) = value {
                    body[field] = value;
                }
            }
            if !grants.is_empty() {
                body["grants"] = json!(grants);
            }
            let changed = client.patch(&path, &body).await?;
            warn_of_missing(&changed, output);
            output.show(&changed, |changed| {
                format!(
                    "changed {installation}, which runs version {}",
                    text(&changed["version"])
                )
            });
        }
        PluginCommand::Disable {
            installation,
            tenant,
        } => {
            let path = installation_path(&installation, &tenant);
            let disabled = Client::new(server)?
                .patch(&path, &json!({ "enabled": false }))
                .await?;
            output.show(&disabled, |_| format!("disabled {installation}"));
        }
        PluginCommand::Health(command) => super::health::run(server, command, output).await?,
        PluginCommand::List { tenant: None } => {
            let list = Client::new(server)?.get("/api/v1/plugins").await?;
            let columns = ["plugin", "version", "kind", "state", "digest"];
            output.show(&list, |list| {
                Table::of(&list["versions"], &columns).to_string()
            });
        }
        PluginCommand::List {
            tenant: Some(tenant),
        } => {
            let path = format!("/api/v1/installations?tenant={}", segment(&tenant));
            let list = Client::new(server)?.get(&path).await?;
            let columns = [
                "id", "name", "plugin", "version", "track", "enabled", "error",
            ];
            output.show(&list, |list| {
                Table::of(&list["installations"], &columns).to_string()
            });
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

fn installation_path(installation: &str, tenant: &str) -> String {
    let (installation, tenant) = (segment(installation), segment(tenant));
    format!("/api/v1/installations/{installation}?tenant={tenant}")
}

/// Says what an installation asks for and does not get.
fn warn_of_missing(installation: &Value, output: Output) {
    for one in installation["missing"].as_array().into_iter().flatten() {
        output.warn(&format!(
            "it goes without {}: {}",
            text(&one["capability"]),
            match one["by"].as_str() {
                Some("operator") => "the operator has not approved it for this version",
                Some("ceiling") => "it is beyond the ceiling of this deployment",
                _ => "it was not granted",
            }
        ));
    }
}

/// The present settings with some of them changed. Secrets, which are not shown, stay when they are left out.
fn with_settings(present: &Value, given: Map<String, Value>) -> Value {
    let mut settings = present.as_object().cloned().unwrap_or_default();
    settings.retain(|_, value| value["is_set"] != true);
    for (name, value) in given {
        match value {
            Value::Null => settings.remove(&name),
            value => settings.insert(name, value),
        };
    }
    Value::Object(settings)
}
