//! `shoal audit`: who did what.

use anyhow::Result;
use clap::Args;

use super::client::{Client, segment};
use super::output::{Output, Table};

#[derive(Args)]
pub(super) struct AuditCommand {
    /// Only of this tenant [default: the whole deployment, or the key's own tenant].
    #[arg(long)]
    tenant: Option<String>,
    /// Only what was done to this: a plugin's id, ins_…, key_….
    #[arg(long)]
    subject: Option<String>,
    /// Only what came before this id.
    #[arg(long, value_name = "ID")]
    before: Option<i64>,
    /// At most so many lines.
    #[arg(long, default_value_t = 50)]
    limit: u32,
}

pub(super) async fn run(client: &Client, command: AuditCommand, output: Output) -> Result<()> {
    let mut path = format!("/api/v1/audit?limit={}", command.limit);
    if let Some(tenant) = command.tenant {
        path += &format!("&tenant={}", segment(&tenant));
    }
    if let Some(subject) = command.subject {
        path += &format!("&subject={}", segment(&subject));
    }
    if let Some(before) = command.before {
        path += &format!("&before={before}");
    }
    let list = client.get(&path).await?;
    let columns = [
        "id", "at_ms", "tenant", "actor", "action", "subject", "detail",
    ];
    output.show(&list, |list| {
        Table::of(&list["events"], &columns).to_string()
    });
    Ok(())
}
