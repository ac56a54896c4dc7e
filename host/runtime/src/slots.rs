//! Who may run now, and instances that wait for their next call.
//!
//! Every live instance holds one slot of its engine's pool, so the pool itself never runs out. Idle instances hold
//! slots too; the one that has waited longest gives way when somebody needs its slot. Waiting is bounded in number and in
//! time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::run::Live;

/// Calls that may wait for each slot: beyond it the machine is overloaded and waiting helps nobody.
const WAITING_PER_SLOT: usize = 4;
/// Idle instances of one installation: it seldom has more requests at a time.
const IDLE_PER_INSTALLATION: usize = 4;
/// Longest life of a reusable instance.
pub(crate) const REUSE_MAX_AGE: Duration = Duration::from_secs(600);
/// Longest time that an instance waits for its next call.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// The slots of one engine.
pub(crate) struct Slots {
    semaphore: Arc<Semaphore>,
    total: usize,
    waiting: AtomicUsize,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    /// Of the installation.
    key: u64,
    since: Instant,
    live: Live,
}

/// There was no slot.
#[derive(Debug)]
pub(crate) struct NoSlot {
    pub(crate) running: usize,
    pub(crate) waited: Duration,
}

impl Slots {
    pub(crate) fn new(total: u32) -> Slots {
        let total = total as usize;
        Slots {
            semaphore: Arc::new(Semaphore::new(total)),
            total,
            waiting: AtomicUsize::new(0),
            idle: Mutex::default(),
        }
    }

    /// Slots in all.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Instances alive, idle ones included.
    pub(crate) fn live(&self) -> usize {
        self.total - self.semaphore.available_permits()
    }

    /// Instances that wait for their next call.
    pub(crate) fn idle(&self) -> usize {
        self.idle.lock().len()
    }

    /// A slot, after at most `patience`.
    pub(crate) async fn admit(&self, patience: Duration) -> Result<OwnedSemaphorePermit, NoSlot> {
        if let Ok(permit) = Arc::clone(&self.semaphore).try_acquire_owned() {
            return Ok(permit);
        }
        let began = Instant::now();
        let waiting = Waiting::new(&self.waiting);
        let none = |began: Instant| NoSlot {
            running: self.live(),
            waited: began.elapsed(),
        };
        if waiting.number > self.total * WAITING_PER_SLOT {
            return Err(none(began));
        }
        // Counted as waiting before looking: from here on nobody becomes idle, so none is missed.
        self.evict_oldest();
        timeout(patience, Arc::clone(&self.semaphore).acquire_owned())
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or_else(|| none(began))
    }

    fn evict_oldest(&self) {
        let mut idle = self.idle.lock();
        let oldest = (!idle.is_empty()).then(|| idle.remove(0));
        drop(idle);
        drop(oldest);
    }

    /// An idle instance of an installation, the one used last.
    pub(crate) fn take_idle(&self, key: u64) -> Option<Live> {
        let mut idle = self.idle.lock();
        let at = idle.iter().rposition(|idle| idle.key == key)?;
        Some(idle.remove(at).live)
    }

    /// Keeps an instance for its next call, unless others need the slot more.
    pub(crate) fn keep_idle(&self, key: u64, live: Live) {
        let mut idle = self.idle.lock();
        let of_installation = idle.iter().filter(|idle| idle.key == key).count();
        let is_kept = of_installation < IDLE_PER_INSTALLATION
            && self.waiting.load(Ordering::SeqCst) == 0
            && live.born.elapsed() < REUSE_MAX_AGE;
        if is_kept {
            let since = Instant::now();
            idle.push(Idle { key, since, live });
        } else {
            drop(idle);
            drop(live);
        }
    }

    /// Drops the idle instances of an installation.
    pub(crate) fn forget(&self, key: u64) {
        self.drop_idle(|idle| idle.key == key);
    }

    /// Drops instances that are too old or have waited too long.
    pub(crate) fn expire(&self) {
        self.drop_idle(|idle| {
            idle.since.elapsed() > IDLE_MAX || idle.live.born.elapsed() > REUSE_MAX_AGE
        });
    }

    fn drop_idle(&self, is_dropped: impl FnMut(&mut Idle) -> bool) {
        let dropped: Vec<_> = self.idle.lock().extract_if(.., is_dropped).collect();
        // Outside of the lock: an instance takes a while to come down.
        drop(dropped);
    }
}

/// Counts a waiting call while it lives.
struct Waiting<'a> {
    waiting: &'a AtomicUsize,
    number: usize,
}

impl Waiting<'_> {
    fn new(waiting: &AtomicUsize) -> Waiting<'_> {
        let number = waiting.fetch_add(1, Ordering::SeqCst) + 1;
        Waiting { waiting, number }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
