//! `shoal plugin run`: one call, JSON in and out.

use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::{Map, Value};
use shoal_runtime::{Cidr, Faults, Peers, Rehearsal, Rehearsed, RuntimeOptions};

use super::{SettingsArguments, report, runtime, source};
use crate::cli::output::Output;
use crate::clock::Clock;

#[derive(Args)]
pub(in crate::cli) struct RunCommand {
    /// The component (.wasm), or the folder of its sources, which are built first.
    plugin: PathBuf,
    /// What it is given, as a file of JSON; the format is that of `input` in [[tests]] [default: standard input].
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingsArguments,
    /// Let it reach whom its manifest asks for; without, nobody is reached.
    #[arg(long)]
    allow_network: bool,
    /// Private addresses that it may reach, such as 127.0.0.0/8. May be given several times.
    #[arg(long, value_name = "CIDR", requires = "allow_network")]
    allow_private: Vec<Cidr>,
    /// What goes wrong: http=STATUS, delay=TIME, dns=fail, clock=+TIME, with commas between.
    #[arg(long)]
    fault: Option<Faults>,
}

pub(super) async fn run(command: RunCommand, output: Output) -> Result<()> {
    let input = input(command.input.as_ref())?;
    let bytes = source::component(&command.plugin).await?;
    let options = RuntimeOptions {
        allow_private: command.allow_private,
        ..RuntimeOptions::default()
    };
    let plugin = runtime(options)?.load(bytes).await?;
    let manifest = plugin.manifest();
    let grants = manifest.asked();
    for capability in &grants.0 {
        output.note(&format!("granted: {capability}"));
    }
    let done = plugin
        .rehearse(Rehearsal {
            settings: command.settings.read(manifest)?,
            grants,
            input,
            now: Clock::system().now(),
            peers: match command.allow_network {
                true => Peers::Real,
                false => Peers::None,
            },
            faults: command.fault.unwrap_or_default(),
        })
        .await?;
    show(&done, output);
    for problem in &done.problems {
        output.warn(&format!("{problem}; give --allow-network to let it out"));
    }
    match done.error {
        None => Ok(()),
        Some(error) => bail!("{error}"),
    }
}

/// The outcome on standard output; how it came about beside it.
fn show(done: &Rehearsed, output: Output) {
    let mut shown = done.outcome.clone();
    let used = report(&done.report);
    if output == Output::Json {
        shown["report"] = used;
        shown["problems"] = done.problems.clone().into();
    } else {
        for line in &done.report.log {
            output.note(&format!("{}: {}", line.level.as_str(), line.message));
        }
        let (took, cpu) = (done.report.duration, done.report.cpu);
        let memory_kib = done.report.memory_peak_bytes >> 10;
        let fuel = match done.report.fuel {
            Some(fuel) => format!(", {fuel} instructions"),
            None => String::new(),
        };
        output.note(&format!(
            "{took:.1?}, {cpu:.1?} of CPU, {memory_kib} KiB{fuel}"
        ));
    }
    output.show(&shown, |shown| format!("{shown:#}"));
}

fn input(file: Option<&PathBuf>) -> Result<Value> {
    let text = match file {
        Some(file) if file.as_os_str() != "-" => std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?,
        None if std::io::stdin().is_terminal() => String::new(),
        _ => {
            let mut text = String::new();
            let mut stdin = std::io::stdin();
            stdin
                .read_to_string(&mut text)
                .context("cannot read the input")?;
            text
        }
    };
    if text.trim().is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    serde_json::from_str(&text).context("the input is no JSON")
}
