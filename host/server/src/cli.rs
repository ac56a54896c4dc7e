//! The command line: `shoal serve` runs the server, `shoal store` looks at its files, everything else talks to a
//! running one over HTTP, so that every change takes effect at once.
//!
//! Exit codes: 0 done, 1 it did not work, 2 the command line is wrong.

mod audit;
mod author;
mod client;
mod health;
mod job;
mod limits;
mod output;
mod plugin;
mod publisher;
mod query;
mod release;
mod settings;
mod store;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde_json::json;

use crate::config::{Config, Overrides};
use client::Client;
use output::{Output, Table};

/// A monitoring platform in which everything that varies is a sandboxed plugin.
#[derive(Parser)]
#[command(name = "shoal", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    server: Server,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
}

/// Which server, and as whom.
#[derive(Args)]
pub(crate) struct Server {
    /// Address of the server.
    #[arg(
        long,
        env = "SHOAL_SERVER",
        global = true,
        default_value = "http://127.0.0.1:8080",
        value_name = "URL"
    )]
    server: String,
    /// API key [default: the operator's, from the data folder].
    #[arg(long, env = "SHOAL_KEY", global = true, hide_env_values = true)]
    key: Option<String>,
    /// Data folder of the server, where operator.key is.
    #[arg(
        long,
        env = "SHOAL_DATA",
        global = true,
        default_value = "data",
        value_name = "FOLDER"
    )]
    data_folder: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server.
    #[command(after_help = "Example:\n  shoal serve --data ./data")]
    Serve(Overrides),
    /// Tenants: customers whose data is apart from all others.
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// API keys of a tenant.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Plugins: add, approve, enable for a tenant.
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// Publishers: keys by which plugins may be signed.
    #[command(subcommand)]
    Publisher(publisher::PublisherCommand),
    /// Who did what, the latest first.
    Audit(audit::AuditCommand),
    /// Jobs: scheduled work; post a run, look at runs.
    #[command(subcommand)]
    Job(job::JobCommand),
    /// The telemetry on disk, without the server.
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Compile a component; the server starts this for itself.
    #[command(hide = true)]
    CompileComponent {
        /// What the server says.
        arguments: Vec<String>,
    },
    /// Ask PromQL of a tenant's series.
    #[command(
        after_help = "Examples:\n  shoal query 'sum by (host) (up)' --tenant acme\n  \
                            shoal query up --start 2026-11-24T00:00:00Z --end 2026-11-24T01:00:00Z --step 5m"
    )]
    Query(query::QueryCommand),
}

#[derive(Subcommand)]
enum TenantCommand {
    /// Make a tenant.
    #[command(after_help = "Example:\n  shoal tenant create acme --name 'Acme Inc.'")]
    Create {
        /// Its name in commands and addresses: 1 to 63 of a-z, 0-9 and '-'.
        tenant: String,
        /// Its name for people.
        #[arg(long)]
        name: Option<String>,
    },
    /// List the tenants.
    List,
    /// Show or change what a tenant's plugins may use.
    #[command(
        after_help = "Examples:\n  shoal tenant limits acme\n  shoal tenant limits acme --weight 2 --set check.cpu_ms=50"
    )]
    Limits(limits::LimitsCommand),
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Make an API key; it is shown this once.
    #[command(after_help = "Example:\n  shoal key create --tenant acme --role write --name agent")]
    Create {
        /// Whose.
        #[arg(long)]
        tenant: String,
        /// What it allows: read, or write (which includes read).
        #[arg(long, default_value = "write")]
        role: String,
        /// What it is for.
        #[arg(long, default_value = "")]
        name: String,
    },
    /// List a tenant's API keys, without their secrets.
    List {
        /// Whose.
        #[arg(long)]
        tenant: String,
    },
    /// Revoke an API key.
    Revoke {
        /// Whose.
        #[arg(long)]
        tenant: String,
        /// Its id, key_….
        id: String,
    },
}

/// Runs the command line of the process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // Before anything that takes memory or starts threads, for both are bounded then.
    if let Command::CompileComponent { arguments } = &cli.command {
        return shoal_runtime::compile_child(arguments);
    }
    let output = if cli.json { Output::Json } else { Output::Text };
    // Guests' traps must not cost a native stack trace, nor show one: see the runtime.
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return output
                .failed(&anyhow::Error::new(error).context("cannot start the async runtime"));
        }
    };
    match runtime.block_on(run(cli, output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output.failed(&error),
    }
}

async fn run(cli: Cli, output: Output) -> anyhow::Result<()> {
    match cli.command {
        Command::Serve(overrides) => {
            start_logging();
            crate::serve::run(Config::load(overrides)?).await
        }
        Command::CompileComponent { .. } => Ok(()),
        Command::Store(command) => store::run(command, output).await,
        Command::Tenant(command) => tenant(Client::new(&cli.server)?, command, output).await,
        Command::Key(command) => key(Client::new(&cli.server)?, command, output).await,
        Command::Plugin(command) => plugin::run(&cli.server, command, output).await,
        Command::Publisher(command) => {
            publisher::run(&Client::new(&cli.server)?, command, output).await
        }
        Command::Audit(command) => audit::run(&Client::new(&cli.server)?, command, output).await,
        Command::Job(command) => job::run(&Client::new(&cli.server)?, command, output).await,
        Command::Query(command) => query::run(&Client::new(&cli.server)?, command, output).await,
    }
}

async fn tenant(client: Client, command: TenantCommand, output: Output) -> anyhow::Result<()> {
    match command {
        TenantCommand::Create { tenant, name } => {
            let made = client
                .post("/api/v1/tenants", &json!({ "key": tenant, "name": name }))
                .await?;
            output.show(&made, |made| {
                format!("made tenant {}", output::text(&made["key"]))
            });
        }
        TenantCommand::List => {
            let list = client.get("/api/v1/tenants").await?;
            output.show(&list, |list| {
                Table::of(&list["tenants"], &["key", "name"]).to_string()
            });
        }
        TenantCommand::Limits(command) => limits::run(&client, command, output).await?,
    }
    Ok(())
}

async fn key(client: Client, command: KeyCommand, output: Output) -> anyhow::Result<()> {
    match command {
        KeyCommand::Create { tenant, role, name } => {
            let path = format!("/api/v1/tenants/{}/keys", client::segment(&tenant));
            let made = client
                .post(&path, &json!({ "role": role, "name": name }))
                .await?;
            output.show(&made, |made| output::text(&made["key"]));
        }
        KeyCommand::List { tenant } => {
            let list = client
                .get(&format!(
                    "/api/v1/tenants/{}/keys",
                    client::segment(&tenant)
                ))
                .await?;
            let columns = ["id", "role", "name", "last_used_at_ms", "revoked_at_ms"];
            output.show(&list, |list| Table::of(&list["keys"], &columns).to_string());
        }
        KeyCommand::Revoke { tenant, id } => {
            let path = format!(
                "/api/v1/tenants/{}/keys/{}",
                client::segment(&tenant),
                client::segment(&id)
            );
            let done = client.delete(&path).await?;
            output.show(&done, |_| format!("revoked {id}"));
        }
    }
    Ok(())
}

/// One JSON object a line on standard error; `RUST_LOG` chooses what.
fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .with_writer(std::io::stderr)
        .with_env_filter(filter)
        .init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
