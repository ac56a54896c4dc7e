//! `shoal plugin health`, `failures`, `contacts`, `quarantine`, `release` and `fallback`.

use anyhow::{Result, bail};
use clap::Subcommand;
use serde_json::{Value, json};
use shoal_model::Timestamp;

use super::Server;
use super::client::{Client, segment};
use super::output::{Output, Table, text};

#[derive(Subcommand)]
pub(super) enum HealthCommand {
    /// Show how a plugin's versions and installations are: breakers, quarantine, shadow runs.
    Health {
        /// The plugin's id.
        plugin: String,
        /// Only what this tenant has.
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Show an installation's latest failures: message, backtrace, log and what was asked.
    #[command(after_help = "Example:\n  shoal plugin failures ins_0123456789abcdef --tenant acme")]
    Failures {
        /// Its id, ins_….
        installation: String,
        /// Whose.
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Show the hosts that a plugin contacted, those that it may and never did, and those that were refused.
    Contacts {
        /// The plugin's id.
        plugin: String,
        /// For whom.
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Shut a version out: it runs for nobody until it is released.
    Quarantine {
        /// The version's digest, sha256:….
        digest: String,
        /// Why; the tenants read it.
        #[arg(long)]
        reason: String,
    },
    /// End a version's quarantine and close its breakers.
    Release {
        /// The version's digest, sha256:….
        digest: String,
    },
    /// Show or set which channel stands in when a channel's plugin is down.
    #[command(
        after_help = "Example:\n  shoal plugin fallback ins_0123456789abcdef --to ins_fedcba9876543210 --tenant acme"
    )]
    Fallback {
        /// The channel's installation, ins_….
        installation: String,
        /// The installation that stands in; `any` leaves it to Shoal again.
        #[arg(long)]
        to: Option<String>,
        /// Whose.
        #[arg(long)]
        tenant: Option<String>,
    },
}

pub(super) async fn run(server: &Server, command: HealthCommand, output: Output) -> Result<()> {
    let client = Client::new(server)?;
    match command {
        HealthCommand::Health { plugin, tenant } => {
            let path = format!("/api/v1/plugins/{}/health", segment(&plugin));
            let health = client.get(&of(&path, tenant.as_deref())).await?;
            output.show(&health, shown_health);
        }
        HealthCommand::Failures {
            installation,
            tenant,
        } => {
            let path = format!("/api/v1/installations/{}/failures", segment(&installation));
            let list = client.get(&of(&path, tenant.as_deref())).await?;
            output.show(&list, shown_failures);
        }
        HealthCommand::Contacts { plugin, tenant } => {
            let path = format!("/api/v1/plugins/{}/contacts", segment(&plugin));
            let list = client.get(&of(&path, tenant.as_deref())).await?;
            output.show(&list, shown_contacts);
        }
        HealthCommand::Quarantine { digest, reason } => {
            let path = version_path(&client, &digest, "quarantine").await?;
            let done = client.post(&path, &json!({ "reason": reason })).await?;
            output.show(&done, |done| {
                format!(
                    "version {} ({digest}) runs for nobody",
                    text(&done["version"])
                )
            });
        }
        HealthCommand::Release { digest } => {
            let path = version_path(&client, &digest, "release").await?;
            let done = client.post(&path, &json!({})).await?;
            output.show(&done, |done| {
                format!(
                    "version {} ({digest}) may run again",
                    text(&done["version"])
                )
            });
        }
        HealthCommand::Fallback {
            installation,
            to,
            tenant,
        } => {
            let path = format!("/api/v1/installations/{}/fallback", segment(&installation));
            let path = of(&path, tenant.as_deref());
            let answer = match to.as_deref() {
                None => client.get(&path).await?,
                Some("any") => client.put(&path, &json!({ "to": null })).await?,
                Some(to) => client.put(&path, &json!({ "to": to })).await?,
            };
            output.show(&answer, |answer| match &answer["to"] {
                Value::Null => format!("any other channel stands in for {installation}"),
                to => format!("{} stands in for {installation}", text(to)),
            });
        }
    }
    Ok(())
}

fn of(path: &str, tenant: Option<&str>) -> String {
    match tenant {
        Some(tenant) => format!("{path}?tenant={}", segment(tenant)),
        None => path.to_owned(),
    }
}

async fn version_path(client: &Client, digest: &str, what: &str) -> Result<String> {
    let list = client.get("/api/v1/plugins").await?;
    let mut versions = list["versions"].as_array().into_iter().flatten();
    match versions.find(|version| version["digest"] == digest) {
        Some(version) => Ok(format!(
            "/api/v1/plugins/{}/versions/{}/{what}",
            segment(&text(&version["plugin"])),
            segment(digest)
        )),
        None => bail!("no plugin has a version {digest:?}; see: shoal plugin list"),
    }
}

fn shown_health(health: &Value) -> String {
    let list = |name: &str| health[name].as_array().into_iter().flatten();
    let versions = list("versions").map(|version| {
        let mut row = version.clone();
        row["state"] = match &version["quarantine"] {
            Value::Null => "may run".into(),
            quarantine => format!("in quarantine: {}", text(&quarantine["reason"])).into(),
        };
        row
    });
    let installations = list("installations").map(|installation| {
        let mut row = installation.clone();
        row["until"] = time(&installation["until_ms"]).into();
        row["faults"] = format!(
            "{} of {}",
            installation["recent_faults"], installation["recent_calls"]
        )
        .into();
        row
    });
    let mut parts = vec![
        Table::of(
            &versions.collect(),
            &["version", "digest", "installations", "state"],
        )
        .to_string(),
        Table::of(
            &installations.collect(),
            &[
                "id", "name", "version", "breaker", "until", "faults", "reason",
            ],
        )
        .to_string(),
    ];
    if list("shadows").next().is_some() {
        let columns = [
            "version",
            "state",
            "equal",
            "differing",
            "failed",
            "skipped",
            "live",
            "shadow",
        ];
        parts.push(Table::of(&health["shadows"], &columns).to_string());
    }
    parts.join("\n\n")
}

fn shown_failures(list: &Value) -> String {
    let failures = list["failures"].as_array().into_iter().flatten();
    let shown: Vec<String> = failures.map(shown_failure).collect();
    match shown.is_empty() {
        true => "no failure is on record".to_owned(),
        false => shown.join("\n\n"),
    }
}

fn shown_failure(failure: &Value) -> String {
    let list = |name: &str| failure[name].as_array().into_iter().flatten();
    let mut lines = vec![format!(
        "{} {} {} {}: {}",
        time(&failure["at_ms"]),
        text(&failure["plugin"]),
        text(&failure["version"]),
        text(&failure["code"]),
        text(&failure["message"]),
    )];
    lines.extend(list("backtrace").map(|frame| format!("    {}", text(frame))));
    lines.extend(list("log").map(|line| {
        let (level, message) = (text(&line["level"]), text(&line["message"]));
        format!("  log {level} {message}")
    }));
    lines.push(format!("  asked {}", failure["input"]));
    lines.push(format!("  used {}", failure["report"]));
    lines.join("\n")
}

fn shown_contacts(list: &Value) -> String {
    let columns = ["version", "host", "contacts", "refused"];
    let contacts = Table::of(&list["contacts"], &columns).to_string();
    let allowed = list["allowed"].as_array().into_iter().flatten();
    let unused: Vec<String> = allowed
        .filter(|one| one["used"] == false)
        .map(|one| format!("  {}", text(&one["capability"])))
        .collect();
    match unused.is_empty() {
        true => contacts,
        false => format!(
            "{contacts}\n\nallowed and never used:\n{}",
            unused.join("\n")
        ),
    }
}

/// Unix ms as RFC 3339; nothing when absent.
fn time(value: &Value) -> String {
    let time = value.as_i64().map(Timestamp);
    time.map(|time| time.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_all_that_is_known() {
        let list = json!({ "failures": [{
            "at_ms": 0, "plugin": "p", "version": "1.0.0", "code": "panicked", "message": "it panicked",
            "backtrace": ["p::run at src/lib.rs:3:4"],
            "log": [{ "level": "info", "source": "log", "message": "about to" }],
            "input": { "attempt": 1 }, "report": { "cpu_us": 5 },
        }]});
        assert_eq!(
            shown_failures(&list),
            "1970-01-01T00:00:00.000Z p 1.0.0 panicked: it panicked\n    p::run at src/lib.rs:3:4\n  \
             log info about to\n  asked {\"attempt\":1}\n  used {\"cpu_us\":5}"
        );
        assert_eq!(shown_failures(&json!({})), "no failure is on record");
    }

    #[test]
    fn what_is_allowed_and_never_used_is_told() {
        let list = json!({
            "contacts": [{ "version": "1.0.0", "host": "a:443", "contacts": 2, "refused": 0 }],
            "allowed": [{ "capability": "http a", "used": true }, { "capability": "http b", "used": false }],
        });
        assert!(shown_contacts(&list).ends_with("allowed and never used:\n  http b"));
    }
}
