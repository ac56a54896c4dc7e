//! From the head to a segment, from pending usage to the catalog, and the end of what is too old.
//!
//! A flush can fail at any step and goes on from there when it is called again: the part of the head that was cut off
//! stays readable, its log stays on disk, and every change of the catalog can be repeated.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use shoal_model::{TenantId, Timestamp};
use tokio::sync::oneshot;

use super::committer::{Cut, Message, Release};
use super::shared::{PendingUsage, Shared, Tenant};
use super::{FlushError, Flushed, Inner};
use crate::catalog::{CatalogChange, CatalogError, SegmentId, SegmentRecord};
use crate::head::columns::{Columns, sort_last_wins};
use crate::segment::SeriesInput;
use crate::segment::stream::Density;
use crate::segment::write::{SegmentWriter, file_name};

/// What flushes go on from.
pub(crate) struct FlushState {
    /// Up to where the log is in segments.
    position: u64,
    next_segment: u64,
    /// Cut off but not yet in the catalog.
    unfinished: Option<Unfinished>,
}

struct Unfinished {
    cut: Cut,
    segment: Option<SegmentRecord>,
}

impl FlushState {
    pub(crate) fn new(position: u64, next_segment: u64) -> FlushState {
        FlushState {
            position,
            next_segment,
            unfinished: None,
        }
    }
}

impl Inner {
    /// Flushes in a task of its own: when the caller goes away, no step is left half done.
    pub(crate) async fn flush(self: &Arc<Inner>) -> Result<Flushed, FlushError> {
        let inner = self.clone();
        tokio::spawn(async move { inner.flush_here().await })
            .await
            .map_err(|_| FlushError::ShutDown)?
    }

    async fn flush_here(&self) -> Result<Flushed, FlushError> {
        let flushed = self.try_flush().await;
        if flushed.is_err() {
            self.shared.flush_failures_total.fetch_add(1, Relaxed);
        }
        flushed
    }

    async fn try_flush(&self) -> Result<Flushed, FlushError> {
        let mut state = self.flush_state.lock().await;
        // A cut left over from a failed flush does not hold what was acknowledged since.
        if state.unfinished.is_some() {
            self.finish(&mut state).await?;
        }
        let (answer, cut) = oneshot::channel();
        {
            let mut gate = self.shared.gate.write();
            gate.epoch += 1;
            gate.turn += 1;
            self.send(Message::Cut(answer))?;
        }
        let cut = cut.await.map_err(|_| FlushError::ShutDown)?;
        state.unfinished = Some(Unfinished { cut, segment: None });
        self.finish(&mut state).await
    }

    /// Takes the cut that is in `state` through its remaining steps.
    async fn finish(&self, state: &mut FlushState) -> Result<Flushed, FlushError> {
        let Some(unfinished) = &mut state.unfinished else {
            return Ok(Flushed::default());
        };
        let sequences = (state.position, unfinished.cut.end_sequence);
        if unfinished.segment.is_none() && !unfinished.cut.parts.is_empty() {
            let id = SegmentId(state.next_segment);
            let record = self.write_segment(id, sequences, &unfinished.cut).await?;
            unfinished.segment = Some(record);
        }
        let segment = unfinished.segment.clone();
        let change = CatalogChange {
            add: segment.iter().cloned().collect(),
            log_position: (sequences.1 > sequences.0).then_some(sequences.1),
            ..CatalogChange::default()
        };
        let usage = self.commit(change).await?;
        let samples = unfinished
            .cut
            .parts
            .iter()
            .map(|(_, columns)| columns.len() as u64)
            .sum();
        if let Some(segment) = &segment {
            state.next_segment += 1;
            // Before the head forgets its copy: a reader sees the samples in one place at least.
            self.shared.segments.write().push(Arc::new(segment.clone()));
        }
        state.position = sequences.1;
        state.unfinished = None;
        self.release(state.position, samples).await?;
        Ok(Flushed { segment, usage })
    }

    async fn write_segment(
        &self,
        id: SegmentId,
        sequences: (u64, u64),
        cut: &Cut,
    ) -> Result<SegmentRecord, FlushError> {
        let shared = self.shared.clone();
        let parts = cut.parts.clone();
        let path = shared.segment_folder.join(file_name(id));
        let written =
            tokio::task::spawn_blocking(move || write_segment(&shared, id, sequences, &parts))
                .await
                .map_err(std::io::Error::other)
                .and_then(|written| written);
        written.map_err(|error| FlushError::Io { path, error })
    }

    async fn release(&self, position: u64, samples: u64) -> Result<(), FlushError> {
        let (answer, released) = oneshot::channel();
        {
            let mut gate = self.shared.gate.write();
            gate.turn += 1;
            let release = Release {
                position,
                turn: gate.turn,
                samples,
            };
            self.send(Message::Release(release, answer))?;
        }
        released.await.map_err(|_| FlushError::ShutDown)
    }

