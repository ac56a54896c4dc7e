//! What authors of plugins do: all of it on their own machine, with the runtime and the limits of the server.

mod check;
mod dev;
mod inspect;
mod new;
mod run;
mod sign;
mod source;
mod test;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use shoal_runtime::{CallReport, Faults, Manifest, PublicKey, Runtime, RuntimeOptions};

use super::Server;
use super::output::Output;

/// Calls at a time: an author's machine makes one after the other.
const CALLS_MAX: u32 = 4;

#[derive(Subcommand)]
pub(super) enum AuthorCommand {
    /// Begin a plugin: a folder that builds, with settings, tests and the SDK.
    #[command(after_help = "Example:\n  shoal plugin new --kind check dns-check")]
    New {
        /// Its id: small letters, digits and single dashes.
        name: String,
        /// What it is for: receiver, check, channel or billing-rule.
        #[arg(long)]
        kind: String,
        /// The folder to make [default: its name].
        #[arg(long)]
        path: Option<PathBuf>,
    },
    /// Check a plugin as a server would, and compare it with the version before.
    #[command(after_help = "Example:\n  shoal plugin check . --against dns_check-0.1.0.wasm")]
    Check {
        /// The component (.wasm), or the folder of its sources, which are built first.
        plugin: PathBuf,
        /// The component of the version before.
        #[arg(long, value_name = "FILE")]
        against: Option<PathBuf>,
        /// The public key that it must be signed with.
        #[arg(long, value_name = "shoal-pub:…")]
        signed_by: Option<PublicKey>,
    },
    /// Call a plugin once: JSON in, JSON out.
    #[command(
        after_help = "Example:\n  echo '{}' | shoal plugin run http_check.wasm --set url=https://example.com/ --allow-network"
    )]
    Run(run::RunCommand),
    /// Run a plugin's golden tests, those in its manifest.
    #[command(
        after_help = "Example:\n  shoal plugin test . --fault http=503,delay=2s,dns=fail,clock=+1h"
    )]
    Test {
        /// The component (.wasm), or the folder of its sources, which are built first.
        plugin: PathBuf,
        /// What goes wrong: http=STATUS, delay=TIME, dns=fail, clock=+TIME, with commas between. Tests then only must
        /// not panic, crash or break the contract.
        #[arg(long)]
        fault: Option<Faults>,
    },
    /// Build a plugin whenever its sources change and run it for one tenant of a server.
    #[command(
        after_help = "Example:\n  shoal plugin dev . --tenant acme --set url=https://example.com/"
    )]
    Dev(dev::DevCommand),
    /// Show what a component says of itself, without running it or asking a server.
    Inspect {
        /// The component (.wasm).
        file: PathBuf,
    },
    /// Put a manifest into a component that other tools built.
    #[command(
        after_help = "Example:\n  shoal plugin pack app.wasm --manifest plugin.toml -o dns-check.wasm"
    )]
    Pack {
        /// The component (.wasm).
        component: PathBuf,
        /// Its plugin.toml.
        #[arg(long)]
        manifest: PathBuf,
        /// Where the result goes.
        #[arg(short, long)]
        output: PathBuf,
    },
    /// Make a publisher's key: the secret half into a file, the public half is printed.
    Keygen {
        /// The file to make.
        #[arg(long, default_value = "publisher.key")]
        output: PathBuf,
    },
    /// Sign a component with a publisher's key.
    Sign {
        /// The component (.wasm).
        file: PathBuf,
        /// The file that `keygen` made. (Takes the place of the API key, which is not needed here.)
        #[arg(long, value_name = "FILE")]
        key: String,
        /// Where the result goes [default: the component's file].
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
    /// Verify that a component is as its publisher signed it.
    Verify {
        /// The component (.wasm).
        file: PathBuf,
        /// The publisher's public key.
        #[arg(long, value_name = "shoal-pub:…")]
        key: String,
    },
}

/// Settings on the command line.
#[derive(Args)]
pub(super) struct SettingsArguments {
    /// Settings as a file of JSON [default: the manifest's example].
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// A setting as NAME=VALUE; VALUE is text where the schema asks for text, else JSON. May be given several times.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
}

impl SettingsArguments {
    /// The settings, those of the manifest's example where none are given.
    fn read(&self, manifest: &Manifest) -> Result<Map<String, Value>> {
        let mut settings = match &self.settings {
            Some(file) => {
                let text = std::fs::read_to_string(file)
                    .with_context(|| format!("cannot read {}", file.display()))?;
                serde_json::from_str(&text)
                    .with_context(|| format!("{} is no JSON object", file.display()))?
            }
            None => manifest.example.clone().unwrap_or_default(),
        };
        settings.extend(super::settings::pairs(&self.set, &manifest.settings)?);
        Ok(settings)
    }
}

pub(super) async fn run(server: &Server, command: AuthorCommand, output: Output) -> Result<()> {
    match command {
        AuthorCommand::New { name, kind, path } => new::run(&name, &kind, path, output),
        AuthorCommand::Check {
            plugin,
            against,
            signed_by,
        } => check::run(&plugin, against.as_deref(), signed_by, output).await,
        AuthorCommand::Run(command) => run::run(command, output).await,
        AuthorCommand::Test { plugin, fault } => {
            test::run(&plugin, &fault.unwrap_or_default(), output).await
        }
        AuthorCommand::Dev(command) => dev::run(server, command, output).await,
        AuthorCommand::Inspect { file } => inspect::run(&source::read(&file)?, output),
        AuthorCommand::Pack {
            component,
            manifest,
            output: to,
        } => {
            let text = std::fs::read_to_string(&manifest)
                .with_context(|| format!("cannot read {}", manifest.display()))?;
            let packed = shoal_runtime::pack(&source::read(&component)?, &text)?;
            source::write(&to, &packed)?;
            let shown = json!({ "file": to, "size_bytes": packed.len() });
            output.show(&shown, |_| {
                format!("packed {} ({} bytes)", to.display(), packed.len())
            });
            Ok(())
        }
        AuthorCommand::Keygen { output: to } => sign::keygen(&to, output),
        AuthorCommand::Sign {
            file,
            key,
            output: to,
        } => sign::sign(&file, Path::new(&key), to.as_ref().unwrap_or(&file), output),
        AuthorCommand::Verify { file, key } => sign::verify(&file, key.parse()?, output),
    }
}

/// A runtime as a server has it, small.
fn runtime(options: RuntimeOptions) -> Result<Runtime> {
    Ok(Runtime::new(RuntimeOptions {
        concurrent_calls_max: CALLS_MAX,
        allow_large: true,
        ..options
    })?)
}

/// What a call used, as JSON.
fn report(report: &CallReport) -> Value {
    json!({
        "duration_us": report.duration.as_micros() as u64,
        "cpu_us": report.cpu.as_micros() as u64,
        "memory_peak_bytes": report.memory_peak_bytes,
        "fuel": report.fuel,
        "contacted": report.contacted,
        "log": report.log.iter().map(|line| json!({
            "level": line.level.as_str(),
            "message": line.message,
        })).collect::<Vec<_>>(),
        "log_dropped_bytes": report.log_dropped_bytes,
    })
}

/// An error when something is not as it should be; what, was shown before.
fn all_good(failed: usize, all: usize, what: &str) -> Result<()> {
    ensure!(failed == 0, "{failed} of {all} {what} failed");
    Ok(())
}
