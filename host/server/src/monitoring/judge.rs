//! What one slot of a source comes to: a pure function of what is remembered and what was seen.
//!
//! Rules beside those of [`shoal_model::alert::step`]:
//! - A target that is remembered but was not seen has [`Evidence::Missing`]; when the monitor's query was changed since, it
//!   is over instead, because nothing watches it any more.
//! - A target that is OK and was not seen for [`FORGET_AFTER`] is forgotten.
//! - Over [`TARGETS_MAX`] nothing changes and the monitor says so: alerts that are open stay open.
//! - Only targets that changed are written, so that a thousand healthy series cost one row a minute, not a thousand.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use shoal_model::alert::{Evidence, Rule, Severity, step};
use shoal_model::{Labels, Timestamp};

use super::message;
use crate::db::alerts::{Change, Decision, Known, Source, SourceKind, Target};

/// Targets of one monitor. Each is a row that is read once a minute.
pub const TARGETS_MAX: usize = 1000;
/// How long a target that is OK is remembered after it was seen last: a day, so that one that comes by night is
/// missed by day.
pub const FORGET_AFTER: Duration = Duration::from_hours(24);
/// How exactly it is remembered when a target was seen last.
const TOUCH_EVERY: Duration = Duration::from_mins(10);

/// One target as it was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// What tells it from the source's others.
    pub fingerprint: u128,
    /// What it is, for people.
    pub labels: Labels,
    /// How it is.
    pub evidence: Evidence,
    /// The value that was compared, if one was.
    pub value: Option<f64>,
    /// What people are told of it; made of the value when there is none.
    pub message: Option<String>,
}

/// Decides what becomes of every target.
///
/// # Errors
/// Why nothing can be decided, for the tenant; nothing changes then.
pub fn decide(
    source: &Source,
    rule: Rule,
    slot: Timestamp,
    seen: Vec<Seen>,
    known: Known,
) -> Result<Decision, String> {
    check_seen(&seen)?;
    let is_redefined = match &source.kind {
        SourceKind::Query { query, .. } => !known.query.is_empty() && *query != known.query,
        SourceKind::Check => false,
    };
    let mut known: HashMap<u128, Target> = known
        .targets
        .into_iter()
        .map(|target| (target.fingerprint, target))
        .collect();
    let mut decision = Decision::default();
    let mut present = 0;
    for seen in seen {
        if seen.evidence == Evidence::Error {
            decision.error = Some(format!(
                "the value of {} is not a number (NaN), so nothing is known of it",
                seen.labels
            ));
        }
        present += 1;
        let known = known.remove(&seen.fingerprint);
        decision
            .changes
            .extend(judge_seen(source, rule, slot, seen, known));
    }
    let room = TARGETS_MAX.saturating_sub(present);
    let absent = judge_absent(source, rule, slot, is_redefined, room, known)?;
    decision.changes.extend(absent);
    Ok(decision)
}

fn check_seen(seen: &[Seen]) -> Result<(), String> {
    if seen.len() > TARGETS_MAX {
        return Err(too_many(seen.len()));
    }
    let mut fingerprints = HashSet::new();
    match seen.iter().find(|it| !fingerprints.insert(it.fingerprint)) {
        None => Ok(()),
        Some(twice) => Err(format!(
            "the query returns several series that differ in their metric name alone, such as {}; watch one metric, or \
             aggregate them",
            twice.labels
        )),
    }
}

fn too_many(count: usize) -> String {
    format!(
        "{count} series are to be watched, but a monitor watches {TARGETS_MAX} at most; narrow its selectors, or \
         aggregate, such as with max by (host) (…)"
    )
}

