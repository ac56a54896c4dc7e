//! Points in time and the hours and months that billing counts in. All in UTC.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

/// Milliseconds in an hour.
pub const HOUR_MS: i64 = 3_600_000;
/// Milliseconds in a day.
pub const DAY_MS: i64 = 24 * HOUR_MS;

impl Timestamp {
    /// Milliseconds since the epoch.
    pub fn unix_ms(self) -> i64 {
        self.0
    }

    /// The hour that this time lies in.
    pub fn hour(self) -> Hour {
        Hour(self.0.div_euclid(HOUR_MS))
    }

    /// How long after `earlier` this is; zero when it is not after.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The latest multiple of `interval` (counted from the epoch, plus `offset`) that is not after this time.
    ///
    /// Slots make work repeatable: whoever evaluates a slot, whenever, evaluates the same time.
    ///
    /// # Panics
    /// When `interval` is shorter than a millisecond.
    pub fn slot(self, interval: Duration, offset: Duration) -> Timestamp {
        let interval = interval.as_millis() as i64;
        assert!(
            interval > 0,
            "a slot needs an interval of at least a millisecond"
        );
        let offset = offset.as_millis() as i64 % interval;
        Timestamp((self.0 - offset).div_euclid(interval) * interval + offset)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;
    fn add(self, duration: Duration) -> Timestamp {
        Timestamp(
            self.0
                .saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        )
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Timestamp;
    fn sub(self, duration: Duration) -> Timestamp {
        Timestamp(
            self.0
                .saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        )
    }
}

/// RFC 3339 in UTC with milliseconds, such as `2026-11-23T23:59:59.999Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.0.div_euclid(DAY_MS);
        let in_day = self.0.rem_euclid(DAY_MS);
        let (year, month, day) = civil_from_days(days);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
            in_day / HOUR_MS,
            in_day / 60_000 % 60,
            in_day / 1000 % 60,
            in_day % 1000
        )
    }
}

/// An hour: the number of whole hours since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hour(pub i64);

impl Hour {
    /// Its first millisecond.
    pub fn start(self) -> Timestamp {
        Timestamp(self.0 * HOUR_MS)
    }

    /// The hour after it.
    pub fn next(self) -> Hour {
        Hour(self.0 + 1)
    }

    /// The month that it lies in.
    pub fn month(self) -> Month {
        Month::of(self.start())
    }
}

/// A calendar month in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Month {
    /// Such as 2026.
    pub year: i32,
    /// 1 to 12.
    pub month: u8,
}

impl Month {
    /// The month that a time lies in.
    pub fn of(time: Timestamp) -> Month {
        let (year, month, _) = civil_from_days(time.0.div_euclid(DAY_MS));
        Month {
            year: year as i32,
            month,
        }
    }

    /// Its first hour.
    pub fn first_hour(self) -> Hour {
        Hour(days_from_civil(i64::from(self.year), self.month, 1) * 24)
    }

    /// The month after it.
    pub fn next(self) -> Month {
        match self.month {
            12 => Month {
                year: self.year + 1,
                month: 1,
            },
            month => Month {
                year: self.year,
                month: month + 1,
            },
        }
    }

    /// How many hours it has: 672 to 744.
    pub fn hours(self) -> u32 {
        (self.next().first_hour().0 - self.first_hour().0) as u32
    }
}

/// Such as `2026-11`.
impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

impl std::str::FromStr for Month {
    type Err = crate::id::InvalidId;
    fn from_str(text: &str) -> Result<Month, Self::Err> {
        let parsed = text
            .split_once('-')
            .filter(|(y, m)| y.len() == 4 && m.len() == 2)
            .and_then(|(y, m)| {
                let month = m.parse().ok().filter(|m| (1..=12).contains(m))?;
                Some(Month {
                    year: y.parse().ok().filter(|y| *y >= 1970)?,
                    month,
                })
            });
        parsed.ok_or_else(|| crate::id::InvalidId {
            value: text.chars().take(100).collect(),
            wanted: "a month such as 2026-11",
        })
    }
}

/// Days since the epoch to year, month, day in the proleptic Gregorian calendar.
/// Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn civil_from_days(days: i64) -> (i64, u8, u8) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let mp = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * mp + 2) / 5 + 1) as u8;
    let month = if mp < 10 { mp + 3 } else { mp - 9 } as u8;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of [`civil_from_days`].
fn days_from_civil(year: i64, month: u8, day: u8) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let mp = (i64::from(month) + 9) % 12;
    let day_of_year = (153 * mp + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_has_its_own_number_of_hours() {
        let hours = |text: &str| text.parse::<Month>().expect("a month").hours();
        assert_eq!(hours("2026-11"), 720);
        assert_eq!(hours("2026-12"), 744);
        assert_eq!(hours("2026-02"), 672);
        assert_eq!(hours("2028-02"), 696);
    }

    #[test]
    fn a_time_shows_as_rfc_3339() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            Timestamp(1_795_478_399_999).to_string(),
            "2026-11-23T23:59:59.999Z"
        );
        assert_eq!(Timestamp(-1).to_string(), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn a_slot_does_not_depend_on_when_it_is_asked_for() {
        let minute = Duration::from_secs(60);
        let offset = Duration::from_secs(7);
        assert_eq!(Timestamp(120_000).slot(minute, offset), Timestamp(67_000));
        assert_eq!(Timestamp(126_999).slot(minute, offset), Timestamp(67_000));
        assert_eq!(Timestamp(127_000).slot(minute, offset), Timestamp(127_000));
    }

    #[test]
    fn every_day_of_four_centuries_survives_a_trip_through_the_calendar() {
        for days in -146_097..146_097 {
            let (y, m, d) = civil_from_days(days);
            assert_eq!(days_from_civil(y, m, d), days);
        }
    }
}
