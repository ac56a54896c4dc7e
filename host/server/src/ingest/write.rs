//! The way of a receiver's metrics into the store.
//!
//! A batch is made into samples with the help of what the tenant's senders said before, appended, and only then
//! answered. A batch too large for one record of the log is appended in parts; when a later part fails the
//! whole is answered as failed, and sending it again stores the same samples once.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::RwLock;
use shoal_model::telemetry::ValidMetrics;
use shoal_model::{Labels, TenantId, Timestamp};
use shoal_runtime::{Committed, Ingest, IngestError, Rejection};
use shoal_store::{AppendError, Samples, SeriesMeta, SeriesRef, Store};

use super::flatten::{Flat, Learned, SeriesFacts, Streams, flatten};
use crate::clock::Clock;
use crate::observe::Observe;
use crate::task::blocking;

/// Samples of one append; a record of them takes about 2 MiB without new series.
const PART_SAMPLES_MAX: usize = 100_000;
/// Points that are made into samples where the call runs: new ones take about a microsecond each.
const INLINE_POINTS_MAX: usize = 500;
/// What is remembered of all tenants' streams, in references of 16 bytes: 256 MiB, two million streams.
const STREAMS_WEIGHT_MAX: usize = 16 << 20;
/// When to send again after something that should not happen.
const ODD_RETRY: Duration = Duration::from_secs(1);

/// What all receivers' writing shares.
pub struct Writer {
    store: Store,
    clock: Clock,
    observe: Arc<Observe>,
    streams: KnownStreams,
}

impl Writer {
    /// Writes into `store`, by `clock`.
    pub fn new(store: Store, clock: Clock, observe: Arc<Observe>) -> Arc<Writer> {
        Arc::new(Writer {
            store,
            clock,
            observe,
            streams: KnownStreams::new(STREAMS_WEIGHT_MAX),
        })
    }

    /// The way of one tenant's metrics.
    pub fn of_tenant(self: &Arc<Writer>, tenant: TenantId) -> Arc<TenantIngest> {
        Arc::new(TenantIngest {
            writer: self.clone(),
            tenant,
        })
    }
}

/// Writes one tenant's metrics.
pub struct TenantIngest {
    writer: Arc<Writer>,
    tenant: TenantId,
}

#[async_trait]
impl Ingest for TenantIngest {
    async fn write_metrics(&self, batch: ValidMetrics) -> Result<Committed, IngestError> {
        let committed = self.write(Arc::new(batch)).await.map_err(ingest_error)?;
        let tenant = self.tenant.to_string();
        for (result, points) in [
            ("accepted", committed.accepted),
            ("rejected", committed.rejected),
        ] {
            self.writer.observe.add(
                "shoal_ingest_points_total",
                &[("tenant", &tenant), ("result", result)],
                points as f64,
            );
        }
        Ok(committed)
    }
}

impl TenantIngest {
    async fn write(&self, batch: Arc<ValidMetrics>) -> Result<Committed, AppendError> {
        let received = self.writer.clock.now();
        let known = self.writer.streams.of_tenant(self.tenant, received);
        let mut flat = self.flat(&batch, Some(&known), received).await;
        let mut learned = std::mem::take(&mut flat.learned);
        self.writer.streams.learn(&known, learned);
        let mut appended = self.append(&flat, received).await;
        if let Err(AppendError::UnknownSeries { .. }) = appended {
            // A series was idle and has been given up since it was learned.
            flat = self.flat(&batch, None, received).await;
            learned = std::mem::take(&mut flat.learned);
            self.writer.streams.learn(&known, learned);
            appended = self.append(&flat, received).await;
        }
        // Those that the store leaves out, which is none unless the tenant's retention has changed just now.
        let left_out = appended?.min(flat.accepted_points);
        Ok(Committed {
            accepted: flat.accepted_points - left_out,
            rejected: flat.refused_points + left_out,
            rejections: flat
                .refused
                .into_iter()
                .map(|refused| Rejection {
                    series: refused.series,
                    points: refused.points,
                    reason: refused.reason,
                })
                .collect(),
        })
    }