fn judge_seen(
    source: &Source,
    rule: Rule,
    slot: Timestamp,
    seen: Seen,
    known: Option<Target>,
) -> Option<Change> {
    let is_new = known.is_none();
    if is_new && seen.evidence == Evidence::Error {
        return None;
    }
    let before = known.unwrap_or_else(|| Target {
        fingerprint: seen.fingerprint,
        labels: seen.labels.clone(),
        state: Default::default(),
        seen_slot: slot,
        value: None,
        alert: None,
    });
    let (state, transition) = step(before.state, rule, slot, seen.evidence);
    let is_written = is_new
        || transition.is_some()
        || before.alert.is_some()
        || state.pending != before.state.pending
        || slot.since(before.seen_slot) >= TOUCH_EVERY;
    let said = transition.map(|transition| {
        let text = seen.message.clone();
        (
            transition,
            text.unwrap_or_else(|| sentence(source, transition.to, seen.value)),
        )
    });
    let is_seen = seen.evidence != Evidence::Error;
    let kept = Change::Keep {
        target: Target {
            labels: seen.labels,
            state,
            seen_slot: if is_seen { slot } else { before.seen_slot },
            value: if is_seen { seen.value } else { before.value },
            ..before
        },
        transition: said,
    };
    is_written.then_some(kept)
}

/// Targets that are remembered but were not seen. `room` is for how many there is some.
fn judge_absent(
    source: &Source,
    rule: Rule,
    slot: Timestamp,
    is_redefined: bool,
    room: usize,
    known: HashMap<u128, Target>,
) -> Result<Vec<Change>, String> {
    let evidence = if is_redefined {
        Evidence::Is(Severity::Ok)
    } else {
        Evidence::Missing
    };
    let total = known.len();
    let is_crowded = total > room;
    let mut kept = 0;
    let mut changes = Vec::new();
    for before in known.into_values() {
        let (state, transition) = step(before.state, rule, slot, evidence);
        let is_well = state.severity == Severity::Ok && state.pending.is_none();
        let is_old = is_redefined || is_crowded || slot.since(before.seen_slot) > FORGET_AFTER;
        if is_well && is_old && before.alert.is_none() {
            changes.push(Change::Forget(before.fingerprint));
            continue;
        }
        kept += 1;
        let said = transition.map(|transition| {
            let text = if is_redefined {
                format!(
                    "{} no longer watches this: its query was changed",
                    source.name
                )
            } else {
                sentence(source, transition.to, None)
            };
            (transition, text)
        });
        if said.is_some() || state.pending != before.state.pending {
            changes.push(Change::Keep {
                target: Target {
                    state,
                    value: None,
                    ..before
                },
                transition: said,
            });
        }
    }
    if kept > room {
        return Err(too_many(TARGETS_MAX - room + kept));
    }
    Ok(changes)
}