    /// Commits a change together with all pending usage; returns how much that was.
    async fn commit(&self, mut change: CatalogChange) -> Result<u64, CatalogError> {
        // One at a time: whoever finds nothing pending may rely on it being in the catalog.
        let _turn = self.catalog_turn.lock().await;
        let taken = UsageGuard::take(&self.shared);
        change.usage = taken.list();
        let elements = change.usage.len() as u64;
        if change != CatalogChange::default() {
            self.catalog.commit(change).await?;
        }
        taken.forget();
        Ok(elements)
    }

    pub(crate) async fn flush_usage(&self) -> Result<u64, FlushError> {
        Ok(self.commit(CatalogChange::default()).await?)
    }

    pub(crate) async fn retain(
        &self,
        tenant: TenantId,
        before: Timestamp,
    ) -> Result<u64, FlushError> {
        let _state = self.flush_state.lock().await;
        let (change, kept) = expire(&self.shared, tenant, before);
        let parts = change.remove_tenants.len() as u64;
        if parts == 0 {
            return Ok(0);
        }
        let removed = change.remove.clone();
        self.commit(change).await?;
        *self.shared.segments.write() = kept;
        let shared = self.shared.clone();
        let removal = tokio::task::spawn_blocking(move || remove_files(&shared, &removed));
        // Its failures are logged.
        let _ = removal.await;
        Ok(parts)
    }
}

/// Usage that was taken to be committed; it becomes pending again unless it was.
struct UsageGuard<'a> {
    shared: &'a Shared,
    taken: PendingUsage,
}

impl<'a> UsageGuard<'a> {
    fn take(shared: &'a Shared) -> UsageGuard<'a> {
        UsageGuard {
            taken: std::mem::take(&mut *shared.pending_usage.lock()),
            shared,
        }
    }

    fn list(&self) -> Vec<(TenantId, shoal_model::usage::Usage)> {
        let elements = self
            .taken
            .iter()
            .flat_map(|(tenant, usage)| usage.iter().map(|element| (*tenant, element.clone())));
        let mut list: Vec<_> = elements.collect();
        // In one order everywhere, so that concurrent transactions of several nodes do not wait for each other in a circle.
        list.sort();
        list
    }

    fn forget(mut self) {
        self.taken.clear();
    }
}

impl Drop for UsageGuard<'_> {
    fn drop(&mut self) {
        for (tenant, usage) in self.taken.drain() {
            self.shared.add_usage(tenant, usage);
        }
    }
}

/// What retention changes, and the segments that are left.
fn expire(
    shared: &Shared,
    tenant: TenantId,
    before: Timestamp,
) -> (CatalogChange, Vec<Arc<SegmentRecord>>) {
    let mut change = CatalogChange::default();
    let mut kept = Vec::new();
    for segment in shared.segments.read().iter() {
        let is_expired = |part: &crate::catalog::SegmentTenant| {
            part.tenant == tenant && part.max_time_ms < before.0
        };
        if !segment.tenants.iter().any(is_expired) {
            kept.push(segment.clone());
            continue;
        }
        change.remove_tenants.push((segment.id, tenant));
        let mut record = SegmentRecord::clone(segment);
        record.tenants.retain(|part| !is_expired(part));
        if record.tenants.is_empty() {
            change.remove.push(segment.id);
        } else {
            kept.push(Arc::new(record));
        }
    }
    (change, kept)
}

/// Removes files that the catalog has forgotten; one that stays is removed at the next start.
fn remove_files(shared: &Shared, segments: &[SegmentId]) {
    for id in segments {
        let path = shared.segment_folder.join(file_name(*id));
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(%error, file = %path.display(), "cannot remove an expired segment");
        }
    }
}

fn write_segment(
    shared: &Shared,
    id: SegmentId,
    sequences: (u64, u64),
    parts: &[(Arc<Tenant>, Arc<Columns>)],
) -> std::io::Result<SegmentRecord> {
    let mut writer = SegmentWriter::create(&shared.segment_folder, id, Density::YOUNG)?;
    for (tenant, columns) in parts {
        writer.add_tenant(tenant.id, series_of(tenant, columns))?;
    }
    Ok(writer.finish(sequences)?.record)
}

fn series_of(tenant: &Tenant, columns: &Columns) -> Vec<SeriesInput> {
    let mut series: Vec<SeriesInput> = {
        let head = tenant.head.read();
        let described = columns.slots().map(|slot| {
            let entry = head
                .entry(slot)
                .expect("a series with samples in the head is not evicted");
            SeriesInput {
                labels: entry.labels.clone(),
                kind: entry.kind,
                unit: entry.unit.clone(),
                times_ms: Vec::new(),
                values: Vec::new(),
            }
        });
        described.collect()
    };
    for (slot, series) in columns.slots().zip(&mut series) {
        let range = (i64::MIN, i64::MAX);
        columns.read(slot, range, &mut series.times_ms, &mut series.values);
        sort_last_wins(&mut series.times_ms, &mut series.values);
    }
    series
}

/// The folder of the segments within the store's.
pub(crate) fn segment_folder_of(folder: &Path) -> PathBuf {
    folder.join("segments")
}
