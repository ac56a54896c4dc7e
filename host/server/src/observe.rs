//! What Shoal knows of itself: counters and gauges that go into the operator's own tenant by the same road as any
//! customer's samples, where ordinary monitors watch them.
//!
//! Recording is a map look-up under a mutex and never waits for storage. Every [`POST_EVERY`] the present
//! values are written as samples; a write that fails is counted and the next one carries newer totals, so
//! nothing needs to be kept.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use shoal_model::telemetry::MetricKind;
use shoal_model::{Labels, TenantId, Timestamp};
use shoal_runtime::Runtime;
use shoal_store::StoreStats;

use crate::app::App;
use crate::db::tenants::Tenant;
use crate::task::Stop;
use crate::telemetry::OwnSample;

/// How often the values are written.
pub const POST_EVERY: Duration = Duration::from_secs(10);

/// Series of its own that Shoal keeps; beyond it new ones are dropped and counted. Every tenant takes about ten, every
/// version of a plugin about thirty.
const SERIES_MAX: usize = 50_000;

/// The register of Shoal's own metrics.
#[derive(Default)]
pub struct Observe {
    series: Mutex<HashMap<Key, Value>>,
    /// The keys of tenants by their numbers: what is counted by number is shown by key.
    tenants: Mutex<HashMap<String, Arc<str>>>,
}

#[derive(PartialEq, Eq, Hash, Clone)]
struct Key {
    name: &'static str,
    labels: Box<[(&'static str, Arc<str>)]>,
}

struct Value {
    kind: MetricKind,
    value: f64,
}

impl Observe {
    /// Adds to a counter. `name` ends in `_total`; the unit is in it.
    pub fn add(&self, name: &'static str, labels: &[(&'static str, &str)], amount: f64) {
        self.change(name, labels, MetricKind::Counter, |value| *value += amount);
    }

