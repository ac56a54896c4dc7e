//! `shoal query`: asks PromQL and prints the answer.

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};
use shoal_model::Timestamp;

use super::client::{Client, segment};
use super::job::time;
use super::output::{Output, Table, text};

#[derive(Args)]
pub(super) struct QueryCommand {
    /// The query.
    promql: String,
    /// Whose series; needs an operator's key [default: those of the key].
    #[arg(long)]
    tenant: Option<String>,
    /// At which time, RFC 3339 or Unix milliseconds [default: now].
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with_all = ["start", "end", "step"])]
    at: Option<Timestamp>,
    /// Start of a range.
    #[arg(long, value_name = "TIME", value_parser = time, requires = "end")]
    start: Option<Timestamp>,
    /// End of a range.
    #[arg(long, value_name = "TIME", value_parser = time, requires = "start")]
    end: Option<Timestamp>,
    /// Distance of a range's points, such as 15s or 5m.
    #[arg(long, default_value = "60s", value_name = "DURATION")]
    step: String,
}

pub(super) async fn run(client: &Client, command: QueryCommand, output: Output) -> Result<()> {
    let answer = client.get(&path(&command)).await?;
    if answer["status"] != "success" {
        bail!("the query failed: {}", text(&answer["error"]));
    }
    for warning in answer["warnings"].as_array().into_iter().flatten() {
        output.warn(&text(warning));
    }
    output.show(&answer, |answer| table(&answer["data"]).to_string());
    Ok(())
}

fn path(command: &QueryCommand) -> String {
    let mut path = match (command.start, command.end) {
        (Some(start), Some(end)) => format!(
            "/prometheus/api/v1/query_range?start={}&end={}&step={}&query={}",
            seconds(start),
            seconds(end),
            segment(&command.step),
            segment(&command.promql)
        ),
        _ => format!(
            "/prometheus/api/v1/query?query={}",
            segment(&command.promql)
        ),
    };
    if let Some(at) = command.at {
        path += &format!("&time={}", seconds(at));
    }
    if let Some(tenant) = &command.tenant {
        path += &format!("&tenant={}", segment(tenant));
    }
    path
}

/// Unix seconds with milliseconds, as Prometheus takes them.
fn seconds(at: Timestamp) -> String {
    let ms = at.unix_ms();
    format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000))
}

/// One row for each series and time.
fn table(data: &Value) -> Table {
    let is_single = |kind: &str| kind == "scalar" || kind == "string";
    let mut rows = Vec::new();
    if data["resultType"].as_str().is_some_and(is_single) {
        rows.push(row("", &data["result"]));
    } else {
        for series in data["result"].as_array().into_iter().flatten() {
            let name = series_name(&series["metric"]);
            if series["value"].is_array() {
                rows.push(row(&name, &series["value"]));
            }
            let points = series["values"].as_array().into_iter().flatten();
            rows.extend(points.map(|point| row(&name, point)));
        }
    }
    Table::of(&rows.into(), &["series", "time", "value"])
}

/// `[seconds, "value"]` of a series.
fn row(series: &str, point: &Value) -> Value {
    let ms = point[0].as_f64().map(|seconds| (seconds * 1000.0).round());
    let time = ms.map(|ms| Timestamp(ms as i64).to_string());
    json!({ "series": series, "time": time, "value": point[1] })
}

/// `name{label="value"}`.
fn series_name(metric: &Value) -> String {
    let labels = metric.as_object().into_iter().flatten();
    let labels: Vec<String> = labels
        .filter(|(name, _)| *name != "__name__")
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let name = text(&metric["__name__"]);
    format!("{name}{{{}}}", labels.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_shows_a_row_for_each_series() {
        let data = json!({ "resultType": "vector", "result": [
            { "metric": { "__name__": "up", "host": "web-1" }, "value": [1.5, "1"] },
            { "metric": {}, "value": [1.5, "NaN"] },
        ]});
        let line =
            |series: &str, time: &str, value: &str| format!("{series:16}  {time:24}  {value}");
        let lines = [
            line("SERIES", "TIME", "VALUE"),
            line("up{host=\"web-1\"}", "1970-01-01T00:00:01.500Z", "1"),
            line("{}", "1970-01-01T00:00:01.500Z", "NaN"),
        ];
        assert_eq!(table(&data).to_string(), lines.join("\n"));
    }

    #[test]
    fn scalars_and_ranges_show_too() {
        let scalar = json!({ "resultType": "scalar", "result": [1, "2"] });
        assert!(
            table(&scalar)
                .to_string()
                .ends_with("1970-01-01T00:00:01.000Z  2")
        );
        let range = json!({ "resultType": "matrix", "result": [
            { "metric": { "a": "b" }, "values": [[1, "2"], [2, "3"]] },
        ]});
        assert_eq!(table(&range).to_string().lines().count(), 3);
    }

    #[test]
    fn times_and_tenant_go_into_the_address() {
        let command = QueryCommand {
            promql: "a + b".to_owned(),
            tenant: Some("acme".to_owned()),
            at: Some(Timestamp(1_500)),
            start: None,
            end: None,
            step: "60s".to_owned(),
        };
        assert_eq!(
            path(&command),
            "/prometheus/api/v1/query?query=a%20%2B%20b&time=1.500&tenant=acme"
        );
    }
}
