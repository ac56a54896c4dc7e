//! The way of metrics in shadow runs: the live call's is listened to, the shadow's leads nowhere.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use shoal_model::telemetry::ValidMetrics;
use shoal_runtime::{Committed, Ingest, IngestError};
use xxhash_rust::xxh3::Xxh3;

/// Points of one call that are copied: 5 MiB.
const POINTS_MAX: usize = 50_000;

/// A batch that the live version wrote, and what it was told of it.
pub(super) struct Write {
    batch: ValidMetrics,
    answer: Result<Committed, IngestError>,
}

/// What a live call wrote; `None` once it was too much.
pub(super) struct Writes(Mutex<Option<Kept>>);

#[derive(Default)]
struct Kept {
    writes: Vec<Write>,
    points: usize,
}

impl Default for Writes {
    fn default() -> Writes {
        Writes(Mutex::new(Some(Kept::default())))
    }
}

impl Writes {
    /// Everything that was written; `None` when it was too much to keep.
    pub(super) fn take(&self) -> Option<Vec<Write>> {
        self.0.lock().take().map(|kept| kept.writes)
    }

    /// A copy, as long as there is room.
    fn copy(&self, batch: &ValidMetrics) -> Option<ValidMetrics> {
        let mut kept = self.0.lock();
        let inner = kept.as_mut()?;
        inner.points += batch.points() + batch.histograms.bucket_counts.len();
        if inner.points > POINTS_MAX {
            *kept = None;
            return None;
        }
        Some(batch.clone())
    }
}

/// Writes where the live call writes, and remembers.
pub(super) struct Recording {
    to: Arc<dyn Ingest>,
    writes: Arc<Writes>,
}

impl Recording {
    pub(super) fn new(to: Arc<dyn Ingest>, writes: Arc<Writes>) -> Arc<Recording> {
        Arc::new(Recording { to, writes })
    }
}

#[async_trait]
impl Ingest for Recording {
    async fn write_metrics(&self, batch: ValidMetrics) -> Result<Committed, IngestError> {
        let copy = self.writes.copy(&batch);
        let answer = self.to.write_metrics(batch).await;
        if let (Some(batch), Some(kept)) = (copy, self.writes.0.lock().as_mut()) {
            let answer = answer.clone();
            kept.writes.push(Write { batch, answer });
        }
        answer
    }
}

/// Answers a shadow's writes as the live version's were answered, in order.
pub(super) struct Replaying {
    live: Vec<Write>,
    seen: Mutex<Vec<u128>>,
}

impl Replaying {
    pub(super) fn new(live: Vec<Write>) -> Arc<Replaying> {
        Arc::new(Replaying {
            live,
            seen: Mutex::default(),
        })
    }

    /// Digests of the batches: the live version's, and the shadow's.
    pub(super) fn digests(&self) -> (Vec<u128>, Vec<u128>) {
        let live = self.live.iter().map(|write| batch_digest(&write.batch));
        (live.collect(), self.seen.lock().clone())
    }
}

#[async_trait]
impl Ingest for Replaying {
    async fn write_metrics(&self, batch: ValidMetrics) -> Result<Committed, IngestError> {
        let digest = batch_digest(&batch);
        let mut seen = self.seen.lock();
        seen.push(digest);
        match self.live.get(seen.len() - 1) {
            Some(write) => write.answer.clone(),
            None => Err(IngestError::Unavailable(
                "the active version wrote no such batch".to_owned(),
            )),
        }
    }
}

/// A digest of every column of a batch. Made of their text, so that none can be forgotten and every NaN is alike.
pub(super) fn batch_digest(batch: &ValidMetrics) -> u128 {
    struct Into(Xxh3);
    impl fmt::Write for Into {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.update(text.as_bytes());
            Ok(())
        }
    }
    let mut into = Into(Xxh3::new());
    write!(into, "{:?}", &**batch).expect("a hash takes any text");
    into.0.digest128()
}

#[cfg(test)]
mod tests {
    use shoal_model::telemetry::Metrics;

    use super::*;

    fn batch(symbols: &str) -> ValidMetrics {
        let metrics = Metrics {
            symbol_bytes: symbols.as_bytes().to_vec(),
            symbol_ends: vec![0, symbols.len() as u32],
            set_ends: vec![0],
            ..Metrics::default()
        };
        metrics.validate().expect("a batch")
    }

    /// Takes everything.
    struct Taking;

    #[async_trait]
    impl Ingest for Taking {
        async fn write_metrics(&self, _: ValidMetrics) -> Result<Committed, IngestError> {
            Ok(Committed {
                accepted: 7,
                ..Committed::default()
            })
        }
    }

    #[tokio::test]
    async fn a_shadow_is_answered_as_the_live_version_was() {
        let writes = Arc::new(Writes::default());
        let live = Recording::new(Arc::new(Taking), writes.clone());
        let answer = live.write_metrics(batch("a")).await;
        let shadow = Replaying::new(writes.take().expect("little"));
        assert_eq!(shadow.write_metrics(batch("a")).await, answer);
        let (first, second) = shadow.digests();
        assert_eq!(first, second);
        let further = shadow.write_metrics(batch("b")).await;
        assert!(matches!(further, Err(IngestError::Unavailable(_))));
        let (first, second) = shadow.digests();
        assert_ne!(first, second);
    }

    #[test]
    fn equal_batches_have_equal_digests() {
        assert_eq!(batch_digest(&batch("a")), batch_digest(&batch("a")));
        assert_ne!(batch_digest(&batch("a")), batch_digest(&batch("b")));
    }
}