fn sentence(source: &Source, to: Severity, value: Option<f64>) -> String {
    match &source.kind {
        SourceKind::Query { thresholds, .. } => {
            message::of_query(&source.name, thresholds, to, value)
        }
        SourceKind::Check => format!("{} is {}", source.name, to.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_model::alert::{AlertState, Comparison, Thresholds};

    const RULE: Rule = Rule {
        max_attempts: 1,
        missing_is: None,
    };

    fn source() -> Source {
        Source {
            id: "mon_0000000000000000".to_owned(),
            name: "cpu".to_owned(),
            kind: SourceKind::Query {
                revision: 1,
                query: "cpu".to_owned(),
                thresholds: Thresholds {
                    comparison: Comparison::Above,
                    warning: None,
                    critical: Some(90.0),
                },
            },
            memo: String::new(),
            channels: None,
        }
    }

    fn seen(host: &str, value: f64) -> Seen {
        let labels = Labels::from_pairs([("host", host)]);
        let SourceKind::Query { thresholds, .. } = source().kind else {
            panic!("it is a monitor");
        };
        Seen {
            fingerprint: labels.fingerprint(),
            labels,
            evidence: thresholds.judge(value),
            value: Some(value),
            message: None,
        }
    }

    fn target(host: &str, severity: Severity) -> Target {
        let labels = Labels::from_pairs([("host", host)]);
        Target {
            fingerprint: labels.fingerprint(),
            labels,
            state: AlertState {
                severity,
                pending: None,
                last_slot: Some(Timestamp(0)),
            },
            seen_slot: Timestamp(0),
            value: Some(1.0),
            alert: (severity != Severity::Ok).then(|| "alt_0000000000000000".to_owned()),
        }
    }

    fn known(targets: Vec<Target>) -> Known {
        Known {
            targets,
            query: "cpu".to_owned(),
        }
    }

    const MINUTE: Timestamp = Timestamp(60_000);

    #[test]
    fn a_healthy_target_that_was_seen_lately_is_not_written() {
        let before = known(vec![target("a", Severity::Ok)]);
        let decided = decide(&source(), RULE, MINUTE, vec![seen("a", 1.0)], before);
        assert_eq!(decided, Ok(Decision::default()));
    }

    #[test]
    fn a_target_that_is_missing_keeps_its_alert_unless_the_monitor_says_otherwise() {
        let before = known(vec![target("a", Severity::Critical)]);
        let decided = decide(&source(), RULE, MINUTE, vec![], before.clone());
        assert_eq!(decided, Ok(Decision::default()));
        let rule = Rule {
            missing_is: Some(Severity::Ok),
            ..RULE
        };
        let decided = decide(&source(), rule, MINUTE, vec![], before).expect("decided");
        let [Change::Keep { transition, .. }] = &decided.changes[..] else {
            panic!("{decided:?}");
        };
        let (transition, message) = transition.as_ref().expect("it is over");
        assert_eq!(transition.to, Severity::Ok);
        assert_eq!(message, "cpu is ok: no data");
    }

    #[test]
    fn a_healthy_target_that_is_long_gone_is_forgotten_and_a_sick_one_is_not() {
        let slot = Timestamp(0) + FORGET_AFTER + Duration::from_secs(1);
        let targets = vec![target("a", Severity::Ok), target("b", Severity::Critical)];
        let decided = decide(&source(), RULE, slot, vec![], known(targets)).expect("decided");
        let forgotten = Labels::from_pairs([("host", "a")]).fingerprint();
        assert_eq!(decided.changes, [Change::Forget(forgotten)]);
    }

    #[test]
    fn a_value_that_is_no_number_changes_nothing_and_is_said() {
        let before = known(vec![target("a", Severity::Critical)]);
        let decided =
            decide(&source(), RULE, MINUTE, vec![seen("a", f64::NAN)], before).expect("decided");
        let error = decided.error.expect("said");
        assert!(error.contains("{host=\"a\"} is not a number"), "{error}");
        for change in decided.changes {
            assert!(
                matches!(&change, Change::Keep { target, transition: None }
                    if target.state.severity == Severity::Critical && target.value == Some(1.0)),
                "{change:?}"
            );
        }
    }

    #[test]
    fn too_many_series_change_nothing_and_the_number_is_named() {
        let many: Vec<Seen> = (0..=TARGETS_MAX)
            .map(|host| seen(&host.to_string(), 99.0))
            .collect();
        let refused = decide(&source(), RULE, MINUTE, many, known(vec![])).expect_err("too many");
        assert!(refused.starts_with("1001 series"), "{refused}");
    }

    #[test]
    fn where_series_come_and_go_the_healthy_ones_that_are_gone_make_room() {
        let gone = (0..TARGETS_MAX)
            .map(|host| target(&format!("old-{host}"), Severity::Ok))
            .collect();
        let fresh = vec![seen("new", 99.0)];
        let decided = decide(&source(), RULE, MINUTE, fresh, known(gone)).expect("decided");
        assert_eq!(decided.changes.len(), TARGETS_MAX + 1);
        let sick = (0..TARGETS_MAX)
            .map(|host| target(&format!("old-{host}"), Severity::Critical))
            .collect();
        let fresh = vec![seen("new", 99.0)];
        decide(&source(), RULE, MINUTE, fresh, known(sick)).expect_err("no room");
    }

    #[test]
    fn series_that_differ_in_their_name_alone_are_refused() {
        let twice = vec![seen("a", 1.0), seen("a", 2.0)];
        let refused = decide(&source(), RULE, MINUTE, twice, known(vec![])).expect_err("twice");
        assert!(refused.contains("{host=\"a\"}"), "{refused}");
    }

    #[test]
    fn a_target_that_a_changed_query_no_longer_returns_is_over() {
        let before = Known {
            targets: vec![target("a", Severity::Critical)],
            query: "memory".to_owned(),
        };
        let decided = decide(&source(), RULE, MINUTE, vec![], before).expect("decided");
        assert!(
            matches!(&decided.changes[..], [Change::Keep { transition: Some((transition, _)), .. }]
                if transition.to == Severity::Ok)
        );
    }
}
