//! The breakers of this process: one for each installation that was called, with the version that it runs.
//!
//! An installation's settings are its own, so its faults are: a check that is set up badly stops neither the
//! tenant's other checks nor anybody else's. Changed settings and another version begin with a closed breaker.
//! What is open is shared with other processes and kept over restarts by the rows of `plugin_breaker`.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;
use shoal_model::breaker::{Admission, Breaker, Change, Health, State, WINDOW};
use shoal_model::{TenantId, Timestamp};
use shoal_runtime::CallError;

use super::Running;
use super::calls::Refused;
use crate::clock::Clock;
use crate::db::plugin_health::BreakerRow;
use crate::db::plugins::VersionRow;
use crate::random;

/// As many as there are enabled installations.
#[derive(Default)]
pub(super) struct Breakers(Mutex<All>);

#[derive(Default)]
struct All {
    entries: HashMap<TenantId, HashMap<String, Entry>>,
    /// Rows of versions and settings that are not called any more.
    outdated: Vec<(TenantId, String, String)>,
}

struct Entry {
    digest: String,
    revision: i64,
    breaker: Breaker,
    /// The failure that opened it.
    reason: String,
    opened_at: Timestamp,
    called_at: Timestamp,
    /// Changed since it was written.
    is_dirty: bool,
}

/// Leave to make one call; what became of it is told with [`Ticket::settle`].
pub(super) struct Ticket<'a> {
    breakers: &'a Breakers,
    clock: &'a Clock,
    running: &'a Running,
    version: &'a VersionRow,
    admission: Admission,
    is_settled: bool,
}

/// A breaker that changed, to be written.
pub(super) enum Changed {
    /// It is open.
    Open(BreakerRow),
    /// It is closed, or nobody calls the version any more.
    Closed(TenantId, String, String),
}

/// How a version is, in all tenants.
#[derive(Debug, Default)]
pub(super) struct Spread {
    /// Tenants for which it is open.
    pub(super) open: HashSet<TenantId>,
    /// Tenants that called it lately.
    pub(super) calling: HashSet<TenantId>,
    /// Breakers that are open, and those that let one call through.
    pub(super) states: HashMap<&'static str, u64>,
    /// The failure that opened one of them.
    pub(super) reason: String,
}

/// A breaker as it is shown.
pub struct ShownBreaker {
    /// Where it stands.
    pub state: State,
    /// Calls and faults of this process within the window.
    pub counts: (u64, u64),
    /// How often in a row it opened.
    pub openings: u32,
    /// The failure that opened it last; empty while it never did.
    pub reason: String,
}

