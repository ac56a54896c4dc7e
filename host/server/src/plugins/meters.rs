//! What plugins do and use, added up in memory: totals by version for the operator's metrics, sums by tenant and hour for
//! bills, and the hosts that were contacted.
//!
//! Adding up is some look-ups under a mutex. Sums of an hour stay until a later hour has begun, so that what is written is
//! always the whole of what this process counted and can be written twice.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use parking_lot::Mutex;
use shoal_model::time::Hour;
use shoal_model::{TenantId, Timestamp};
use shoal_runtime::CallReport;

use crate::db::plugin_usage::{FURTHER_HOSTS, NewContacts, PluginUse};
use crate::db::plugins::VersionRow;
use crate::observe::Observe;
use crate::random;

/// Versions whose calls are counted; further ones are not, until the process is started again.
const VERSIONS_MAX: usize = 10_000;
/// Hosts that wait to be written; further ones are counted together.
const HOSTS_MAX: usize = 10_000;
/// Longest text of what a plugin wanted to reach.
const HOST_MAX_BYTES: usize = 300;
/// Hours for which sums stay in memory after they were written.
const HOURS_KEPT: i64 = 2;
/// Upper bounds of the histogram of durations, in seconds, with their text.
const BOUNDS: [(f64, &str); 9] = [
    (0.000_1, "0.0001"),
    (0.001, "0.001"),
    (0.01, "0.01"),
    (0.1, "0.1"),
    (0.5, "0.5"),
    (1.0, "1"),
    (5.0, "5"),
    (15.0, "15"),
    (f64::INFINITY, "+Inf"),
];
const DAY_MS: i64 = 86_400_000;

pub(super) struct Meters {
    /// Tells this process's sums from others'.
    process: String,
    versions: Mutex<HashMap<String, Totals>>,
    uses: Mutex<HashMap<(TenantId, Hour), BTreeMap<String, Sums>>>,
    /// Connections, and refusals.
    contacts: Mutex<HashMap<ContactKey, [u64; 2]>>,
}

/// Of one component, since the start.
#[derive(Clone)]
struct Totals {
    plugin: String,
    version: String,
    kind: String,
    outcomes: BTreeMap<&'static str, u64>,
    durations: [u64; BOUNDS.len()],
    duration: Duration,
    cpu: Duration,
    queued: Duration,
    bytes_out: u64,
    log_dropped_bytes: u64,
    /// Of the calls since it was published last.
    memory_peak_bytes: u64,
}

#[derive(Default)]
struct Sums {
    calls: u64,
    cpu: Duration,
    bytes_out: u64,
    is_dirty: bool,
}

#[derive(PartialEq, Eq, Hash, Clone)]
struct ContactKey {
    tenant: TenantId,
    plugin: String,
    version: String,
    day: i64,
    host: String,
}

impl Default for Meters {
    fn default() -> Meters {
        Meters {
            process: format!("{:016x}", u64::from_ne_bytes(random::bytes())),
            versions: Mutex::default(),
            uses: Mutex::default(),
            contacts: Mutex::default(),
        }
    }
}

impl Meters {
    /// This process, in rows of sums.
    pub(super) fn process(&self) -> &str {
        &self.process
    }

    /// Counts a call that was not made.
    pub(super) fn refused(&self, version: &VersionRow, code: &'static str) {
        self.of_version(version, |totals| {
            *totals.outcomes.entry(code).or_default() += 1;
        });
    }

    /// Counts a call that ended.
    pub(super) fn called(
        &self,
        version: &VersionRow,
        tenant: TenantId,
        now: Timestamp,
        code: &'static str,
        report: &CallReport,
    ) {
        self.of_version(version, |totals| totals.add(code, report));
        // One for which there was no room used nothing.
        if !matches!(code, "busy" | "deadline-passed" | "wrong-kind") {
            self.add_use(tenant, now.hour(), &version.plugin_id, report);
        }
        let connected = report.contacted.iter().map(|host| (host.as_str(), 0));
        let refused = report.refused.iter().map(|one| (cut(&one.wanted), 1));
        for (host, which) in connected.chain(refused) {
            let key = ContactKey {
                tenant,
                plugin: version.plugin_id.clone(),
                version: version.version.clone(),
                day: now.0.div_euclid(DAY_MS),
                host: host.to_owned(),
            };
            self.add_contact(key, which);
        }
    }

