//! Shadow runs: a version that is tried sees copies of live calls, and what it answers is compared, not used.
//!
//! - A copy is taken only where there is room for it, and run after the live call was answered: nobody waits for it. What
//!   is not copied is counted.
//! - What it would do is suppressed and recorded: writes of telemetry are answered as the live version's were.
//!   Receivers and billing rules have no network.
//! - Answers are compared whole, writes too; nothing is passed over. A live call that failed by itself says nothing and
//!   is counted as skipped.
//! - [`verdict`] says what becomes of it: so many equal answers make it the active version, one other answer ends the
//!   trial, as do [`FAULTS_MAX`] calls on which its code fails.

mod ingest;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use shoal_model::Timestamp;
use shoal_model::usage::MonthUsage;
use shoal_runtime::{
    CallContext, CallError, Ingest, ReceiverRequest, ReceiverResponse, Statement, Terms,
};
use tokio::sync::mpsc::{self, OwnedPermit, Receiver, Sender};

use self::ingest::{Recording, Replaying, Write, Writes};
use super::{Running, Shadow};
use crate::db::plugin_health::ShadowRow;

/// Copies that wait: with the bounds below, 100 MiB at most.
const WAITING_MAX: usize = 16;
/// Largest body of which a copy is taken.
const BODY_MAX_BYTES: usize = 1 << 20;
/// Calls on which a shadow's code may fail.
const FAULTS_MAX: i64 = 3;
/// Longest excerpt of an answer.
const EXCERPT_MAX_CHARS: usize = 1000;

/// The copies that wait, and what is known of each shadow and not written yet.
pub(super) struct Shadows {
    sender: Sender<Copy>,
    waiting: tokio::sync::Mutex<Receiver<Copy>>,
    tallies: Mutex<HashMap<String, Tally>>,
}

/// What was found out about a shadow since it was written last.
pub(super) struct Tally {
    /// The shadow, to decide about it.
    pub(super) shadow: Arc<Shadow>,
    /// The counts.
    pub(super) row: ShadowRow,
}

/// A live call that was answered, with what the live version said.
struct Copy {
    shadow: Arc<Shadow>,
    work: Work,
}

enum Work {
    Receive {
        context: CallContext,
        request: ReceiverRequest,
        live: Result<ReceiverResponse, CallError>,
        writes: Vec<Write>,
    },
    Rate {
        usage: MonthUsage,
        terms: Terms,
        live: Result<Statement, CallError>,
    },
}

/// A copy of a request that is being answered.
pub(super) struct RequestCopy<'a> {
    shadows: &'a Shadows,
    permit: OwnedPermit<Copy>,
    shadow: Arc<Shadow>,
    context: CallContext,
    request: ReceiverRequest,
    writes: Arc<Writes>,
}

/// How a shadow's answer compares with the live one.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Compared {
    Equal,
    Differs { live: String, shadow: String },
    Failed(String),
    Skipped,
}

/// What becomes of a shadow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It becomes the active version.
    Promote(String),
    /// It is tried no longer.
    Abandon(String),
}

/// What is known of a shadow decides; `needed` equal answers prove it.
pub(super) fn verdict(row: &ShadowRow, needed: u32) -> Option<Verdict> {
    if row.differing > 0 {
        let live = row.live_excerpt.as_deref().unwrap_or_default();
        let shadow = row.shadow_excerpt.as_deref().unwrap_or_default();
        return Some(Verdict::Abandon(format!(
            "a shadow run answered otherwise after {} equal answers: {shadow} where the active version answered {live}",
            row.equal
        )));
    }
    if row.failed >= FAULTS_MAX {
        let shadow = row.shadow_excerpt.as_deref().unwrap_or_default();
        return Some(Verdict::Abandon(format!(
            "its code failed on {} copies of live calls; the latest: {shadow}",
            row.failed
        )));
    }
    (row.equal >= i64::from(needed)).then(|| {
        Verdict::Promote(format!(
            "it answered {} copies of live calls as the active version did",
            row.equal
        ))
    })
}

impl Default for Shadows {
    fn default() -> Shadows {
        let (sender, waiting) = mpsc::channel(WAITING_MAX);
        Shadows {
            sender,
            waiting: waiting.into(),
            tallies: Mutex::default(),
        }
    }
}

