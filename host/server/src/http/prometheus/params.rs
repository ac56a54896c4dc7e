//! Parameters of the Prometheus API: in the address, in a form body, or in both.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, Request};
use http::header::CONTENT_TYPE;
use shoal_model::Timestamp;

use super::answer::PrometheusError;
use crate::app::App;
use crate::query::{Grid, Selection, parse_duration};

/// Without a start, what the label endpoints look at: as long as Prometheus' head usually holds.
const SELECTION_DEFAULT: Duration = Duration::from_secs(12 * 3600);

/// Name and value of each parameter, in order; a name may come again.
pub(super) struct Params(Vec<(String, String)>);

impl FromRequest<Arc<App>> for Params {
    type Rejection = PrometheusError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Params, PrometheusError> {
        let query = request.uri().query().unwrap_or_default();
        let mut all: Vec<(String, String)> = pairs(query.as_bytes());
        let content_type = request
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        if content_type.starts_with("application/x-www-form-urlencoded") {
            let body = bytes::Bytes::from_request(request, app)
                .await
                .map_err(|error| PrometheusError::bad_data(error.body_text()))?;
            all.extend(pairs(&body));
        }
        if let Some((name, _)) = all.iter().find(|(_, value)| value.contains('\0')) {
            return Err(PrometheusError::bad_data(format!(
                "the parameter {name} has a NUL character; leave it out"
            )));
        }
        Ok(Params(all))
    }
}

fn pairs(text: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(text).into_owned().collect()
}

impl Params {
    /// The first value of a parameter; an empty one is as good as none.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, value)| n == name && !value.is_empty())
            .map(|(_, value)| &**value)
    }

    pub(super) fn required(&self, name: &str) -> Result<&str, PrometheusError> {
        self.get(name).ok_or_else(|| {
            PrometheusError::bad_data(format!("the parameter {name} is missing or empty"))
        })
    }

    /// Seconds since the epoch, or RFC 3339.
    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, PrometheusError> {
        self.get(name)
            .map(|text| {
                time(text).ok_or_else(|| {
                    invalid(
                        name,
                        text,
                        "a time: seconds since 1970, or 2026-11-24T10:00:00Z",
                    )
                })
            })
            .transpose()
    }

    /// Seconds, or such as `1h30m`.
    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, PrometheusError> {
        self.get(name)
            .map(|text| {
                duration(text)
                    .ok_or_else(|| invalid(name, text, "a duration: seconds, or such as 1h30m"))
            })
            .transpose()
    }

    /// `start`, `end` and `step`.
    pub(super) fn grid(&self) -> Result<Grid, PrometheusError> {
        let (start, end) = (self.required("start")?, self.required("end")?);
        let step = self.required("step")?;
        let missing = |name: &str, text: &str| invalid(name, text, "a time");
        let grid = Grid {
            start: self.time("start")?.ok_or_else(|| missing("start", start))?,
            end: self.time("end")?.ok_or_else(|| missing("end", end))?,
            step: self
                .duration("step")?
                .filter(|step| step.as_millis() > 0)
                .ok_or_else(|| invalid("step", step, "a duration of at least a millisecond"))?,
        };
        if grid.end < grid.start {
            return Err(PrometheusError::bad_data(format!(
                "end ({end}) lies before start ({start})"
            )));
        }
        Ok(grid)
    }

    /// `match[]`, `start`, `end` and `limit`.
    pub(super) fn selection(&self, now: Timestamp) -> Result<Selection, PrometheusError> {
        let end = self.time("end")?.unwrap_or(now);
        Ok(Selection {
            selectors: self
                .0
                .iter()
                .filter(|(name, _)| name == "match[]")
                .map(|(_, value)| value.clone())
                .collect(),
            start: self.time("start")?.unwrap_or(end - SELECTION_DEFAULT),
            end,
            limit: self.limit()?,
        })
    }

    /// At most so many results; `None` for all.
    pub(super) fn limit(&self) -> Result<Option<usize>, PrometheusError> {
        let limit = self
            .get("limit")
            .map(|text| {
                text.parse::<usize>()
                    .map_err(|_| invalid("limit", text, "a whole number"))
            })
            .transpose()?;
        Ok(limit.filter(|limit| *limit > 0))
    }
}

fn invalid(name: &str, text: &str, wanted: &str) -> PrometheusError {
    let text: String = text.chars().take(100).collect();
    PrometheusError::bad_data(format!("{name} is {text:?}, which is not {wanted}"))
}

/// The largest time that is taken, in seconds: far beyond any sample, far below any overflow.
const TIME_MAX_SECONDS: f64 = 1e12;

fn time(text: &str) -> Option<Timestamp> {
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds.abs() <= TIME_MAX_SECONDS)
            .then(|| Timestamp((seconds * 1000.0).round() as i64));
    }
    let parsed = chrono::DateTime::parse_from_rfc3339(text).ok()?;
    Some(Timestamp(parsed.timestamp_millis()))
}

fn duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<f64>() {
        return (0.0..=TIME_MAX_SECONDS)
            .contains(&seconds)
            .then(|| Duration::from_millis((seconds * 1000.0).round() as u64));
    }
    parse_duration(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        Params(pairs(query.as_bytes()))
    }

    #[test]
    fn times_come_as_seconds_or_as_rfc_3339() {
        let at = |query: &str| params(query).time("time").ok().flatten();
        assert_eq!(
            at("time=1435781451.781"),
            Some(Timestamp(1_435_781_451_781))
        );
        assert_eq!(
            at("time=2015-07-01T20:10:51.781Z"),
            Some(Timestamp(1_435_781_451_781))
        );
        assert_eq!(at("time="), None);
        for wrong in ["time=now", "time=1e300", "time=NaN"] {
            assert!(params(wrong).time("time").is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_grid_needs_a_start_an_end_not_before_it_and_a_step() {
        assert!(params("start=0&end=60&step=15").grid().is_ok());
        assert!(params("start=0&end=60&step=1m").grid().is_ok());
        for wrong in [
            "start=0&end=60",
            "start=0&end=60&step=0",
            "start=60&end=0&step=15",
            "start=0&end=60&step=-1",
            "start=x&end=60&step=15",
        ] {
            assert!(params(wrong).grid().is_err(), "{wrong}");
        }
    }

    #[test]
    fn selectors_may_come_several_times() {
        let found = params("match[]=up&match[]=down&limit=5")
            .selection(Timestamp(0))
            .ok()
            .expect("good parameters");
        assert_eq!(found.selectors, ["up", "down"]);
        assert_eq!(found.limit, Some(5));
    }
}
