//! `shoal job …`

use anyhow::{Context as _, Result, bail};
use chrono::DateTime;
use clap::Subcommand;
use serde_json::{Value, json};
use shoal_model::Timestamp;

use super::client::{Client, segment};
use super::output::{Output, Table, text};

#[derive(Subcommand)]
pub(super) enum JobCommand {
    /// List the jobs.
    List,
    /// Post a run of a job and wait for its end. Posting it again runs it once.
    #[command(after_help = "Example:\n  shoal job run close-usage --at 2026-11-24T10:00:00Z")]
    Run {
        /// The job's name.
        job: String,
        /// For which time, RFC 3339 or Unix milliseconds [default: the job's latest].
        #[arg(long, value_name = "TIME", value_parser = time)]
        at: Option<Timestamp>,
        /// Do not wait for the end.
        #[arg(long)]
        no_wait: bool,
    },
    /// List a job's runs, latest first.
    Runs {
        /// The job's name.
        job: String,
        /// How many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
}

/// How long one request waits; the command asks again until the run has ended.
const WAIT_MS: u64 = 20_000;

pub(super) async fn run(client: &Client, command: JobCommand, output: Output) -> Result<()> {
    match command {
        JobCommand::List => {
            let list = client.get("/api/v1/jobs").await?;
            output.show(&list, |list| job_table(&list["jobs"]).to_string());
            Ok(())
        }
        JobCommand::Run { job, at, no_wait } => {
            let run = post(client, &job, at, no_wait).await?;
            output.show(&run, shown_run);
            match run["status"].as_str() {
                Some("failed") => bail!("the run failed: {}", text(&run["error"])),
                _ => Ok(()),
            }
        }
        JobCommand::Runs { job, limit } => {
            let path = format!("/api/v1/jobs/{}/runs?limit={limit}", segment(&job));
            let list = client.get(&path).await?;
            output.show(&list, |list| run_table(&list["runs"]).to_string());
            Ok(())
        }
    }
}

async fn post(client: &Client, job: &str, at: Option<Timestamp>, no_wait: bool) -> Result<Value> {
    let path = format!("/api/v1/jobs/{}/runs", segment(job));
    let wait_ms = if no_wait { 0 } else { WAIT_MS };
    let mut body = json!({ "wait_ms": wait_ms });
    if let Some(at) = at {
        body["scheduled_at_ms"] = at.unix_ms().into();
    }
    let mut run = client.post(&path, &body).await?;
    // Ends with the run: the server gives up on one that never ends.
    while !no_wait && matches!(run["status"].as_str(), Some("waiting" | "running")) {
        let path = format!("/api/v1/runs/{}?wait_ms={WAIT_MS}", text(&run["id"]));
        run = client.get(&path).await?;
    }
    Ok(run)
}

fn shown_run(run: &Value) -> String {
    let line = format!(
        "{} {} for {}: {}, expected {}, processed {}, failed {}, skipped {}",
        text(&run["job"]),
        text(&run["id"]),
        time_of(&run["scheduled_at_ms"]),
        text(&run["status"]),
        run["expected"],
        run["processed"],
        run["failed"],
        run["skipped"],
    );
    let tenants = &run["tenants"];
    if tenants.as_array().is_none_or(Vec::is_empty) {
        return line;
    }
    let columns = ["tenant", "expected", "processed", "failed", "skipped"];
    format!("{line}\n{}", Table::of(tenants, &columns))
}

fn job_table(jobs: &Value) -> Table {
    let rows = jobs.as_array().into_iter().flatten().map(|job| {
        let last = &job["last_run"];
        json!({
            "job": job["name"],
            "every": format!("{} s", job["period_ms"].as_u64().unwrap_or(0) / 1000),
            "last": time_of(&last["scheduled_at_ms"]),
            "status": last["status"],
            "what": job["summary"],
        })
    });
    Table::of(&rows.collect(), &["job", "every", "last", "status", "what"])
}

fn run_table(runs: &Value) -> Table {
    let rows = runs.as_array().into_iter().flatten().map(|run| {
        let mut row = run.clone();
        row["scheduled"] = time_of(&run["scheduled_at_ms"]).into();
        row
    });
    let columns = [
        "id",
        "scheduled",
        "status",
        "attempt",
        "expected",
        "processed",
        "failed",
        "skipped",
        "error",
    ];
    Table::of(&rows.collect(), &columns)
}

/// Unix ms as RFC 3339; nothing when absent.
fn time_of(value: &Value) -> String {
    let time = value.as_i64().map(Timestamp);
    time.map(|time| time.to_string()).unwrap_or_default()
}

/// RFC 3339 or Unix milliseconds.
pub(super) fn time(text: &str) -> Result<Timestamp> {
    if let Ok(ms) = text.parse() {
        return Ok(Timestamp(ms));
    }
    let time = DateTime::parse_from_rfc3339(text).with_context(|| {
        format!(
            "{text:?} is no time: give RFC 3339 such as 2026-11-24T10:00:00Z, or Unix milliseconds"
        )
    })?;
    Ok(Timestamp(time.timestamp_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rfc_3339_or_milliseconds() {
        assert_eq!(
            time("1795478399999").expect("ms"),
            Timestamp(1_795_478_399_999)
        );
        assert_eq!(
            time("2026-11-24T08:59:59.999+09:00").expect("RFC 3339"),
            Timestamp(1_795_478_399_999)
        );
        let error = time("yesterday").expect_err("no time").to_string();
        assert!(error.starts_with("\"yesterday\" is no time"), "{error}");
    }

    #[test]
    fn a_run_shows_its_counts_and_tenants() {
        let run = json!({
            "id": "run_1", "job": "close-usage", "scheduled_at_ms": 0, "status": "done",
            "expected": 2, "processed": 1, "failed": 0, "skipped": 1,
            "tenants": [{ "tenant": "acme", "expected": 2, "processed": 1, "failed": 0, "skipped": 1 }],
        });
        assert_eq!(
            shown_run(&run),
            "close-usage run_1 for 1970-01-01T00:00:00.000Z: done, expected 2, processed 1, failed 0, skipped 1\n\
             TENANT  EXPECTED  PROCESSED  FAILED  SKIPPED\nacme    2         1          0       1"
        );
    }
}