impl Shadows {
    /// Copies a request, when its installation has a shadow and there is room.
    pub(super) fn of_request(
        &self,
        running: &Running,
        context: &CallContext,
        request: &ReceiverRequest,
    ) -> Option<RequestCopy<'_>> {
        let shadow = running.shadow.as_ref()?;
        let permit = match self.sender.clone().try_reserve_owned() {
            Ok(permit) if request.body.len() <= BODY_MAX_BYTES => permit,
            _ => {
                self.count(shadow, Compared::Skipped);
                return None;
            }
        };
        Some(RequestCopy {
            shadows: self,
            permit,
            shadow: shadow.clone(),
            context: context.clone(),
            request: request.clone(),
            writes: Arc::default(),
        })
    }

    /// Copies a question to a billing rule that was answered.
    pub(super) fn of_usage(
        &self,
        running: &Running,
        usage: &MonthUsage,
        terms: &Terms,
        live: &Result<Statement, CallError>,
    ) {
        let Some(shadow) = &running.shadow else {
            return;
        };
        match self.sender.clone().try_reserve_owned() {
            Ok(permit) => drop(permit.send(Copy {
                shadow: shadow.clone(),
                work: Work::Rate {
                    usage: usage.clone(),
                    terms: terms.clone(),
                    live: live.clone(),
                },
            })),
            Err(_) => self.count(shadow, Compared::Skipped),
        }
    }

    /// Runs the copies that come, one after the other; never returns.
    pub(super) async fn run(&self) {
        let mut waiting = self.waiting.lock().await;
        while let Some(copy) = waiting.recv().await {
            self.try_out(copy).await;
        }
    }

    /// Runs the copies that wait.
    #[cfg(test)]
    pub(super) async fn run_waiting(&self) {
        let mut waiting = self.waiting.lock().await;
        while let Ok(copy) = waiting.try_recv() {
            self.try_out(copy).await;
        }
    }

    /// What was found out since it was taken last.
    pub(super) fn take(&self, now: Timestamp) -> Vec<Tally> {
        let tallies = std::mem::take(&mut *self.tallies.lock());
        let dated = |mut tally: Tally| {
            tally.row.updated_at_ms = now.unix_ms();
            tally
        };
        tallies.into_values().map(dated).collect()
    }

    /// What could not be written is counted again.
    pub(super) fn put_back(&self, tally: Tally) {
        let mut tallies = self.tallies.lock();
        match tallies.get_mut(&tally.row.digest) {
            None => {
                tallies.insert(tally.row.digest.clone(), tally);
            }
            Some(newer) => {
                newer.row.equal += tally.row.equal;
                newer.row.differing += tally.row.differing;
                newer.row.failed += tally.row.failed;
                newer.row.skipped += tally.row.skipped;
                let (live, shadow) = (tally.row.live_excerpt, tally.row.shadow_excerpt);
                newer.row.live_excerpt = newer.row.live_excerpt.take().or(live);
                newer.row.shadow_excerpt = newer.row.shadow_excerpt.take().or(shadow);
            }
        }
    }

    async fn try_out(&self, copy: Copy) {
        let Copy { shadow, work } = copy;
        let installed = &shadow.installed;
        let compared = match work {
            Work::Receive {
                context,
                request,
                live,
                writes,
            } => {
                let replaying = Replaying::new(writes);
                let call = installed
                    .receive(&context, request, replaying.clone())
                    .await;
                let (live_writes, shadow_writes) = replaying.digests();
                let describe = |outcome: &Result<ReceiverResponse, CallError>, writes: &[u128]| {
                    installed.redact(describe_response(outcome, writes))
                };
                let is_equal = live == call.outcome && live_writes == shadow_writes;
                compare(&live, &call.outcome, is_equal, || {
                    let live = describe(&live, &live_writes);
                    (live, describe(&call.outcome, &shadow_writes))
                })
            }
            Work::Rate { usage, terms, live } => {
                let call = installed.rate(&usage, &terms).await;
                let describe = |outcome: &Result<Statement, CallError>| {
                    installed.redact(match outcome {
                        Ok(statement) => describe_statement(statement),
                        Err(error) => cut(&error.to_string()),
                    })
                };
                compare(&live, &call.outcome, live == call.outcome, || {
                    (describe(&live), describe(&call.outcome))
                })
            }
        };
        self.count(&shadow, compared);
    }

    fn count(&self, shadow: &Arc<Shadow>, compared: Compared) {
        let mut tallies = self.tallies.lock();
        let version = &shadow.version;
        let tally = tallies
            .entry(version.digest.clone())
            .or_insert_with(|| Tally {
                shadow: shadow.clone(),
                row: ShadowRow {
                    digest: version.digest.clone(),
                    plugin_id: version.plugin_id.clone(),
                    version: version.version.clone(),
                    ..ShadowRow::default()
                },
            });
        let row = &mut tally.row;
        match compared {
            Compared::Equal => row.equal += 1,
            Compared::Skipped => row.skipped += 1,
            Compared::Differs { live, shadow } => {
                row.differing += 1;
                (row.live_excerpt, row.shadow_excerpt) = (Some(live), Some(shadow));
            }
            Compared::Failed(error) => {
                row.failed += 1;
                row.shadow_excerpt = Some(error);
            }
        }
    }
}

