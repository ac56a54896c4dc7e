//! What a tenant is billed for: a set of what was used, hour by hour.
//!
//! Usage is a *set* keyed by tenant, hour, meter, subject and member, so posting the same thing twice counts once.
//! What plugins use is no set but sums, which their meters (`plugin.…`) give as the hour's quantity.
//! Averages divide by the hours of the month, never by the number of rows: an hour without usage counts as
//! zero. Both rules answer billing errors that Mackerel published (2022-03-31, 2022-10-18).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::id::InvalidId;
use crate::money::Decimal;
use crate::time::{Hour, Month};

/// One kind of usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Meter {
    /// Standard hosts that posted. Subject: the host.
    HostStandard,
    /// Micro hosts (containers) that posted. Subject: the host.
    HostMicro,
    /// Distinct series of a standard host. Subject: the host; member: the series.
    MetricStandard,
    /// Distinct series of a micro host. Subject: the host; member: the series.
    MetricMicro,
    /// Distinct series that belong to no host. Subject: the service; member: the series.
    MetricService,
    /// Checks that ran. Subject: the check.
    CheckExternal,
    /// Calls of plugins. Subject: the plugin; the quantity is how many.
    PluginCalls,
    /// Computing time of plugins. Subject: the plugin; the quantity is milliseconds.
    PluginCpuMs,
    /// What plugins sent to the network. Subject: the plugin; the quantity is bytes.
    PluginBytesOut,
}

impl Meter {
    /// Every meter.
    pub const ALL: [Meter; 9] = [
        Meter::HostStandard,
        Meter::HostMicro,
        Meter::MetricStandard,
        Meter::MetricMicro,
        Meter::MetricService,
        Meter::CheckExternal,
        Meter::PluginCalls,
        Meter::PluginCpuMs,
        Meter::PluginBytesOut,
    ];

    /// Its name in the contract, the API and the database, such as `host.standard`.
    pub fn as_str(self) -> &'static str {
        match self {
            Meter::HostStandard => "host.standard",
            Meter::HostMicro => "host.micro",
            Meter::MetricStandard => "metric.standard",
            Meter::MetricMicro => "metric.micro",
            Meter::MetricService => "metric.service",
            Meter::CheckExternal => "check.external",
            Meter::PluginCalls => "plugin.calls",
            Meter::PluginCpuMs => "plugin.cpu_ms",
            Meter::PluginBytesOut => "plugin.bytes_out",
        }
    }
}

impl fmt::Display for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Meter {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Meter, InvalidId> {
        Meter::ALL
            .into_iter()
            .find(|meter| meter.as_str() == text)
            .ok_or_else(|| InvalidId {
                value: text.chars().take(100).collect(),
                wanted: "a meter such as host.standard",
            })
    }
}

/// Whose usage a series is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// A standard host, by its id.
    StandardHost(String),
    /// A micro host, by its id.
    MicroHost(String),
    /// A service, by its name; empty when the sender named none.
    Service(String),
}

impl Owner {
    /// The meter that counts the owner itself, if one does.
    pub fn own_meter(&self) -> Option<Meter> {
        match self {
            Owner::StandardHost(_) => Some(Meter::HostStandard),
            Owner::MicroHost(_) => Some(Meter::HostMicro),
            Owner::Service(_) => None,
        }
    }

    /// The meter that counts the owner's series.
    pub fn series_meter(&self) -> Meter {
        match self {
            Owner::StandardHost(_) => Meter::MetricStandard,
            Owner::MicroHost(_) => Meter::MetricMicro,
            Owner::Service(_) => Meter::MetricService,
        }
    }

    /// The subject of both meters.
    pub fn subject(&self) -> &str {
        match self {
            Owner::StandardHost(subject) | Owner::MicroHost(subject) | Owner::Service(subject) => {
                subject
            }
        }
    }
}

/// One element of the usage set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Usage {
    /// The hour of the *post*, by the server's clock.
    pub hour: Hour,
    /// Which kind.
    pub meter: Meter,
    /// Whose.
    pub subject: String,
    /// Which of the subject's things: the low 64 bits of a series' fingerprint; 0 for meters that count
    /// subjects.
    pub member: u64,
}

/// How much of one meter one subject used over some closed hours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubjectUsage {
    /// Hours in which it was seen.
    pub active_hours: u32,
    /// Its hourly quantities, summed.
    pub quantity_hours: u64,
}