    fn of_version(&self, version: &VersionRow, change: impl FnOnce(&mut Totals)) {
        let mut versions = self.versions.lock();
        if let Some(totals) = versions.get_mut(&version.digest) {
            return change(totals);
        }
        if versions.len() < VERSIONS_MAX {
            let mut totals = Totals::of(version);
            change(&mut totals);
            versions.insert(version.digest.clone(), totals);
        }
    }

    fn add_use(&self, tenant: TenantId, hour: Hour, plugin: &str, report: &CallReport) {
        let mut uses = self.uses.lock();
        let of_hour = uses.entry((tenant, hour)).or_default();
        if !of_hour.contains_key(plugin) {
            of_hour.insert(plugin.to_owned(), Sums::default());
        }
        if let Some(sums) = of_hour.get_mut(plugin) {
            sums.calls += 1;
            sums.cpu += report.cpu;
            sums.bytes_out += report.bytes_out;
            sums.is_dirty = true;
        }
    }

    fn add_contact(&self, key: ContactKey, which: usize) {
        let mut contacts = self.contacts.lock();
        let key = match contacts.len() < HOSTS_MAX || contacts.contains_key(&key) {
            true => key,
            false => ContactKey {
                host: FURTHER_HOSTS.to_owned(),
                ..key
            },
        };
        contacts.entry(key).or_default()[which] += 1;
    }

    /// Sums that grew since they were taken last, each the whole of what this process counted; and forgets those of
    /// hours that are long over.
    pub(super) fn take_uses(&self, now: Timestamp) -> Vec<PluginUse> {
        let mut uses = self.uses.lock();
        let mut taken = Vec::new();
        for ((tenant, hour), plugins) in uses.iter_mut() {
            for (plugin, sums) in plugins.iter_mut().filter(|(_, sums)| sums.is_dirty) {
                sums.is_dirty = false;
                taken.push(PluginUse {
                    tenant: *tenant,
                    hour: *hour,
                    plugin: plugin.clone(),
                    calls: sums.calls,
                    cpu_us: sums.cpu.as_micros() as u64,
                    bytes_out: sums.bytes_out,
                });
            }
        }
        let oldest = now.hour().0 - HOURS_KEPT;
        let has_news = |plugins: &BTreeMap<String, Sums>| plugins.values().any(|s| s.is_dirty);
        uses.retain(|(_, hour), plugins| hour.0 >= oldest || has_news(plugins));
        taken
    }

    /// What could not be written is to be taken again.
    pub(super) fn put_back_uses(&self, uses: &[PluginUse]) {
        let mut all = self.uses.lock();
        for one in uses {
            let of_hour = all.entry((one.tenant, one.hour)).or_default();
            let sums = of_hour.entry(one.plugin.clone()).or_default();
            if sums.calls == 0 {
                // Forgotten meanwhile: these are all.
                sums.calls = one.calls;
                sums.cpu = Duration::from_micros(one.cpu_us);
                sums.bytes_out = one.bytes_out;
            }
            sums.is_dirty = true;
        }
    }

    /// Contacts since they were taken last.
    pub(super) fn take_contacts(&self) -> Vec<NewContacts> {
        let contacts = std::mem::take(&mut *self.contacts.lock());
        let row = |(key, [contacts, refused]): (ContactKey, [u64; 2])| NewContacts {
            tenant: key.tenant,
            plugin: key.plugin,
            version: key.version,
            day: key.day,
            host: key.host,
            contacts,
            refused,
        };
        let mut rows: Vec<NewContacts> = contacts.into_iter().map(row).collect();
        // In one order everywhere, so that two processes that write do not wait for each other in a circle.
        rows.sort_by(|a, b| {
            let key = |row: &NewContacts| (row.tenant, row.plugin.clone(), row.version.clone());
            (key(a), a.day, &a.host).cmp(&(key(b), b.day, &b.host))
        });
        rows
    }

    /// What could not be written is added again.
    pub(super) fn put_back_contacts(&self, rows: Vec<NewContacts>) {
        let mut contacts = self.contacts.lock();
        for row in rows {
            let key = ContactKey {
                tenant: row.tenant,
                plugin: row.plugin,
                version: row.version,
                day: row.day,
                host: row.host,
            };
            let [connected, refused] = contacts.entry(key).or_default();
            *connected += row.contacts;
            *refused += row.refused;
        }
    }