impl RequestCopy<'_> {
    /// The live call's way to the store, listened to.
    pub(super) fn recording(&self, ingest: Arc<dyn Ingest>) -> Arc<dyn Ingest> {
        Recording::new(ingest, self.writes.clone())
    }

    /// Hands the copy over, with the live answer.
    pub(super) fn answered(self, live: &Result<ReceiverResponse, CallError>) {
        let Some(writes) = self.writes.take() else {
            self.shadows.count(&self.shadow, Compared::Skipped);
            return;
        };
        drop(self.permit.send(Copy {
            shadow: self.shadow,
            work: Work::Receive {
                context: self.context,
                request: self.request,
                live: live.clone(),
                writes,
            },
        }));
    }
}

/// Whether an outcome is an answer of the plugin: what it said, be it no.
fn is_answer<T>(outcome: &Result<T, CallError>) -> bool {
    matches!(outcome, Ok(_) | Err(CallError::Failed(_)))
}

fn compare<T>(
    live: &Result<T, CallError>,
    shadow: &Result<T, CallError>,
    is_equal: bool,
    describe: impl FnOnce() -> (String, String),
) -> Compared {
    if !is_answer(live) {
        return Compared::Skipped;
    }
    match shadow {
        Err(error) if error.is_plugin_fault() => Compared::Failed(cut(&error.to_string())),
        // There was no room for it, or no time.
        outcome if !is_answer(outcome) => Compared::Skipped,
        _ if is_equal => Compared::Equal,
        _ => {
            let (live, shadow) = describe();
            Compared::Differs { live, shadow }
        }
    }
}

fn describe_response(outcome: &Result<ReceiverResponse, CallError>, writes: &[u128]) -> String {
    let said = match outcome {
        Ok(response) => format!(
            "status {} {} {:?} retry_after={:?} message={:?} body={:?}",
            response.status,
            response.content_type,
            response.body.len(),
            response.retry_after,
            cut(&response.message),
            cut(&String::from_utf8_lossy(&response.body)),
        ),
        Err(error) => error.to_string(),
    };
    let digests: Vec<String> = writes
        .iter()
        .map(|digest| format!("{digest:032x}"))
        .collect();
    format!("{}; batches written: [{}]", cut(&said), digests.join(", "))
}

fn describe_statement(statement: &Statement) -> String {
    let lines = statement.lines.iter().map(|line| {
        let (quantity, price) = (line.quantity, line.unit_price);
        format!("{}: {quantity} at {price}", line.description)
    });
    let lines: Vec<String> = lines.collect();
    cut(&format!("total {}: {}", statement.total, lines.join("; ")))
}

fn cut(text: &str) -> String {
    text.chars().take(EXCERPT_MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_runtime::{Failure, FailureDetail};

    fn row(equal: i64, differing: i64, failed: i64) -> ShadowRow {
        ShadowRow {
            equal,
            differing,
            failed,
            ..ShadowRow::default()
        }
    }

    #[test]
    fn equal_answers_prove_it_and_one_other_ends_it() {
        assert_eq!(verdict(&row(9, 0, 2), 10), None);
        let is_promoted = |row| matches!(verdict(&row, 10), Some(Verdict::Promote(_)));
        let is_abandoned = |row| matches!(verdict(&row, 10), Some(Verdict::Abandon(_)));
        assert!(is_promoted(row(10, 0, 0)));
        assert!(is_abandoned(row(10, 1, 0)));
        assert!(is_abandoned(row(10, 0, FAULTS_MAX)));
    }

    #[test]
    fn what_says_nothing_of_the_shadow_is_skipped() {
        let said = |code: &str| {
            Err(CallError::Failed(Failure::Rejected(FailureDetail {
                code: code.to_owned(),
                message: String::new(),
            })))
        };
        let panicked = || {
            Err(CallError::Panicked {
                message: "p".to_owned(),
                backtrace: Vec::new(),
            })
        };
        let describe = || (String::new(), String::new());
        let compared = |live: Result<u8, CallError>, shadow: Result<u8, CallError>| {
            compare(&live, &shadow, live == shadow, describe)
        };
        assert_eq!(compared(Ok(1), Ok(1)), Compared::Equal);
        assert_eq!(compared(said("a"), said("a")), Compared::Equal);
        assert!(matches!(
            compared(said("a"), said("b")),
            Compared::Differs { .. }
        ));
        assert!(matches!(
            compared(Ok(1), said("b")),
            Compared::Differs { .. }
        ));
        assert!(matches!(compared(Ok(1), panicked()), Compared::Failed(_)));
        assert_eq!(compared(panicked(), Ok(1)), Compared::Skipped);
        assert_eq!(
            compared(Ok(1), Err(CallError::DeadlinePassed)),
            Compared::Skipped
        );
    }
}