    /// Makes samples of a batch; without `known` every series is resolved.
    async fn flat(
        &self,
        batch: &Arc<ValidMetrics>,
        known: Option<&Arc<TenantStreams>>,
        received: Timestamp,
    ) -> Flat<SeriesRef> {
        let (store, tenant) = (self.writer.store.clone(), self.tenant);
        let (shared, known) = (batch.clone(), known.cloned());
        let work = move || {
            let times = store.acceptable_times(tenant, received);
            let resolve = |labels: &Labels, facts: &SeriesFacts| {
                let meta = SeriesMeta {
                    kind: facts.kind,
                    unit: facts.unit.clone(),
                    owner: Some(facts.owner.clone()),
                };
                let found = store.resolve(tenant, labels, meta);
                found.map_err(|reached| reached.to_string())
            };
            match known {
                Some(known) => flatten(&shared, &known.streams.read(), &times, resolve),
                None => flatten(&shared, &Streams::default(), &times, resolve),
            }
        };
        match batch.points() + batch.histograms.bucket_counts.len() {
            ..=INLINE_POINTS_MAX => work(),
            _ => blocking(work).await,
        }
    }

    /// Appends all samples. Returns how many the store left out.
    async fn append(
        &self,
        flat: &Flat<SeriesRef>,
        received: Timestamp,
    ) -> Result<u64, AppendError> {
        let mut parts = parts(flat.series.len());
        let mut left_out = 0;
        while let Some(part) = parts.pop() {
            let samples = Samples {
                series: &flat.series[part.clone()],
                time_unix_ms: &flat.time_unix_ms[part.clone()],
                values: &flat.values[part.clone()],
            };
            let appended = self.writer.store.append(self.tenant, &samples, received);
            match appended.await {
                Ok(committed) => left_out += committed.rejected.total(),
                // Many new series with long labels.
                Err(AppendError::TooLarge { .. }) if part.len() > 1 => {
                    let middle = part.start + part.len() / 2;
                    parts.extend([middle..part.end, part.start..middle]);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(left_out)
    }
}

/// Parts of so many samples, the first one last.
fn parts(samples: usize) -> Vec<Range<usize>> {
    let starts = (0..samples).step_by(PART_SAMPLES_MAX);
    let parts = starts.map(|start| start..samples.min(start + PART_SAMPLES_MAX));
    parts.rev().collect()
}

fn ingest_error(error: AppendError) -> IngestError {
    match error {
        AppendError::Overloaded { retry_after, .. } => IngestError::Overloaded { retry_after },
        AppendError::UnknownSeries { .. } => IngestError::Overloaded {
            retry_after: ODD_RETRY,
        },
        AppendError::UnequalColumns { .. }
        | AppendError::TooLarge { .. }
        | AppendError::LogFailed { .. }
        | AppendError::ShutDown => IngestError::Unavailable(error.to_string()),
    }
}

/// What was learned of all tenants' streams.
struct KnownStreams {
    /// As many as there are tenants.
    tenants: RwLock<HashMap<TenantId, Arc<TenantStreams>>>,
    weight: AtomicUsize,
    weight_max: usize,
}

/// What was learned of one tenant's streams.
struct TenantStreams {
    streams: RwLock<Streams<SeriesRef>>,
    used_ms: AtomicI64,
}

impl KnownStreams {
    fn new(weight_max: usize) -> KnownStreams {
        KnownStreams {
            tenants: RwLock::default(),
            weight: AtomicUsize::new(0),
            weight_max,
        }
    }

    fn of_tenant(&self, tenant: TenantId, now: Timestamp) -> Arc<TenantStreams> {
        let known = self.tenants.read().get(&tenant).cloned();
        let known = known.unwrap_or_else(|| {
            let mut tenants = self.tenants.write();
            let fresh = || {
                Arc::new(TenantStreams {
                    streams: RwLock::default(),
                    used_ms: AtomicI64::new(0),
                })
            };
            tenants.entry(tenant).or_insert_with(fresh).clone()
        });
        known.used_ms.store(now.0, Relaxed);
        known
    }

    /// Remembers, and forgets the tenants that were silent for longest when all take too much.
    fn learn(&self, tenant: &TenantStreams, learned: Learned<SeriesRef>) {
        if learned.is_empty() {
            return;
        }
        {
            let mut streams = tenant.streams.write();
            let before = streams.weight();
            streams.learn(learned);
            let more = streams.weight().saturating_sub(before);
            self.weight.fetch_add(more, Relaxed);
        }
        if self.weight.load(Relaxed) <= self.weight_max {
            return;
        }
        let mut all: Vec<_> = self.tenants.read().values().cloned().collect();
        all.sort_by_key(|tenant| tenant.used_ms.load(Relaxed));
        for tenant in all {
            // Down to the half, so that not every batch comes here.
            if self.weight.load(Relaxed) <= self.weight_max / 2 {
                return;
            }
            let mut streams = tenant.streams.write();
            self.weight.fetch_sub(streams.weight(), Relaxed);
            streams.forget();
        }
    }
}

#[cfg(test)]
mod tests;
