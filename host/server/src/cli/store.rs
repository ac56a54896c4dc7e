//! `shoal store`: the telemetry on disk, looked at without the server.

use anyhow::{Result, bail};
use clap::Subcommand;
use serde_json::{Value, json};
use shoal_store::{Catalog as _, Checked, Damage};

use super::output::{Output, Table, text};
use crate::config::{Config, Overrides};
use crate::db::Db;
use crate::db::catalog::SqlCatalog;
use crate::task::blocking;

#[derive(Subcommand)]
pub(super) enum StoreCommand {
    /// Read every byte of the telemetry and name what is damaged; exit code 1 when anything is.
    #[command(after_help = "Example:\n  shoal store verify --data ./data")]
    Verify(Overrides),
}

pub(super) async fn run(command: StoreCommand, output: Output) -> Result<()> {
    let StoreCommand::Verify(overrides) = command;
    let config = Config::load(overrides)?;
    let folder = config.telemetry_folder();
    if !folder.is_dir() {
        bail!(
            "there is no telemetry in {}: name the server's data folder with --data",
            folder.display()
        );
    }
    let db = Db::open(&config.database_url).await?;
    let state = SqlCatalog::new(&db).load().await?;
    db.close().await;
    let checked = blocking(move || shoal_store::verify(&folder, &state)).await?;
    if checked.is_log_in_use {
        output.warn("a server runs: its log was left out; stop it to check the log too");
    }
    output.show(&answer(&checked), |answer| {
        let found = Table::of(&answer["damages"], &["file", "section", "offset", "reason"]);
        let read = format!(
            "read {} files, {} bytes, {} samples",
            text(&answer["files"]),
            text(&answer["bytes"]),
            text(&answer["samples"])
        );
        match checked.damages.is_empty() {
            true => format!("{read}: all is whole"),
            false => format!("{read}\n{found}"),
        }
    });
    match checked.damages.len() {
        0 => Ok(()),
        places => bail!(
            "{places} places of the telemetry are damaged: restore these files from a backup; until then queries leave out what is in them"
        ),
    }
}

fn answer(checked: &Checked) -> Value {
    json!({
        "files": checked.files,
        "bytes": checked.bytes,
        "samples": checked.samples,
        "is_log_in_use": checked.is_log_in_use,
        "damages": checked.damages.iter().map(damage).collect::<Vec<_>>(),
    })
}

fn damage(damage: &Damage) -> Value {
    let crc = |number: u32| format!("{number:08x}");
    json!({
        "file": damage.file.display().to_string(),
        "section": damage.section,
        "offset": damage.offset,
        "reason": damage.reason,
        "expected_crc32c": damage.checksums.map(|of| crc(of.expected)),
        "found_crc32c": damage.checksums.map(|of| crc(of.found)),
    })
}
