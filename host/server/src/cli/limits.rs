//! `shoal tenant limits`: what a tenant's plugins may use.

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use super::client::{Client, segment};
use super::output::{Output, Table};

#[derive(Args)]
pub(super) struct LimitsCommand {
    /// Whose.
    tenant: String,
    /// Its share of the slots while other tenants wait for one [default: as it is].
    #[arg(long)]
    weight: Option<u32>,
    /// A bound below the deployment's; may be given several times.
    #[arg(long, value_name = "KIND.BOUND=NUMBER")]
    set: Vec<String>,
    /// A bound to take back; may be given several times.
    #[arg(long, value_name = "KIND.BOUND")]
    clear: Vec<String>,
}

pub(super) async fn run(client: &Client, command: LimitsCommand, output: Output) -> Result<()> {
    let path = format!("/api/v1/tenants/{}/plugin-limits", segment(&command.tenant));
    let mut shown = client.get(&path).await?;
    let is_change =
        command.weight.is_some() || !command.set.is_empty() || !command.clear.is_empty();
    if is_change {
        let weight = command.weight.map_or(shown["weight"].clone(), Value::from);
        let limits = changed(&shown["limits"], &command.set, &command.clear)?;
        let body = json!({ "weight": weight, "limits": limits });
        shown = client.put(&path, &body).await?;
    }
    output.show(&shown, |shown| {
        let bounds = Table::of(&listed(shown), &["kind", "bound", "allowed", "set"]);
        format!("weight {}\n{bounds}", shown["weight"])
    });
    Ok(())
}

/// The bounds with some set and some taken back.
fn changed(limits: &Value, set: &[String], clear: &[String]) -> Result<Map<String, Value>> {
    let mut limits = limits.as_object().cloned().unwrap_or_default();
    for text in set {
        let (place, number) = text.split_once('=').with_context(|| {
            format!("{text:?} is not KIND.BOUND=NUMBER, such as check.cpu_ms=50")
        })?;
        let (kind, bound) = parts(place)?;
        let number: u64 = number
            .parse()
            .with_context(|| format!("{text:?}: {number:?} is not a number"))?;
        let of_kind = limits.entry(kind).or_insert_with(|| json!({}));
        of_kind[bound] = json!(number);
    }
    for place in clear {
        let (kind, bound) = parts(place)?;
        let removed = limits
            .get_mut(kind)
            .and_then(Value::as_object_mut)
            .and_then(|of_kind| of_kind.remove(bound));
        if removed.is_none() {
            bail!("{place} is not set");
        }
    }
    Ok(limits)
}

fn parts(place: &str) -> Result<(&str, &str)> {
    place
        .split_once('.')
        .with_context(|| format!("{place:?} is not KIND.BOUND, such as check.cpu_ms"))
}

fn listed(shown: &Value) -> Value {
    let mut rows = Vec::new();
    for (kind, bounds) in shown["effective"].as_object().into_iter().flatten() {
        for (bound, allowed) in bounds.as_object().into_iter().flatten() {
            let set = &shown["limits"][kind][bound];
            rows.push(json!({ "kind": kind, "bound": bound, "allowed": allowed, "set": set }));
        }
    }
    Value::Array(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_set_and_taken_back_one_by_one() {
        let texts = |list: &[&str]| list.iter().map(|&one| one.to_owned()).collect::<Vec<_>>();
        let before = json!({ "check": { "cpu_ms": 50, "wall_ms": 9 } });
        let set = texts(&["check.cpu_ms=40", "billing-rule.fuel=7"]);
        let after = changed(&before, &set, &texts(&["check.wall_ms"])).expect("changed");
        let wanted = json!({ "check": { "cpu_ms": 40 }, "billing-rule": { "fuel": 7 } });
        assert_eq!(Value::Object(after), wanted);
        for (set, clear) in [
            ("check.cpu_ms", ""),
            ("cpu_ms=4", ""),
            ("check.x=y", ""),
            ("", "check.fuel"),
        ] {
            let list = |text: &str| {
                texts(if text.is_empty() {
                    &[]
                } else {
                    std::slice::from_ref(&text)
                })
            };
            assert!(
                changed(&before, &list(set), &list(clear)).is_err(),
                "{set}{clear}"
            );
        }
    }
}