/// All closed usage of one tenant in one month: what a billing rule is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonthUsage {
    /// Which month.
    pub month: Month,
    /// How many of its hours are closed.
    pub closed_hours: u32,
    /// Meter, then subject. Sorted, so that equal usage is equal bytes.
    pub meters: BTreeMap<Meter, BTreeMap<String, SubjectUsage>>,
}

impl MonthUsage {
    /// A month of which nothing is counted yet.
    pub fn new(month: Month) -> MonthUsage {
        MonthUsage {
            month,
            closed_hours: 0,
            meters: BTreeMap::new(),
        }
    }

    /// Counts what a subject used in one closed hour: `quantity` distinct members, or so much of a sum.
    pub fn count(&mut self, meter: Meter, subject: &str, quantity: u64) {
        let of_hour = SubjectUsage {
            active_hours: 1,
            quantity_hours: quantity,
        };
        self.add(meter, subject, of_hour);
    }

    /// Adds what a subject used over further closed hours.
    pub fn add(&mut self, meter: Meter, subject: &str, further: SubjectUsage) {
        let subjects = self.meters.entry(meter).or_default();
        let usage = subjects.entry(subject.to_owned()).or_default();
        usage.active_hours += further.active_hours;
        usage.quantity_hours += further.quantity_hours;
    }

    /// What all subjects of a meter used together.
    pub fn total(&self, meter: Meter) -> SubjectUsage {
        let subjects = self.meters.get(&meter).into_iter().flatten();
        subjects.fold(SubjectUsage::default(), |sum, (_, of)| SubjectUsage {
            active_hours: sum.active_hours + of.active_hours,
            quantity_hours: sum.quantity_hours + of.quantity_hours,
        })
    }

    /// A quantity of hours as the average over the *month*, closed or not, rounded to billionths.
    pub fn average(&self, quantity_hours: u64) -> Decimal {
        let hours = u64::from(self.month.hours());
        let (whole, rest) = (quantity_hours / hours, quantity_hours % hours);
        let nanos = (rest * 1_000_000_000 + hours / 2) / hours;
        Decimal::from_parts(
            i64::try_from(whole).unwrap_or(i64::MAX),
            i32::try_from(nanos).unwrap_or(0),
        )
        .expect("a rest of less than a whole makes less than a billion billionths")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_survives_a_trip_through_text() {
        for meter in Meter::ALL {
            assert_eq!(meter.as_str().parse(), Ok(meter));
        }
    }

    #[test]
    fn an_average_divides_by_the_hours_of_the_month() {
        let mut usage = MonthUsage::new("2026-11".parse().expect("a month"));
        usage.closed_hours = 1;
        let average = |hours: u64| usage.average(hours).to_string();
        assert_eq!(average(720), "1");
        assert_eq!(average(360), "0.5");
        assert_eq!(average(1), "0.001388889");
        assert_eq!(average(0), "0");
        // The largest rest of the longest month does not round up to a whole.
        let usage = MonthUsage::new("2026-12".parse().expect("a month"));
        assert_eq!(usage.average(2 * 744 - 1).to_string(), "1.998655914");
    }

    proptest::proptest! {
        #[test]
        fn the_order_of_hours_does_not_matter(
            mut hours in proptest::collection::vec((0..Meter::ALL.len(), 0..3u8, 0..1000u64), 0..40),
        ) {
            let counted = |hours: &[(usize, u8, u64)]| {
                let mut usage = MonthUsage::new("2026-11".parse().expect("a month"));
                for (meter, subject, quantity) in hours {
                    usage.count(Meter::ALL[*meter], &format!("web-{subject}"), *quantity);
                }
                usage
            };
            let forwards = counted(&hours);
            hours.reverse();
            proptest::prop_assert_eq!(&counted(&hours), &forwards);
            for meter in Meter::ALL {
                let of_meter = hours.iter().filter(|(at, _, _)| Meter::ALL[*at] == meter);
                let sum: u64 = of_meter.map(|(_, _, quantity)| quantity).sum();
                proptest::prop_assert_eq!(forwards.total(meter).quantity_hours, sum);
            }
        }
    }

    #[test]
    fn hours_of_a_subject_add_up() {
        let mut usage = MonthUsage::new("2026-11".parse().expect("a month"));
        usage.count(Meter::MetricStandard, "web-1", 180);
        usage.count(Meter::MetricStandard, "web-1", 200);
        let of_host = usage.meters[&Meter::MetricStandard]["web-1"];
        assert_eq!(
            of_host,
            SubjectUsage {
                active_hours: 2,
                quantity_hours: 380
            }
        );
    }
}
