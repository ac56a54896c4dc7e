//! Prices a month as Mackerel did until October 2024.
//!
//! Standard and micro hosts count by their average over the hours of the *month*, rounded up once at the
//! end. What goes beyond a host's allowance of metrics becomes further hosts; service metrics and external
//! checks beyond theirs become standard hosts. Whole numbers throughout: an average is compared as
//! `hours used / hours of the month` and never becomes a fraction.

use shoal_sdk::billing_rule::{BillingRule, Line, MeterUsage, Statement, Terms, Usage};
use shoal_sdk::{Decimal, Failure};

struct MackerelPlan;

#[derive(serde::Deserialize)]
struct Settings {
    #[serde(default)]
    plan: Plan,
    #[serde(default = "standard_price")]
    standard_host_price: Decimal,
    #[serde(default = "micro_price")]
    micro_host_price: Decimal,
    #[serde(default = "two_hundred")]
    metrics_per_standard_host: u64,
    #[serde(default = "thirty")]
    metrics_per_micro_host: u64,
    #[serde(default = "two_hundred")]
    service_metrics_per_host: u64,
    #[serde(default = "twenty")]
    checks_per_host: u64,
    #[serde(default = "five")]
    free_hosts: u64,
}

#[derive(serde::Deserialize, Default, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Plan {
    Free,
    #[default]
    Standard,
}

impl BillingRule for MackerelPlan {
    type Settings = Settings;

    fn rate(usage: &Usage, terms: &Terms, settings: Settings) -> Result<Statement, Failure> {
        let counted = Counted::of(usage, &settings);
        if settings.plan == Plan::Free {
            return settings.free(&counted, terms);
        }
        let (standard, micro) = (settings.standard_host_price, settings.micro_host_price);
        let rows = [
            (
                "standard hosts",
                "host.standard",
                counted.standard_hosts,
                standard,
            ),
            (
                "standard hosts for further host metrics",
                "metric.standard",
                counted.for_standard_metrics,
                standard,
            ),
            (
                "standard hosts for further service metrics",
                "metric.service",
                counted.for_service_metrics,
                standard,
            ),
            (
                "standard hosts for further external checks",
                "check.external",
                counted.for_checks,
                standard,
            ),
            (
                "standard host for services and checks without a host",
                "",
                counted.for_no_host,
                standard,
            ),
            ("micro hosts", "host.micro", counted.micro_hosts, micro),
            (
                "micro hosts for further host metrics",
                "metric.micro",
                counted.for_micro_metrics,
                micro,
            ),
        ];
        let rows = rows.into_iter().filter(|(_, _, units, _)| *units > 0);
        let lines = rows.map(|(description, meter, units, price)| {
            line(description, meter, units, price, terms)
        });
        Ok(Statement {
            lines: lines.collect::<Result<_, _>>()?,
        })
    }
}

shoal_sdk::export_billing_rule!(MackerelPlan);

/// Units of each line, averaged over the month and rounded up.
struct Counted {
    standard_hosts: u64,
    micro_hosts: u64,
    for_standard_metrics: u64,
    for_micro_metrics: u64,
    for_service_metrics: u64,
    for_checks: u64,
    /// 1 when services or checks are used without any standard host: it brings their allowances.
    for_no_host: u64,
}

impl Counted {
    fn of(usage: &Usage, settings: &Settings) -> Counted {
        let month_hours = u64::from(usage.period.hours.max(1));
        let meter = |name: &str| usage.meters.iter().find(|meter| meter.meter == name);
        let hosts = |name| meter(name).map_or(0, |meter| average(hours(meter), month_hours));
        let total = |name| meter(name).map_or(0, |meter| average(quantity(meter), month_hours));
        let further = |name, included| {
            let of_host = |metrics: u64| beyond(average(metrics, month_hours), included);
            meter(name).map_or(0, |meter| {
                meter
                    .subjects
                    .iter()
                    .map(|host| of_host(host.quantity_hours))
                    .sum()
            })
        };
        let (service_metrics, checks) = (total("metric.service"), total("check.external"));
        let standard_hosts = hosts("host.standard");
        Counted {
            standard_hosts,
            micro_hosts: hosts("host.micro"),
            for_standard_metrics: further("metric.standard", settings.metrics_per_standard_host),
            for_micro_metrics: further("metric.micro", settings.metrics_per_micro_host),
            for_service_metrics: beyond(service_metrics, settings.service_metrics_per_host),
            for_checks: beyond(checks, settings.checks_per_host),
            for_no_host: u64::from(standard_hosts == 0 && service_metrics + checks > 0),
        }
    }
}

impl Settings {
    fn free(&self, counted: &Counted, terms: &Terms) -> Result<Statement, Failure> {
        let hosts = counted.standard_hosts + counted.micro_hosts;
        if hosts > self.free_hosts {
            let message = format!(
                "{hosts} hosts are more than the {} of the free plan; set plan to \"standard\" or retire hosts",
                self.free_hosts
            );
            return Err(Failure::rejected("over-free-plan", message));
        }
        let line = line(
            "hosts of the free plan",
            "host.standard",
            hosts,
            Decimal::ZERO,
            terms,
        )?;
        Ok(Statement { lines: vec![line] })
    }
}

fn line(
    description: &str,
    meter: &str,
    units: u64,
    price: Decimal,
    terms: &Terms,
) -> Result<Line, Failure> {
    let out_of_range = || {
        Failure::rejected(
            "out-of-range",
            format!("{units} {description} at {price} are too much"),
        )
    };
    let quantity = i64::try_from(units).map_err(|_| out_of_range())?;
    Line::new(description, meter, Decimal::from(quantity), price, terms).map_err(|_| out_of_range())
}