    /// Calls of a version by outcome, since the start.
    pub(super) fn outcomes(&self, digest: &str) -> BTreeMap<&'static str, u64> {
        let versions = self.versions.lock();
        let totals = versions.get(digest);
        totals
            .map(|totals| totals.outcomes.clone())
            .unwrap_or_default()
    }

    /// Hands the totals over as metrics. Components that give themselves the same version are one series there, so theirs
    /// are added up.
    pub(super) fn publish(&self, observe: &Observe) {
        let mut shown: HashMap<[String; 3], Totals> = HashMap::new();
        for totals in self.versions.lock().values_mut() {
            let taken = totals.clone();
            totals.memory_peak_bytes = 0;
            let labels = [&taken.plugin, &taken.version, &taken.kind].map(String::clone);
            match shown.entry(labels) {
                Entry::Vacant(first) => {
                    first.insert(taken);
                }
                Entry::Occupied(mut others) => others.get_mut().merge(&taken),
            }
        }
        for totals in shown.values() {
            totals.publish(observe);
        }
    }
}

impl Totals {
    fn of(version: &VersionRow) -> Totals {
        Totals {
            plugin: version.plugin_id.clone(),
            version: version.version.clone(),
            kind: version.kind.clone(),
            outcomes: BTreeMap::new(),
            durations: [0; BOUNDS.len()],
            duration: Duration::ZERO,
            cpu: Duration::ZERO,
            queued: Duration::ZERO,
            bytes_out: 0,
            log_dropped_bytes: 0,
            memory_peak_bytes: 0,
        }
    }

    fn add(&mut self, code: &'static str, report: &CallReport) {
        *self.outcomes.entry(code).or_default() += 1;
        let seconds = report.duration.as_secs_f64();
        let bucket = BOUNDS.iter().position(|(bound, _)| seconds <= *bound);
        self.durations[bucket.unwrap_or(BOUNDS.len() - 1)] += 1;
        self.duration += report.duration;
        self.cpu += report.cpu;
        self.queued += report.queued;
        self.bytes_out += report.bytes_out;
        self.log_dropped_bytes += report.log_dropped_bytes;
        self.memory_peak_bytes = self.memory_peak_bytes.max(report.memory_peak_bytes);
    }

    /// Adds those of another component.
    fn merge(&mut self, other: &Totals) {
        for (outcome, calls) in &other.outcomes {
            *self.outcomes.entry(outcome).or_default() += calls;
        }
        for (count, more) in self.durations.iter_mut().zip(other.durations) {
            *count += more;
        }
        self.duration += other.duration;
        self.cpu += other.cpu;
        self.queued += other.queued;
        self.bytes_out += other.bytes_out;
        self.log_dropped_bytes += other.log_dropped_bytes;
        self.memory_peak_bytes = self.memory_peak_bytes.max(other.memory_peak_bytes);
    }

    fn publish(&self, observe: &Observe) {
        let labels = [
            ("plugin", self.plugin.as_str()),
            ("version", self.version.as_str()),
            ("kind", self.kind.as_str()),
        ];
        let [plugin, version, kind] = labels;
        for (outcome, calls) in &self.outcomes {
            let labels = [plugin, version, kind, ("outcome", *outcome)];
            observe.set_total("shoal_plugin_calls_total", &labels, *calls as f64);
        }
        let mut calls = 0;
        for (count, (_, bound)) in self.durations.iter().zip(BOUNDS) {
            calls += count;
            let labels = [plugin, version, kind, ("le", bound)];
            observe.set_total(
                "shoal_plugin_duration_seconds_bucket",
                &labels,
                calls as f64,
            );
        }
        for (name, total) in [
            ("shoal_plugin_duration_seconds_count", calls as f64),
            (
                "shoal_plugin_duration_seconds_sum",
                self.duration.as_secs_f64(),
            ),
            ("shoal_plugin_cpu_seconds_total", self.cpu.as_secs_f64()),
            (
                "shoal_plugin_queue_wait_seconds_total",
                self.queued.as_secs_f64(),
            ),
            ("shoal_plugin_bytes_out_total", self.bytes_out as f64),
            (
                "shoal_plugin_log_dropped_bytes_total",
                self.log_dropped_bytes as f64,
            ),
        ] {
            observe.set_total(name, &labels, total);
        }
        if self.memory_peak_bytes > 0 {
            let peak = self.memory_peak_bytes as f64;
            observe.set("shoal_plugin_memory_peak_bytes", &labels, peak);
        }
    }
}

/// At most so much of what a plugin wanted as a row may hold.
fn cut(wanted: &str) -> &str {
    &wanted[..wanted.floor_char_boundary(HOST_MAX_BYTES)]
}

#[cfg(test)]
mod tests;
