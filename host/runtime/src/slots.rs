//! Instances of one engine: those that run, and those that wait for their next call.
//!
//! Idle instances hold slots too; the one that has waited longest gives way when somebody needs its slot. Who gets a slot
//! when several want one is [`admission`](crate::admission)'s to say.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::admission::{Admission, NoSlot, Permit, Share};
use crate::run::Live;

/// Idle instances of one installation: it seldom has more requests at a time.
const IDLE_PER_INSTALLATION: usize = 4;
/// Longest life of a reusable instance.
pub(crate) const REUSE_MAX_AGE: Duration = Duration::from_secs(600);
/// Longest time that an instance waits for its next call.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// The slots of one engine.
pub(crate) struct Slots {
    admission: Arc<Admission>,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    /// Of the installation.
    key: u64,
    since: Instant,
    live: Live,
}

impl Slots {
    pub(crate) fn new(total: u32) -> Slots {
        Slots {
            admission: Admission::new(total),
            idle: Mutex::default(),
        }
    }

    /// Slots in all.
    pub(crate) fn total(&self) -> usize {
        self.admission.total()
    }

    /// Instances alive, idle ones included.
    pub(crate) fn live(&self) -> usize {
        self.admission.used()
    }

    /// Instances that wait for their next call.
    pub(crate) fn idle(&self) -> usize {
        self.idle.lock().len()
    }

    /// Calls that wait for a slot.
    pub(crate) fn waiting(&self) -> usize {
        self.admission.waiting()
    }

    /// A slot, after at most `patience`.
    pub(crate) async fn admit(&self, share: Share, patience: Duration) -> Result<Permit, NoSlot> {
        match self.admission.ask(share) {
            Ok(permit) => Ok(permit),
            Err(None) => Err(self.admission.no_slot(&share, Duration::ZERO)),
            Err(Some(wait)) => {
                // Counted as waiting before looking: from here on nobody becomes idle, so none is missed.
                if self.live() == self.total() {
                    self.evict_oldest();
                }
                wait.permit(patience).await
            }
        }
    }

    fn evict_oldest(&self) {
        let mut idle = self.idle.lock();
        let oldest = (!idle.is_empty()).then(|| idle.remove(0));
        drop(idle);
        drop(oldest);
    }

    /// An idle instance of an installation, the one used last, if the installation may have one more call.
    pub(crate) fn take_idle(&self, key: u64) -> Option<Live> {
        let mut idle = self.idle.lock();
        let at = idle.iter().rposition(|idle| idle.key == key)?;
        idle[at].live.slot.resume().then(|| idle.remove(at).live)
    }

    /// Keeps an instance for its next call, unless others need the slot more: while somebody waits, such as for a call of
    /// its own to end, idle instances leave it a quarter of the slots.
    pub(crate) fn keep_idle(&self, key: u64, mut live: Live) {
        live.slot.park();
        let mut idle = self.idle.lock();
        let of_installation = idle.iter().filter(|idle| idle.key == key).count();
        let is_kept = of_installation < IDLE_PER_INSTALLATION
            && (self.waiting() == 0 || self.live() < self.total() / 4 * 3)
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
