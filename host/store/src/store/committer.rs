//! The log's thread: writes what is queued, syncs once for all who wait, applies it to the heads, answers.
//!
//! Everything that depends on the order of commits goes through its queue: batches, the cut of a flush, the return of
//! log space and of series. It never lingers: while one group is being synced the next one gathers.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use shoal_model::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::shared::{Shared, Tenant};
use crate::append::{AppendError, Committed, Rejected};
use crate::head::Counted;
use crate::head::columns::Columns;
use crate::log::record::Record;
use crate::log::{Log, WriteError, frame};

/// When to send again after the log was full: a flush takes about so long.
const LOG_FULL_RETRY: Duration = Duration::from_secs(5);

/// What the thread is asked to do.
pub(crate) enum Message {
    /// Commit it.
    Batch(Box<Batch>),
    /// Split the heads here.
    Cut(oneshot::Sender<Cut>),
    /// The frozen parts of the heads are in a segment; give back log space and idle series.
    Release(Release, oneshot::Sender<()>),
    /// End the thread.
    Stop,
}

/// A record on its way to the disk.
pub(crate) struct Batch {
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) record: Record,
    pub(crate) bytes: Vec<u8>,
    pub(crate) counted: Vec<Counted>,
    pub(crate) rejected: Rejected,
    /// The epoch in which the record was made.
    pub(crate) epoch: u64,
    /// Gives the bytes in flight back when dropped.
    pub(crate) _permit: OwnedSemaphorePermit,
    pub(crate) answer: oneshot::Sender<Result<Committed, AppendError>>,
}

/// All commits before `end_sequence` that were not cut off before.
pub(crate) struct Cut {
    pub(crate) end_sequence: u64,
    pub(crate) parts: Vec<(Arc<Tenant>, Arc<Columns>)>,
}

/// What a flush has made superfluous.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Release {
    pub(crate) position: u64,
    pub(crate) turn: u64,
    pub(crate) samples: u64,
}

/// The thread's state.
pub(crate) struct Committer {
    shared: Arc<Shared>,
    log: Log,
    frame: Vec<u8>,
}

impl Committer {
    pub(crate) fn new(shared: Arc<Shared>, log: Log) -> Committer {
        shared.log_bytes.store(log.live_bytes(), Relaxed);
        Committer {
            shared,
            log,
            frame: Vec::new(),
        }
    }

    /// Works until it is stopped or all senders are gone.
    pub(crate) fn run(mut self, queue: &Receiver<Message>) {
        let mut next = queue.recv().ok();
        while let Some(message) = next.take() {
            match message {
                Message::Batch(first) => next = self.commit(*first, queue),
                Message::Cut(answer) => {
                    // When nobody waits any more, the heads keep the parts for the next cut.
                    let _ = answer.send(self.cut());
                }
                Message::Release(release, answer) => {
                    self.release(release);
                    // As above: there may be nobody left to tell.
                    let _ = answer.send(());
                }
                Message::Stop => return,
            }
            if next.is_none() {
                next = queue.recv().ok();
            }
        }
    }

    /// Commits a group of batches, as many as wait and fit into one frame. Returns the message that did not belong.
    fn commit(&mut self, first: Batch, queue: &Receiver<Message>) -> Option<Message> {
        let max_bytes = self.log.payload_max_bytes();
        frame::begin(&mut self.frame);
        let mut payload_bytes = first.bytes.len();
        self.frame.extend_from_slice(&first.bytes);
        let mut group = vec![first];
        let mut other = None;
        while let Ok(message) = queue.try_recv() {
            match message {
                Message::Batch(batch) if payload_bytes + batch.bytes.len() <= max_bytes => {
                    payload_bytes += batch.bytes.len();
                    self.frame.extend_from_slice(&batch.bytes);
                    group.push(*batch);
                }
                message => {
                    other = Some(message);
                    break;
                }
            }
        }
        match self.log.write(&mut self.frame) {
            Ok(sequence) => self.acknowledge(group, sequence),
            Err(error) => self.refuse(group, &error),
        }
        if self.shared.wants_flush() || self.log.wants_flush() {
            self.shared.flush_wanted.notify_one();
        }
        other
    }

    fn acknowledge(&mut self, group: Vec<Batch>, sequence: u64) {
        let shared = &self.shared;
        shared.commits_total.fetch_add(1, Relaxed);
        shared.log_bytes.store(self.log.live_bytes(), Relaxed);
        for batch in group {
            let Batch { record, .. } = batch;
            let samples = record.slots.len() as u64;
            shared.note_samples(samples, record.received);
            shared.samples_total.fetch_add(samples, Relaxed);
            batch
                .tenant
                .head
                .write()
                .apply(&record, &batch.counted, batch.epoch);
            shared.add_usage(record.tenant, record.usage);
            // The caller may have gone away; the samples stay.
            let _ = batch.answer.send(Ok(Committed {
                sequence,
                accepted: samples,
                rejected: batch.rejected,
            }));
        }
    }

    fn refuse(&self, group: Vec<Batch>, error: &WriteError) {
        let error = match error {
            WriteError::Full => {
                self.shared.flush_wanted.notify_one();
                AppendError::Overloaded {
                    retry_after: LOG_FULL_RETRY,
                    reason: "the log is full and waits for a flush",
                }
            }
            WriteError::Failed(reason) => {
                tracing::error!(
                    reason,
                    "the commit log has failed: nothing more is accepted"
                );
                AppendError::LogFailed {
                    reason: reason.clone(),
                }
            }
        };
        for batch in group {
            // The caller may have gone away.
            let _ = batch.answer.send(Err(error.clone()));
        }
    }

    fn cut(&mut self) -> Cut {
        self.shared.head_since.store(i64::MAX, Relaxed);
        let tenants = self.shared.all_tenants();
        let parts = tenants.into_iter().filter_map(|tenant| {
            let frozen = tenant.head.write().freeze()?;
            Some((tenant, frozen))
        });
        Cut {
            parts: parts.collect(),
            end_sequence: self.log.next_sequence(),
        }
    }

    fn release(&mut self, release: Release) {
        let shared = &self.shared;
        self.log.release(release.position);
        shared.log_bytes.store(self.log.live_bytes(), Relaxed);
        shared.head_samples.fetch_sub(release.samples, Relaxed);
        let latest = Timestamp(shared.latest_received.load(Relaxed));
        let idle_since = latest - shared.options.series_idle;
        for tenant in shared.all_tenants() {
            let evicted = tenant.head.write().evict(release.turn, idle_since);
            shared.series.fetch_sub(evicted as u64, Relaxed);
        }
    }
}
