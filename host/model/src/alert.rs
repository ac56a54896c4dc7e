//! When a monitor fires and when it is over: a pure function of what was and what is seen.
//!
//! Invariants, kept by the property test below:
//! - an error or missing data that the monitor keeps never changes the severity;
//! - the same slot observed twice changes nothing;
//! - every change of severity is one [`Transition`], and nothing else is.

use crate::time::Timestamp;

/// How bad it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    #[default]
    Ok,
    /// Could not be told.
    Unknown,
    /// Worth a look.
    Warning,
    /// Broken.
    Critical,
}

impl Severity {
    /// Every severity, mildest first.
    pub const ALL: [Severity; 4] = [
        Severity::Ok,
        Severity::Unknown,
        Severity::Warning,
        Severity::Critical,
    ];

    /// Its name, such as `warning`.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Ok => "ok",
            Severity::Unknown => "unknown",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

impl std::str::FromStr for Severity {
    type Err = crate::id::InvalidId;
    fn from_str(text: &str) -> Result<Severity, Self::Err> {
        Severity::ALL
            .into_iter()
            .find(|severity| severity.as_str() == text)
            .ok_or_else(|| crate::id::InvalidId {
                value: text.chars().take(100).collect(),
                wanted: "a severity: ok, unknown, warning or critical",
            })
    }
}

/// Which way a value compares with thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Alert when the value is above the threshold.
    Above,
    /// Alert when the value is below the threshold.
    Below,
}

/// Bounds on a value; the more severe one decides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Which way.
    pub comparison: Comparison,
    /// Where a warning begins.
    pub warning: Option<f64>,
    /// Where it becomes critical.
    pub critical: Option<f64>,
}

impl Thresholds {
    /// What a value means. NaN is an error: it says that the query has no answer.
    pub fn judge(&self, value: f64) -> Evidence {
        if value.is_nan() {
            return Evidence::Error;
        }
        let beyond = |bound: Option<f64>| {
            bound.is_some_and(|bound| match self.comparison {
                Comparison::Above => value > bound,
                Comparison::Below => value < bound,
            })
        };
        if beyond(self.critical) {
            Evidence::Is(Severity::Critical)
        } else if beyond(self.warning) {
            Evidence::Is(Severity::Warning)
        } else {
            Evidence::Is(Severity::Ok)
        }
    }
}

/// What one evaluation found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The target was seen like this.
    Is(Severity),
    /// There was no data about the target.
    Missing,
    /// The evaluation itself failed. Never resolves and never raises.
    Error,
}

/// How a monitor turns evidence into alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// How many evaluations in a row must agree before the severity gets worse; at least 1. Getting better takes one.
    pub max_attempts: u32,
    /// What missing data means; `None` keeps what was.
    pub missing_is: Option<Severity>,
}

/// What is remembered of one target between evaluations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlertState {
    /// As last decided.
    pub severity: Severity,
    /// A worse severity that is not confirmed yet, and how often in a row it, or something still worse, was seen.
    pub pending: Option<(Severity, u32)>,
    /// The latest slot that was judged.
    pub last_slot: Option<Timestamp>,
}

/// One change of severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// What it was.
    pub from: Severity,
    /// What it is.
    pub to: Severity,
}

