//! What an attempt to tell comes to: done, later or never. Pure.

use std::time::Duration;

use shoal_model::Timestamp;
use shoal_runtime::{CallError, Failure, Receipt};

use crate::db::notifications::{Claimed, Told};

/// Attempts to tell one thing.
pub const ATTEMPTS_MAX: i64 = 100;
/// How long one thing is tried to be told.
pub const AGE_MAX: Duration = Duration::from_hours(24);
/// Attempts of a channel whose plugin fails before another channel stands in: what passes by itself is told where it
/// should be.
pub(super) const ATTEMPTS_ALONE: i64 = 3;
/// The first pause; each further one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_secs(5);
/// The longest pause that we choose ourselves.
const PAUSE_MAX: Duration = Duration::from_mins(15);
/// The longest pause that a receiver may ask for.
const PAUSE_ASKED_MAX: Duration = Duration::from_hours(6);
/// How long to wait where nobody failed: there was no room, or the channel is disabled.
const PAUSE_WAITING: Duration = Duration::from_secs(30);

/// What an attempt to tell met with.
#[derive(Debug)]
pub(super) enum Met {
    /// The plugin was called.
    Called {
        /// What it said.
        outcome: Result<Receipt, CallError>,
        /// The installation's revision.
        revision: i64,
    },
    /// The plugin cannot run.
    Unable {
        /// Why.
        reason: String,
        /// The installation's revision.
        revision: i64,
    },
    /// The plugin is not called now: it failed too often.
    Resting {
        /// Why.
        reason: String,
        /// When it may be called again, from now.
        after: Duration,
        /// The installation's revision.
        revision: i64,
    },
    /// The plugin is down, and another channel has it.
    StoodIn {
        /// The other channel's name.
        channel: String,
        /// What its receiver said.
        receipt: Receipt,
    },
    /// The installation is disabled.
    Disabled,
    /// There is no such installation.
    Gone,
}

impl Met {
    /// Why the channel's plugin is down, so that another channel should tell it: at once when it is not called at all,
    /// else after some attempts.
    pub(super) fn down(&self, attempts: i64) -> Option<String> {
        match self {
            Met::Resting { reason, .. } => Some(reason.clone()),
            _ if attempts < ATTEMPTS_ALONE => None,
            Met::Unable { reason, .. } => Some(reason.clone()),
            Met::Called {
                outcome: Err(error),
                ..
            } if error.is_plugin_fault() => Some(error.to_string()),
            Met::Called { .. } | Met::StoodIn { .. } | Met::Disabled | Met::Gone => None,
        }
    }
}

/// What becomes of a notification. `is_over`: its alert is closed. `random` is from 0 to 1.
pub(super) fn settle(
    claimed: &Claimed,
    met: Met,
    is_over: bool,
    now: Timestamp,
    random: f64,
) -> Told {
    let again = |error: String, after: Option<Duration>, revision| {
        later(claimed, error, after, revision, now, random)
    };
    match met {
        Met::Called { outcome, revision } => match outcome {
            Ok(receipt) => Told::Delivered(receipt.summary),
            Err(error) => {
                let text = error.to_string();
                match error {
                    CallError::Failed(Failure::Rejected(_) | Failure::Unauthenticated(_))
                    | CallError::WrongKind { .. } => failed(text, revision),
                    CallError::Failed(Failure::Retry { after, .. }) => again(text, after, revision),
                    CallError::Busy { .. } => Told::Waiting {
                        error: text,
                        at: now + PAUSE_FIRST,
                    },
                    // A plugin that misbehaves may do better with another answer of its receiver, or after an upgrade.
                    CallError::Limit(_)
                    | CallError::Panicked { .. }
                    | CallError::Trapped { .. }
                    | CallError::BadAnswer(_)
                    | CallError::WrongTypes(_)
                    | CallError::DeadlinePassed => again(text, None, revision),
                }
            }
        },
        Met::Unable { reason, revision } => again(reason, None, revision),
        Met::Resting {
            reason,
            after,
            revision,
        } => again(reason, Some(after), revision),
        Met::StoodIn { channel, receipt } => Told::Delivered(format!(
            "told through {channel:?} in place of this channel: {}",
            receipt.summary
        )),
        Met::Gone => Told::Failed {
            error: "the channel was deleted".to_owned(),
            installation_revision: None,
        },
        Met::Disabled if is_over && age(claimed, now) > AGE_MAX => Told::Failed {
            error: "the alert was over before the channel was enabled again".to_owned(),
            installation_revision: None,
        },
        Met::Disabled => Told::Waiting {
            error: "the channel is disabled; this is told when it is enabled again".to_owned(),
            at: now + PAUSE_WAITING,
        },
    }
}

fn failed(error: String, revision: i64) -> Told {
    Told::Failed {
        error,
        installation_revision: Some(revision),
    }
}

