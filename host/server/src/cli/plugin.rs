//! `shoal plugin …`

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::Server;
use super::client::{Client, segment};
use super::output::{Output, Table, text};

#[derive(Subcommand)]
pub(super) enum PluginCommand {
    /// Show what a component says of itself, without running it or asking a server.
    Inspect {
        /// The component (.wasm).
        file: PathBuf,
    },
    /// Add a version to the catalogue.
    Add {
        /// The component (.wasm).
        file: PathBuf,
    },
    /// Approve a version, which then runs wherever its plugin is enabled.
    #[command(after_help = "Example:\n  shoal plugin approve http-check")]
    Approve {
        /// The plugin's id.
        plugin: String,
        /// Which version [default: the one added last].
        #[arg(long)]
        digest: Option<String>,
        /// Approve only this capability; may be given several times [default: all that it asks for].
        #[arg(long = "grant")]
        grants: Vec<String>,
    },
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
        /// A setting as NAME=VALUE; VALUE is JSON, or else text. May be given several times.
        #[arg(long = "set", value_name = "NAME=VALUE")]
        settings: Vec<String>,
        /// A setting as the text of a file, or of standard input when FILE is -: keeps a secret out of the list of
        /// processes. May be given several times.
        #[arg(long = "set-file", value_name = "NAME=FILE")]
        files: Vec<String>,
        /// Grant only this capability; may be given several times [default: all that is approved].
        #[arg(long = "grant")]
        grants: Vec<String>,
        /// How often a check runs, in milliseconds.
        #[arg(long)]
        interval_ms: Option<i64>,
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
        PluginCommand::Inspect { file } => {
            let inspection = shoal_runtime::inspect(&read(&file)?)?;
            let shown = json!({
                "plugin": inspection.manifest.id.to_string(),
                "version": inspection.manifest.version.to_string(),
                "kind": inspection.kind.to_string(),
                "digest": inspection.digest.to_string(),
                "title": inspection.manifest.title,
                "description": inspection.manifest.description,
                "size_bytes": inspection.size_bytes,
                "endpoints": inspection.manifest.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "settings": inspection.manifest.settings.json(),
                "example": inspection.manifest.example,
                "asked": inspection.manifest.asked().0.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "imports": inspection.imports,
                "exports": inspection.exports,
            });
            output.show(&shown, |shown| format!("{shown:#}"));
        }
        PluginCommand::Add { file } => {
            let bytes = read(&file)?;
            let added = Client::new(server)?
                .upload("/api/v1/plugins", bytes)
                .await?;
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
        } => {
            let client = Client::new(server)?;
            let digest = match digest {
                Some(digest) => digest,
                None => added_last(&client, &plugin).await?,
            };
            let path = format!(
                "/api/v1/plugins/{}/versions/{}/approve",
                segment(&plugin),
                segment(&digest)
            );
            let body = if grants.is_empty() {
                json!({})
            } else {
                json!({ "grants": grants })
            };
            let approved = client.post(&path, &body).await?;
            output.show(&approved, |approved| {
                format!(
                    "approved {plugin} {} with {}",
                    text(&approved["version"]),
                    approved["approved"]
                )
            });
        }
        PluginCommand::Enable {
            plugin,
            tenant,
            name,
            settings,
            files,
            grants,
            interval_ms,
        } => {
            let mut settings = pairs(&settings)?;
            settings.extend(from_files(&files)?);
            let mut body = json!({ "plugin": plugin, "settings": settings });
            if let Some(name) = name {
                body["name"] = name.into();
            }
            if !grants.is_empty() {
                body["grants"] = json!(grants);
            }
            if let Some(interval_ms) = interval_ms {
                body["interval_ms"] = interval_ms.into();
            }
            let path = format!("/api/v1/installations?tenant={}", segment(&tenant));
            let enabled = Client::new(server)?.post(&path, &body).await?;
            output.show(&enabled, |enabled| {
                format!("enabled {plugin} as {}", text(&enabled["id"]))
            });
        }
        PluginCommand::Disable {
            installation,
            tenant,
        } => {
            let path = format!(
                "/api/v1/installations/{}?tenant={}",
                segment(&installation),
                segment(&tenant)
            );
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
            let columns = ["id", "name", "plugin", "version", "enabled", "error"];
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

async fn added_last(client: &Client, plugin: &str) -> Result<String> {
    let list = client.get("/api/v1/plugins").await?;
    let versions = list["versions"].as_array().into_iter().flatten();
    let newest = versions
        .filter(|v| v["plugin"] == plugin)
        .max_by_key(|v| v["added_at_ms"].as_i64());
    match newest {
        Some(version) => Ok(text(&version["digest"])),
        None => bail!("there is no plugin {plugin:?}; add it with: shoal plugin add FILE"),
    }
}

/// `token=secret.txt` as an object: the texts of the files, without the line end that editors leave.
fn from_files(files: &[String]) -> Result<Map<String, Value>> {
    let pair = |text: &String| {
        let (name, file) = text
            .split_once('=')
            .with_context(|| format!("{text:?} is not NAME=FILE"))?;
        let content = match file {
            "-" => std::io::read_to_string(std::io::stdin()),
            file => std::fs::read_to_string(file),
        };
        let content = content.with_context(|| format!("cannot read setting {name} from {file}"))?;
        let content = content.trim_end_matches(['\r', '\n']);
        Ok((name.to_owned(), Value::from(content)))
    };
    files.iter().map(pair).collect()
}

/// `a=1`, `b=text` as an object.
fn pairs(settings: &[String]) -> Result<Map<String, Value>> {
    let pair = |text: &String| {
        let (name, value) = text
            .split_once('=')
            .with_context(|| format!("{text:?} is not NAME=VALUE"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        Ok((name.to_owned(), value))
    };
    settings.iter().map(pair).collect()
}