/// Judges the evidence of one slot.
///
/// Returns the new state and, when the severity changed, the transition. A slot that is not later
/// than the last one changes nothing, so an evaluation may be repeated.
pub fn step(
    state: AlertState,
    rule: Rule,
    slot: Timestamp,
    evidence: Evidence,
) -> (AlertState, Option<Transition>) {
    if state.last_slot.is_some_and(|last| slot <= last) {
        return (state, None);
    }
    let seen = match evidence {
        Evidence::Is(severity) => Some(severity),
        Evidence::Missing => rule.missing_is,
        Evidence::Error => None,
    };
    let mut next = AlertState {
        last_slot: Some(slot),
        ..state
    };
    let Some(seen) = seen else {
        return (next, None);
    };
    if seen <= state.severity {
        next.pending = None;
        next.severity = seen;
    } else {
        let (worse, attempts) = match state.pending {
            Some((worse, attempts)) => (worse.min(seen), attempts + 1),
            None => (seen, 1),
        };
        if attempts >= rule.max_attempts.max(1) {
            next.severity = worse;
            // Seen worse than what is confirmed: that begins to count anew.
            next.pending = (seen > worse).then_some((seen, 1));
        } else {
            next.pending = Some((worse, attempts));
        }
    }
    let changed = next.severity != state.severity;
    (
        next,
        changed.then_some(Transition {
            from: state.severity,
            to: next.severity,
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULE: Rule = Rule {
        max_attempts: 3,
        missing_is: None,
    };

    /// Feeds evidence slot by slot; returns the severity after each.
    fn run(rule: Rule, evidence: &[Evidence]) -> Vec<Severity> {
        let mut state = AlertState::default();
        let mut seen = Vec::new();
        for (at, evidence) in evidence.iter().enumerate() {
            state = step(state, rule, Timestamp(at as i64), *evidence).0;
            seen.push(state.severity);
        }
        seen
    }

    #[test]
    fn an_alert_opens_after_enough_attempts_in_a_row_and_closes_at_once() {
        use Severity::*;
        let is = Evidence::Is;
        let seen = run(
            RULE,
            &[
                is(Critical),
                is(Critical),
                is(Ok),
                is(Critical),
                is(Critical),
                is(Critical),
                is(Ok),
            ],
        );
        assert_eq!(seen, [Ok, Ok, Ok, Ok, Ok, Critical, Ok]);
    }

    #[test]
    fn attempts_of_mixed_severity_confirm_the_milder_one() {
        use Severity::*;
        let is = Evidence::Is;
        let seen = run(
            RULE,
            &[
                is(Critical),
                is(Warning),
                is(Critical),
                is(Critical),
                is(Critical),
            ],
        );
        assert_eq!(seen, [Ok, Ok, Warning, Warning, Critical]);
    }

    #[test]
    fn missing_data_means_what_the_monitor_says() {
        let missing = [Evidence::Is(Severity::Critical), Evidence::Missing];
        let rule = Rule {
            max_attempts: 1,
            missing_is: None,
        };
        assert_eq!(run(rule, &missing)[1], Severity::Critical);
        let rule = Rule {
            max_attempts: 1,
            missing_is: Some(Severity::Unknown),
        };
        assert_eq!(run(rule, &missing)[1], Severity::Unknown);
    }

    #[test]
    fn the_more_severe_threshold_decides() {
        let above = Thresholds {
            comparison: Comparison::Above,
            warning: Some(80.0),
            critical: Some(90.0),
        };
        assert_eq!(above.judge(90.0), Evidence::Is(Severity::Warning));
        assert_eq!(above.judge(90.1), Evidence::Is(Severity::Critical));
        assert_eq!(above.judge(f64::NAN), Evidence::Error);
        let below = Thresholds {
            comparison: Comparison::Below,
            warning: None,
            critical: Some(1.0),
        };
        assert_eq!(below.judge(0.5), Evidence::Is(Severity::Critical));
        assert_eq!(below.judge(1.0), Evidence::Is(Severity::Ok));
    }

    fn evidence() -> impl Strategy<Value = Evidence> {
        prop_oneof![
            (0..4usize).prop_map(|at| Evidence::Is(Severity::ALL[at])),
            Just(Evidence::Missing),
            Just(Evidence::Error),
        ]
    }

    proptest! {
        #[test]
        fn any_history_keeps_the_invariants(
            history in proptest::collection::vec((evidence(), 0i64..3), 0..200),
            max_attempts in 1u32..5,
        ) {
            let rule = Rule { max_attempts, missing_is: None };
            let mut state = AlertState::default();
            let mut slot = 0;
            for (evidence, pause) in history {
                slot += pause;
                let before = state;
                let (after, transition) = step(state, rule, Timestamp(slot), evidence);
                let changed = (before.severity != after.severity)
                    .then_some(Transition { from: before.severity, to: after.severity });
                prop_assert_eq!(transition, changed);
                if before.last_slot == Some(Timestamp(slot)) || !matches!(evidence, Evidence::Is(_)) {
                    prop_assert_eq!(before.severity, after.severity);
                }
                prop_assert_eq!(step(after, rule, Timestamp(slot), evidence), (after, None));
                state = after;
            }
        }
    }
}
