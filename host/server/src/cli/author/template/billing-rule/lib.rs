//! A billing rule: a price for each standard host, by its average over the month.

use shoal_sdk::billing_rule::{BillingRule, Line, Statement, Terms, Usage};
use shoal_sdk::{Decimal, Failure};

struct Plugin;

/// As plugin.toml describes them; the host has checked them and filled in the defaults.
#[derive(serde::Deserialize)]
struct Settings {
    price: Decimal,
}

impl BillingRule for Plugin {
    type Settings = Settings;

    /// The same usage always costs the same: the clock stands, and nothing can be asked.
    fn rate(usage: &Usage, terms: &Terms, settings: Settings) -> Result<Statement, Failure> {
        let hosts = usage.meters.iter().find(|m| m.meter == "host.standard");
        let Some(hosts) = hosts else {
            return Ok(Statement { lines: Vec::new() });
        };
        let hours: u64 = hosts.subjects.iter().map(|host| host.quantity_hours).sum();
        let hosts = average(hours, u64::from(usage.period.hours.max(1)))?;
        let line = Line::new("standard hosts", "host.standard", hosts, settings.price, terms)?;
        Ok(Statement { lines: vec![line] })
    }
}

shoal_sdk::export_billing_rule!(Plugin);

/// Hours used by hours of the month, in thousandths. Money is never a floating-point number.
fn average(used: u64, of: u64) -> Result<Decimal, Failure> {
    let thousandths = used.saturating_mul(1000).div_ceil(of);
    let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
    text.parse()
        .map_err(|_| Failure::rejected("out-of-range", "there are too many hours"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_sdk::billing_rule::{MeterUsage, Period, SubjectUsage};

    fn rate(hours: &[u64]) -> Vec<Line> {
        let subject = |hours: &u64| SubjectUsage {
            subject: "web".into(),
            active_hours: 1,
            quantity_hours: *hours,
        };
        let usage = Usage {
            period: Period {
                from_unix_ms: 0,
                to_unix_ms: 0,
                hours: 744,
                closed_hours: 744,
            },
            meters: vec![MeterUsage {
                meter: "host.standard".into(),
                subjects: hours.iter().map(subject).collect(),
            }],
        };
        let terms = Terms {
            currency: "JPY".into(),
            currency_digits: 0,
        };
        let settings = shoal_sdk::parse_settings(r#"{ "price": "1000" }"#);
        let statement = Plugin::rate(&usage, &terms, settings.expect("good settings"));
        statement.expect("a statement").lines
    }

    #[test]
    fn a_host_counts_by_the_hours_that_it_was_there() {
        let lines = rate(&[744, 372]);
        assert_eq!(Decimal::from(lines[0].amount), Decimal::from(1500));
    }
}