/// Hours in which the meter's subjects were seen, all together.
fn hours(meter: &MeterUsage) -> u64 {
    meter
        .subjects
        .iter()
        .map(|subject| u64::from(subject.active_hours))
        .sum()
}

fn quantity(meter: &MeterUsage) -> u64 {
    meter
        .subjects
        .iter()
        .map(|subject| subject.quantity_hours)
        .sum()
}

/// The average over the month, rounded up.
fn average(sum: u64, month_hours: u64) -> u64 {
    sum.div_ceil(month_hours)
}

/// How many hosts it takes for what goes beyond the allowance.
fn beyond(used: u64, included: u64) -> u64 {
    used.saturating_sub(included).div_ceil(included.max(1))
}

fn standard_price() -> Decimal {
    Decimal::from(1833)
}

fn micro_price() -> Decimal {
    Decimal::from(660)
}

fn two_hundred() -> u64 {
    200
}

fn thirty() -> u64 {
    30
}

fn twenty() -> u64 {
    20
}

fn five() -> u64 {
    5
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_sdk::billing_rule::{Period, SubjectUsage};

    const HOURS: u32 = 720;

    /// Usage over the whole month: meter, subject, hourly quantity.
    fn month(rows: &[(&str, &str, u64)]) -> Usage {
        partly(HOURS, rows)
    }

    /// Usage over some hours of the month.
    fn partly(active_hours: u32, rows: &[(&str, &str, u64)]) -> Usage {
        let mut meters: Vec<MeterUsage> = Vec::new();
        for (meter, subject, quantity) in rows {
            let subject = SubjectUsage {
                subject: (*subject).to_owned(),
                active_hours,
                quantity_hours: quantity * u64::from(active_hours),
            };
            match meters.iter_mut().find(|present| present.meter == *meter) {
                Some(present) => present.subjects.push(subject),
                None => meters.push(MeterUsage {
                    meter: (*meter).to_owned(),
                    subjects: vec![subject],
                }),
            }
        }
        let period = Period {
            from_unix_ms: 0,
            to_unix_ms: i64::from(HOURS) * 3_600_000,
            hours: HOURS,
            closed_hours: HOURS,
        };
        Usage { period, meters }
    }

    fn yen() -> Terms {
        Terms {
            currency: "JPY".into(),
            currency_digits: 0,
        }
    }

    fn rate(usage: &Usage, settings: &str) -> Result<Statement, Failure> {
        MackerelPlan::rate(
            usage,
            &yen(),
            shoal_sdk::parse_settings(settings).expect("good settings"),
        )
    }

    /// Standard units, micro units and the sum of the amounts.
    fn units(usage: &Usage) -> (i64, i64, i64) {
        let statement = rate(usage, "{}").expect("a statement");
        let of = |price: i64| {
            let lines = statement
                .lines
                .iter()
                .filter(|line| line.unit_price.units == price);
            lines.map(|line| line.quantity.units).sum()
        };
        (
            of(1833),
            of(660),
            statement.lines.iter().map(|line| line.amount.units).sum(),
        )
    }

    #[test]
    fn mackerels_worked_examples_come_out() {
        let example_a = month(&[
            ("host.standard", "a", 1),
            ("host.standard", "b", 1),
            ("host.micro", "m", 1),
            ("metric.standard", "a", 180),
            ("metric.standard", "b", 180),
            ("metric.micro", "m", 20),
            ("metric.service", "s", 90),
            ("check.external", "all", 19),
        ]);
        assert_eq!(units(&example_a), (2, 1, 2 * 1833 + 660));
        let example_b = month(&[
            ("host.standard", "a", 1),
            ("host.standard", "b", 1),
            ("host.micro", "m", 1),
            ("metric.standard", "a", 401),
            ("metric.standard", "b", 180),
            ("metric.micro", "m", 50),
            ("metric.service", "s", 240),
            ("check.external", "all", 30),
        ]);
        assert_eq!(units(&example_b), (6, 2, 6 * 1833 + 2 * 660));
    }

    #[test]
    fn averages_divide_by_the_hours_of_the_month() {
        let hosts: Vec<(String, &str)> = (0..5)
            .map(|at| (format!("h{at}"), "host.standard"))
            .collect();
        let rows: Vec<(&str, &str, u64)> = hosts
            .iter()
            .map(|(host, meter)| (*meter, host.as_str(), 1))
            .collect();
        // Five hosts over 16 of 30 days: 5 · 384 / 720 = 2.67, rounded up once.
        assert_eq!(units(&partly(384, &rows)).0, 3);
        assert_eq!(units(&partly(1, &rows)).0, 1);
        assert_eq!(units(&month(&[])), (0, 0, 0));
    }

    #[test]
    fn services_without_a_host_cost_one() {
        assert_eq!(units(&month(&[("metric.service", "s", 10)])).0, 1);
        assert_eq!(units(&month(&[("metric.service", "s", 201)])).0, 2);
    }

    #[test]
    fn the_free_plan_ends_at_its_hosts() {
        let free = r#"{"plan":"free","free_hosts":1}"#;
        let statement = rate(&month(&[("host.standard", "a", 1)]), free).expect("free");
        assert_eq!(statement.lines[0].amount.units, 0);
        let refused = rate(
            &month(&[("host.standard", "a", 1), ("host.micro", "b", 1)]),
            free,
        )
        .expect_err("too many");
        assert!(
            refused
                .message()
                .starts_with("2 hosts are more than the 1 of the free plan"),
            "{refused:?}"
        );
    }
}