impl Breakers {
    /// Asks to call a version for an installation.
    pub(super) fn admit<'a>(
        &'a self,
        clock: &'a Clock,
        running: &'a Running,
        version: &'a VersionRow,
    ) -> Result<Ticket<'a>, Refused> {
        let now = clock.now();
        let mut all = self.0.lock();
        let entry = all.entry(running, version, now);
        entry.called_at = now;
        match entry.breaker.admit(now) {
            Admission::Refused { until } => Err(Refused::Open {
                until,
                reason: entry.reason.clone(),
            }),
            admission => Ok(Ticket {
                breakers: self,
                clock,
                running,
                version,
                admission,
                is_settled: false,
            }),
        }
    }

    /// What changed since it was asked last. What could not be written is said again with [`Breakers::unwritten`].
    pub(super) fn changed(&self) -> Vec<Changed> {
        let mut all = self.0.lock();
        let outdated = std::mem::take(&mut all.outdated);
        let closed = |(tenant, id, digest)| Changed::Closed(tenant, id, digest);
        let mut changed: Vec<Changed> = outdated.into_iter().map(closed).collect();
        for (tenant, entries) in &mut all.entries {
            for (id, entry) in entries.iter_mut().filter(|(_, entry)| entry.is_dirty) {
                entry.is_dirty = false;
                changed.push(match entry.breaker.state() {
                    State::Open { until } => Changed::Open(entry.row(*tenant, id, until)),
                    // A trial in progress is as good as open: whoever reads it waits for its end.
                    State::Trial => continue,
                    State::Closed => Changed::Closed(*tenant, id.clone(), entry.digest.clone()),
                });
            }
        }
        changed
    }

    /// A change that is to be written again.
    pub(super) fn unwritten(&self, changed: Changed) {
        let mut all = self.0.lock();
        match changed {
            Changed::Open(row) => {
                let entries = all.entries.get_mut(&row.tenant());
                if let Some(entry) = entries.and_then(|all| all.get_mut(&row.installation_id)) {
                    entry.is_dirty = true;
                }
            }
            Changed::Closed(tenant, id, digest) => all.outdated.push((tenant, id, digest)),
        }
    }

    /// Takes over what other processes, or one before this, found out. `rows` are all that are open.
    pub(super) fn learn(&self, rows: &[BreakerRow], now: Timestamp) {
        let mut all = self.0.lock();
        for row in rows {
            let entries = all.entries.entry(row.tenant()).or_default();
            let entry = entries
                .entry(row.installation_id.clone())
                .or_insert_with(|| Entry::new(&row.digest, row.revision, now));
            if entry.digest == row.digest && entry.revision == row.revision && !entry.is_dirty {
                entry.learn(row);
            }
        }
        let open: HashSet<(TenantId, &str, &str)> = rows
            .iter()
            .map(|row| (row.tenant(), &*row.installation_id, &*row.digest))
            .collect();
        for (tenant, entries) in &mut all.entries {
            for (id, entry) in entries {
                let is_open = entry.breaker.state() != State::Closed;
                let is_stored = open.contains(&(*tenant, id.as_str(), entry.digest.as_str()));
                if is_open && !is_stored && !entry.is_dirty {
                    entry.breaker.close(now);
                }
            }
        }
    }

    /// Forgets installations that are not enabled any more.
    pub(super) fn retain(&self, is_enabled: impl Fn(TenantId, &str) -> bool) {
        let mut all = self.0.lock();
        for (tenant, entries) in &mut all.entries {
            entries.retain(|id, _| is_enabled(*tenant, id));
        }
        all.entries.retain(|_, entries| !entries.is_empty());
    }

    /// Closes the breakers of a version, in every tenant.
    pub(super) fn close_all(&self, digest: &str, now: Timestamp) {
        let mut all = self.0.lock();
        let entries = all.entries.values_mut().flat_map(HashMap::values_mut);
        for entry in entries.filter(|entry| entry.digest == digest) {
            entry.breaker.close(now);
            entry.is_dirty = true;
        }
    }

    /// How each version is that somebody called lately or that is open for somebody.
    pub(super) fn spread(&self, now: Timestamp) -> HashMap<String, Spread> {
        let all = self.0.lock();
        let mut spread: HashMap<String, Spread> = HashMap::new();
        for (tenant, entries) in &all.entries {
            for entry in entries.values() {
                let of_version = spread.entry(entry.digest.clone()).or_default();
                if now.since(entry.called_at) < WINDOW {
                    of_version.calling.insert(*tenant);
                }
                let state = entry.breaker.state();
                if state != State::Closed {
                    of_version.open.insert(*tenant);
                    *of_version.states.entry(state.as_str()).or_default() += 1;
                    of_version.reason.clone_from(&entry.reason);
                }
            }
        }
        spread
    }

    /// An installation's breaker; `None` while it was not called.
    pub(super) fn shown(
        &self,
        tenant: TenantId,
        installation: &str,
        now: Timestamp,
    ) -> Option<ShownBreaker> {
        let all = self.0.lock();
        let entry = all.entries.get(&tenant)?.get(installation)?;
        Some(ShownBreaker {
            state: entry.breaker.state(),
            counts: entry.breaker.counts(now),
            openings: entry.breaker.openings(),
            reason: entry.reason.clone(),
        })
    }

    fn record(&self, ticket: &Ticket<'_>, health: Health, error: Option<&CallError>) -> bool {
        let now = ticket.clock.now();
        let mut all = self.0.lock();
        let (row, digest) = (&ticket.running.row, &ticket.version.digest);
        let entries = all.entries.get_mut(&row.tenant());
        let Some(entry) = entries.and_then(|entries| entries.get_mut(&row.id)) else {
            return false;
        };
        if entry.digest != *digest || entry.revision != row.revision {
            return false;
        }
        let change = entry
            .breaker
            .record(ticket.admission, health, now, random::chance());
        if change.is_some() {
            entry.is_dirty = true;
        }
        let is_opened = matches!(change, Some(Change::Opened { .. }));
        if is_opened {
            entry.opened_at = now;
            entry.reason = error.map(ToString::to_string).unwrap_or_default();
        }
        is_opened
    }
}

impl Ticket<'_> {
    /// Says what became of the call. Returns whether that opened the breaker.
    pub(super) fn settle(mut self, health: Health, error: Option<&CallError>) -> bool {
        self.is_settled = true;
        self.breakers.record(&self, health, error)
    }
}

/// A call that was dropped tells nothing, but another trial may begin.
impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if !self.is_settled {
            self.breakers.record(self, Health::Unknown, None);
        }
    }
}

impl All {
    /// The entry of an installation as it runs.
    fn entry(&mut self, running: &Running, version: &VersionRow, now: Timestamp) -> &mut Entry {
        let (tenant, row) = (running.row.tenant(), &running.row);
        let entries = self.entries.entry(tenant).or_default();
        let is_same =
            |entry: &Entry| entry.digest == version.digest && entry.revision == row.revision;
        if !entries.get(&row.id).is_some_and(is_same) {
            let fresh = Entry::new(&version.digest, row.revision, now);
            if let Some(old) = entries.insert(row.id.clone(), fresh)
                && old.breaker.state() != State::Closed
            {
                self.outdated.push((tenant, row.id.clone(), old.digest));
            }
        }
        entries.get_mut(&row.id).expect("it was put there just now")
    }
}

impl Entry {
    fn new(digest: &str, revision: i64, now: Timestamp) -> Entry {
        Entry {
            digest: digest.to_owned(),
            revision,
            breaker: Breaker::default(),
            reason: String::new(),
            opened_at: now,
            called_at: Timestamp(0),
            is_dirty: false,
        }
    }

    fn learn(&mut self, row: &BreakerRow) {
        let until = Timestamp(row.until_ms);
        let is_news = match self.breaker.state() {
            State::Closed => true,
            State::Open { until: known } => until > known,
            State::Trial => false,
        };
        if is_news {
            self.breaker = Breaker::open(until, u32::try_from(row.openings).unwrap_or(1));
            self.opened_at = Timestamp(row.opened_at_ms);
            self.reason.clone_from(&row.reason);
        }
    }

    fn row(&self, tenant: TenantId, installation: &str, until: Timestamp) -> BreakerRow {
        BreakerRow {
            tenant_id: tenant.0,
            installation_id: installation.to_owned(),
            digest: self.digest.clone(),
            revision: self.revision,
            openings: i64::from(self.breaker.openings()),
            opened_at_ms: self.opened_at.0,
            until_ms: until.0,
            reason: self.reason.clone(),
        }
    }
}