    /// Sets a counter that something else keeps. `name` ends in `_total`; the unit is in it.
    pub fn set_total(&self, name: &'static str, labels: &[(&'static str, &str)], total: f64) {
        self.change(name, labels, MetricKind::Counter, |present| {
            *present = total
        });
    }

    /// Sets a gauge.
    pub fn set(&self, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        self.change(name, labels, MetricKind::Gauge, |present| *present = value);
    }

    /// Takes over what the store counts.
    fn store(&self, stats: &StoreStats) {
        for (name, value) in [
            ("shoal_store_head_samples", stats.head_samples),
            ("shoal_store_head_bytes", stats.head_bytes),
            ("shoal_store_log_bytes", stats.log_bytes),
            ("shoal_store_log_max_bytes", stats.log_max_bytes),
            ("shoal_store_segments", stats.segments),
            ("shoal_store_segment_bytes", stats.segment_bytes),
            ("shoal_store_segment_samples", stats.segment_samples),
            ("shoal_store_usage_pending", stats.usage_pending),
        ] {
            self.set(name, &[], value as f64);
        }
        for (name, total) in [
            (
                "shoal_store_samples_committed_total",
                stats.samples_committed_total,
            ),
            ("shoal_store_commits_total", stats.commits_total),
            (
                "shoal_store_flush_failures_total",
                stats.flush_failures_total,
            ),
        ] {
            self.set_total(name, &[], total as f64);
        }
        for (tenant, stats) in &stats.tenants {
            let tenant = tenant.to_string();
            let series = stats.active_series as f64;
            self.set("shoal_store_active_series", &[("tenant", &tenant)], series);
        }
    }

    /// Takes over what the runtime counts.
    fn runtime(&self, runtime: &Runtime) {
        let (stats, compiled) = (runtime.stats(), runtime.compile_stats());
        for (result, total) in [("hit", compiled.hits), ("miss", compiled.misses)] {
            let labels = [("result", result)];
            self.set_total("shoal_runtime_compile_cache_total", &labels, total as f64);
        }
        let seconds = compiled.compiling.as_secs_f64();
        self.set_total("shoal_runtime_compile_seconds_total", &[], seconds);
        let suspects = runtime.suspects().len() as f64;
        self.set("shoal_runtime_suspects", &[], suspects);
        self.set("shoal_runtime_slots", &[], stats.slots as f64);
        self.set(
            "shoal_runtime_instances",
            &[("state", "live")],
            stats.live as f64,
        );
        self.set(
            "shoal_runtime_instances",
            &[("state", "idle")],
            stats.idle as f64,
        );
    }

    fn change(
        &self,
        name: &'static str,
        labels: &[(&'static str, &str)],
        kind: MetricKind,
        change: impl FnOnce(&mut f64),
    ) {
        let key = Key {
            name,
            labels: labels
                .iter()
                .map(|(name, value)| (*name, Arc::from(*value)))
                .collect(),
        };
        let mut series = self.series.lock();
        if let Some(present) = series.get_mut(&key) {
            return change(&mut present.value);
        }
        if series.len() >= SERIES_MAX {
            let dropped = Key {
                name: "shoal_observe_dropped_total",
                labels: Box::new([]),
            };
            series
                .entry(dropped)
                .or_insert(Value {
                    kind: MetricKind::Counter,
                    value: 0.0,
                })
                .value += 1.0;
            return;
        }
        let mut first = Value { kind, value: 0.0 };
        change(&mut first.value);
        series.insert(key, first);
    }

    /// Learns the keys by which tenants are shown; one that is not known is shown by its number.
    pub fn name_tenants(&self, tenants: &[Tenant]) {
        let named = tenants
            .iter()
            .map(|tenant| (tenant.id.to_string(), Arc::from(tenant.key.as_str())));
        *self.tenants.lock() = named.collect();
    }

    /// The present values as samples of one time.
    pub fn samples(&self, at: Timestamp) -> Vec<OwnSample> {
        let (tenants, series) = (self.tenants.lock(), self.series.lock());
        let shown = |name: &str, value: &Arc<str>| match name {
            "tenant" => tenants.get(&**value).unwrap_or(value).clone(),
            _ => value.clone(),
        };
        let samples = series.iter().map(|(key, value)| {
            let labels = key
                .labels
                .iter()
                .map(|(name, value)| (*name, shown(name, value)));
            // Metrics of jobs say `job` themselves.
            let is_own = key.labels.iter().any(|(name, _)| *name == "job");
            let source = (!is_own).then(|| ("job", Arc::from("shoal")));
            OwnSample {
                labels: Labels::from_pairs(
                    labels
                        .chain([("__name__", Arc::from(key.name))])
                        .chain(source),
                ),
                kind: value.kind,
                owner: None,
                at,
                value: value.value,
            }
        });
        samples.collect()
    }
}

/// Writes Shoal's own metrics every [`POST_EVERY`] until it is told to stop.
pub async fn post_regularly(app: Arc<App>, mut stop: Stop) {
    while stop.sleep(POST_EVERY).await {
        post(&app).await;
    }
}

/// Writes Shoal's own metrics once.
pub async fn post(app: &App) {
    let observe = &app.observe;
    observe.store(&app.store.stats());
    observe.runtime(app.plugins.runtime());
    app.calls.publish();
    match app.db.system().tenants().await {
        Ok(tenants) => observe.name_tenants(&tenants),
        Err(error) => tracing::warn!(%error, "tenants made lately are shown by number"),
    }
    let samples = observe.samples(app.clock.now());
    if let Err(error) = app.telemetry.samples.write(TENANT, samples).await {
        observe.add("shoal_observe_failures_total", &[], 1.0);
        tracing::warn!(%error, "Shoal's own metrics were not all written");
    }
}

/// Whose samples they are.
pub const TENANT: TenantId = TenantId::OPERATOR;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_add_up_and_gauges_stand() {
        let observe = Observe::default();
        observe.add("shoal_x_total", &[("tenant", "a")], 1.0);
        observe.add("shoal_x_total", &[("tenant", "a")], 2.0);
        observe.set("shoal_y", &[], 7.0);
        observe.set("shoal_y", &[], 8.0);
        let mut shown: Vec<(String, f64)> = observe
            .samples(Timestamp(1))
            .into_iter()
            .map(|s| (s.labels.to_string(), s.value))
            .collect();
        shown.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(
            shown,
            [
                ("shoal_x_total{job=\"shoal\", tenant=\"a\"}".to_owned(), 3.0),
                ("shoal_y{job=\"shoal\"}".to_owned(), 8.0)
            ]
        );
    }

    #[test]
    fn tenants_are_counted_by_number_and_shown_by_key() {
        let observe = Observe::default();
        observe.add("shoal_x_total", &[("tenant", "2")], 1.0);
        observe.name_tenants(&[Tenant {
            id: 2,
            key: "acme".to_owned(),
            name: "Acme".to_owned(),
            created_at_ms: 0,
        }]);
        let samples = observe.samples(Timestamp(1));
        assert_eq!(samples[0].labels.get("tenant"), Some("acme"));
    }

    #[test]
    fn beyond_the_bound_new_series_are_dropped_and_counted() {
        let observe = Observe::default();
        for at in 0..SERIES_MAX + 2 {
            observe.add("shoal_x_total", &[("at", &at.to_string())], 1.0);
        }
        let samples = observe.samples(Timestamp(1));
        assert_eq!(samples.len(), SERIES_MAX + 1);
        let dropped = samples
            .iter()
            .find(|s| s.labels.metric_name() == Some("shoal_observe_dropped_total"));
        assert_eq!(dropped.map(|s| s.value), Some(2.0));
    }
}
