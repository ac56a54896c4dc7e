//! `shoal publisher …`: keys by which versions may be signed.

use anyhow::Result;
use clap::Subcommand;
use serde_json::json;

use super::client::{Client, segment};
use super::output::{Output, Table, text};

#[derive(Subcommand)]
pub(super) enum PublisherCommand {
    /// Trust a publisher's key.
    #[command(
        after_help = "Example:\n  shoal publisher add acme shoal-pub:iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w="
    )]
    Add {
        /// The publisher's name.
        name: String,
        /// The public key, shoal-pub:….
        key: String,
    },
    /// List the trusted keys.
    List,
    /// Trust a key no longer; versions that were added stay.
    Remove {
        /// The publisher's name.
        name: String,
    },
}

pub(super) async fn run(client: &Client, command: PublisherCommand, output: Output) -> Result<()> {
    match command {
        PublisherCommand::Add { name, key } => {
            let body = json!({ "name": name, "key": key });
            let added = client.post("/api/v1/publishers", &body).await?;
            output.show(&added, |added| {
                format!("versions signed by {} are trusted", text(&added["name"]))
            });
        }
        PublisherCommand::List => {
            let list = client.get("/api/v1/publishers").await?;
            output.show(&list, |list| {
                Table::of(&list["publishers"], &["name", "key", "added_by"]).to_string()
            });
        }
        PublisherCommand::Remove { name } => {
            let path = format!("/api/v1/publishers/{}", segment(&name));
            let removed = client.delete(&path).await?;
            output.show(&removed, |_| format!("{name} is not trusted any more"));
        }
    }
    Ok(())
}