fn later(
    claimed: &Claimed,
    error: String,
    after: Option<Duration>,
    revision: i64,
    now: Timestamp,
    random: f64,
) -> Told {
    let own = pause(claimed.attempts, random);
    let pause = own.max(after.unwrap_or_default().min(PAUSE_ASKED_MAX));
    if claimed.attempts >= ATTEMPTS_MAX || age(claimed, now) + pause > AGE_MAX {
        let text = format!(
            "given up after {} attempts; the latest: {error}",
            claimed.attempts
        );
        return failed(text, revision);
    }
    Told::Retry {
        error,
        at: now + pause,
    }
}

fn age(claimed: &Claimed, now: Timestamp) -> Duration {
    now.since(Timestamp(claimed.wanted_at_ms))
}

/// How long to wait after an attempt, counted from 1: twice as long each time, up to a bound, less up to a half by
/// chance, so that what failed together is not tried together again.
fn pause(attempt: i64, random: f64) -> Duration {
    let doublings = u32::try_from(attempt.clamp(1, 20) - 1).unwrap_or(0);
    let longest = PAUSE_FIRST.saturating_mul(1 << doublings).min(PAUSE_MAX);
    longest.mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_runtime::FailureDetail;

    fn claimed(attempts: i64) -> Claimed {
        Claimed {
            id: "ntf_0000000000000000".to_owned(),
            alert_id: "alt_0000000000000000".to_owned(),
            installation_id: "ins_0000000000000000".to_owned(),
            attempts,
            claim: attempts,
            unconfirmed: 1,
            wanted_at_ms: 0,
            told_revision: 0,
            told_severity: None,
        }
    }

    fn called(failure: impl FnOnce(FailureDetail) -> Failure) -> Met {
        Met::Called {
            outcome: Err(CallError::Failed(failure(FailureDetail {
                code: "c".to_owned(),
                message: "m".to_owned(),
            }))),
            revision: 7,
        }
    }

    fn settled(met: Met) -> Told {
        settle(&claimed(1), met, false, Timestamp(0), 0.0)
    }

    fn retry(after: Option<u64>) -> Met {
        called(|detail| Failure::Retry {
            detail,
            after: after.map(Duration::from_secs),
        })
    }

    #[test]
    fn pauses_grow_to_a_bound_and_chance_shortens_them_by_half_at_most() {
        assert_eq!(pause(1, 0.0), Duration::from_secs(5));
        assert_eq!(pause(2, 0.0), Duration::from_secs(10));
        assert_eq!(pause(2, 1.0), Duration::from_secs(5));
        assert_eq!(pause(50, 0.0), PAUSE_MAX);
        assert_eq!(pause(i64::MAX, 1.0), PAUSE_MAX / 2);
    }

    #[test]
    fn a_receiver_that_asks_for_patience_gets_it_up_to_a_bound() {
        let at = |after| match settled(retry(after)) {
            Told::Retry { at, .. } => at.since(Timestamp(0)),
            told => panic!("{told:?}"),
        };
        assert_eq!(at(None), PAUSE_FIRST);
        assert_eq!(at(Some(60)), Duration::from_mins(1));
        assert_eq!(at(Some(1_000_000)), PAUSE_ASKED_MAX);
    }

    #[test]
    fn what_is_wrong_for_good_fails_at_once_with_its_reason() {
        for met in [called(Failure::Rejected), called(Failure::Unauthenticated)] {
            let told = settled(met);
            assert!(
                matches!(&told, Told::Failed { error, installation_revision: Some(7) } if error.contains("(c): m")),
                "{told:?}"
            );
        }
    }

    #[test]
    fn what_keeps_failing_is_given_up_by_number_and_by_age() {
        let told = settle(
            &claimed(ATTEMPTS_MAX),
            retry(None),
            false,
            Timestamp(0),
            0.0,
        );
        assert!(
            matches!(&told, Told::Failed { error, .. } if error.starts_with("given up after 100 attempts")),
            "{told:?}"
        );
        let late = Timestamp(0) + AGE_MAX;
        let told = settle(&claimed(2), retry(None), false, late, 0.0);
        assert!(matches!(told, Told::Failed { .. }), "{told:?}");
    }

    #[test]
    fn a_disabled_channel_waits_while_there_is_something_to_tell() {
        let late = Timestamp(0) + AGE_MAX * 2;
        let told = settle(&claimed(1), Met::Disabled, false, late, 0.0);
        assert!(matches!(told, Told::Waiting { .. }), "{told:?}");
        let told = settle(&claimed(1), Met::Disabled, true, late, 0.0);
        assert!(matches!(told, Told::Failed { .. }), "{told:?}");
        let told = settled(Met::Gone);
        assert!(
            matches!(&told, Told::Failed { error, .. } if error == "the channel was deleted"),
            "{told:?}"
        );
    }
}
