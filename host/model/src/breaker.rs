//! When a plugin is given a rest: a breaker that opens after faults of its code and closes after one good trial.
//!
//! - It opens when, within [`WINDOW`], at least [`FAULTS_MIN`] calls ended by a fault and these were more than half of all
//!   calls: a plugin that one request in a hundred brings down goes on serving the other ninety-nine.
//! - It stays open for [`PAUSE_FIRST`], each further time twice as long up to [`PAUSE_MAX`], less a quarter at most by
//!   chance, so that what broke together is not tried together.
//! - Then one call is let through. It closes the breaker, or opens it for longer. Who was well for [`STEADY_AFTER`] since
//!   begins with the first pause again.
//! - What is nobody's fault, such as no room, counts neither way; that a plugin says no, because its peer is down or its
//!   credential refused, shows that its code works.
//!
//! Time and chance are arguments, so equal histories have equal ends.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Timestamp;

/// How far back calls are counted.
pub const WINDOW: Duration = Duration::from_mins(5);
/// Faults within the window that may open it.
pub const FAULTS_MIN: u64 = 5;
/// The first pause.
pub const PAUSE_FIRST: Duration = Duration::from_secs(30);
/// The longest pause.
pub const PAUSE_MAX: Duration = Duration::from_mins(15);
/// How long after it closed the next pause is the first one again.
pub const STEADY_AFTER: Duration = Duration::from_mins(15);

/// Calls are counted by slots of this length; the window is a whole number of them.
const SLOT: Duration = Duration::from_secs(30);
const SLOTS: i64 = (WINDOW.as_secs() / SLOT.as_secs()) as i64;

/// What a call tells of a plugin's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Its code did what it should, be it that it said no.
    Well,
    /// Its code crashed, used too much or broke its contract.
    Fault,
    /// Nothing: the call did not begin, or was dropped.
    Unknown,
}

/// Whether a call may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Run,
    /// It may, alone: what becomes of it decides for all.
    Trial,
    /// Not before this time.
    Refused {
        /// When the next trial may begin.
        until: Timestamp,
    },
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Calls run.
    Closed,
    /// No call runs before this time; then one does.
    Open {
        /// Which time.
        until: Timestamp,
    },
    /// One call runs, and decides.
    Trial,
}

impl State {
    /// Its name, such as `half-open`.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Open { .. } => "open",
            State::Trial => "half-open",
        }
    }
}

/// What recording a call changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It opened, for the first time or again.
    Opened {
        /// Until when.
        until: Timestamp,
    },
    /// It closed.
    Closed,
}

/// The breaker of one installation and version.
#[derive(Clone, Debug, PartialEq)]
pub struct Breaker {
    state: State,
    /// Oldest first; at most [`SLOTS`].
    window: VecDeque<Slot>,
    /// How often in a row it opened.
    openings: u32,
    closed_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Slot {
    /// Whole slots since the epoch.
    at: i64,
    calls: u64,
    faults: u64,
}

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker {
            state: State::Closed,
            window: VecDeque::new(),
            openings: 0,
            closed_at: None,
        }
    }
}

impl Breaker {
    /// One that was open when it was stored.
    pub fn open(until: Timestamp, openings: u32) -> Breaker {
        Breaker {
            state: State::Open { until },
            openings,
            ..Breaker::default()
        }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// How often in a row it opened.
    pub fn openings(&self) -> u32 {
        self.openings
    }

    /// Calls and faults within the window.
    pub fn counts(&self, now: Timestamp) -> (u64, u64) {
        let present = slot(now);
        let within = self
            .window
            .iter()
            .filter(|slot| is_within(slot.at, present));
        within.fold((0, 0), |(calls, faults), slot| {
            (calls + slot.calls, faults + slot.faults)
        })
    }

    /// Asks to begin a call. Who is let through says later what became of it: [`Breaker::record`].
    pub fn admit(&mut self, now: Timestamp) -> Admission {
        match self.state {
            State::Closed => Admission::Run,
            State::Open { until } if now >= until => {
                self.state = State::Trial;
                Admission::Trial
            }
            State::Open { until } => Admission::Refused { until },
            // The trial may take as long as a call may; who asks meanwhile asks again soon.
            State::Trial => Admission::Refused { until: now + SLOT },
        }
    }

    /// Takes note of a call that was let through as `admission` says. `random` is from 0 to 1.
    pub fn record(
        &mut self,
        admission: Admission,
        health: Health,
        now: Timestamp,
        random: f64,
    ) -> Option<Change> {
        match (admission, self.state, health) {
            (Admission::Refused { .. }, ..) => None,
            (Admission::Trial, State::Trial, Health::Well) => {
                self.close(now);
                Some(Change::Closed)
            }
            (Admission::Trial, State::Trial, Health::Fault) => Some(self.reopen(now, random)),
            (Admission::Trial, State::Trial, Health::Unknown) => {
                // The next one is the trial.
                self.state = State::Open { until: now };
                None
            }
            (Admission::Run, State::Closed, Health::Well | Health::Fault) => {
                self.count(health, now);
                let (calls, faults) = self.counts(now);
                let is_broken = faults >= FAULTS_MIN && faults * 2 > calls;
                (health == Health::Fault && is_broken).then(|| self.reopen(now, random))
            }
            // What began before it opened or closed tells nothing about now.
            _ => None,
        }
    }

    /// Closes it, by a good trial or by hand.
    pub fn close(&mut self, now: Timestamp) {
        self.state = State::Closed;
        self.window.clear();
        self.closed_at = Some(now);
    }

    fn reopen(&mut self, now: Timestamp, random: f64) -> Change {
        let is_steady = self
            .closed_at
            .is_some_and(|closed| now.since(closed) >= STEADY_AFTER);
        if is_steady {
            self.openings = 0;
        }
        self.closed_at = None;
        self.openings = self.openings.saturating_add(1);
        let until = now + pause(self.openings, random);
        self.state = State::Open { until };
        self.window.clear();
        Change::Opened { until }
    }

    fn count(&mut self, health: Health, now: Timestamp) {
        let present = slot(now);
        self.window.retain(|slot| is_within(slot.at, present));
        if self.window.back().is_none_or(|last| last.at != present) {
            self.window.push_back(Slot {
                at: present,
                calls: 0,
                faults: 0,
            });
        }
        if let Some(last) = self.window.back_mut() {
            last.calls += 1;
            last.faults += u64::from(health == Health::Fault);
        }
    }
}

/// How long it stays open the so-manieth time in a row, from 1.
fn pause(openings: u32, random: f64) -> Duration {
    let doublings = openings.clamp(1, 20) - 1;
    let longest = PAUSE_FIRST.saturating_mul(1 << doublings).min(PAUSE_MAX);
    longest.mul_f64(1.0 - random.clamp(0.0, 1.0) / 4.0)
}

fn slot(now: Timestamp) -> i64 {
    now.0.div_euclid(SLOT.as_millis() as i64)
}

/// Whether a slot lies in the window that ends with `present`; none of a time to come does.
fn is_within(at: i64, present: i64) -> bool {
    (present - SLOTS + 1..=present).contains(&at)
}

/// Whether a version is broken for everybody, not for single tenants: it is open in at least three tenants that are a
/// fifth of those that called it lately, or in every tenant that runs it.
///
/// The settings of one tenant alone never decide over others.
pub fn is_broken_everywhere(open: usize, calling: usize, running: usize) -> bool {
    let is_spread = open >= 3 && open * 5 >= calling;
    let is_everywhere = open >= 1 && open >= running;
    is_spread || is_everywhere
}

#[cfg(test)]
mod tests;
