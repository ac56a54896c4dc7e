//! Whose call runs next.
//!
//! Every live instance holds one slot of its engine's pool, so the pool itself never runs out. A free slot goes to whoever
//! waits, and of those to the tenant that has the fewest calls running for its weight; of equals, to the one that was served
//! longest ago. So a tenant takes what nobody else wants, and when others want it too, its share of every slot
//! that comes free, however many of its calls wait and however slow they are. Within a tenant, installations take turns.
//!
//! Slow calls that hold all slots would still make others wait for their end, so no tenant runs more than half of the
//! slots, and no installation more than a quarter. Waiting is bounded in number, for each tenant and for all, and in time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

/// Calls that may wait for each slot, of one tenant: beyond it the tenant is overloaded and waiting does not help it.
const WAITING_PER_SLOT_OF_TENANT: usize = 2;
/// Calls that may wait for each slot, of all tenants.
const WAITING_PER_SLOT: usize = 16;
/// Of all slots, the part that one tenant may use at a time.
const TENANT_SHARE: usize = 2;
/// Of all slots, the part that one installation may use at a time.
const INSTALLATION_SHARE: usize = 4;

/// Who wants to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) tenant: u64,
    /// How much of the slots the tenant gets beside others, 1 as a rule.
    pub(crate) weight: u32,
    /// Unique within the runtime.
    pub(crate) installation: u64,
}

impl Share {
    /// The host itself, which starts each component once.
    pub(crate) const HOST: Share = Share {
        tenant: u64::MAX,
        weight: 1,
        installation: u64::MAX,
    };
}

/// There was no slot.
#[derive(Debug)]
pub(crate) struct NoSlot {
    pub(crate) running: usize,
    pub(crate) waited: Duration,
}

/// The slots of one engine, and who waits for them.
pub(crate) struct Admission {
    queues: Mutex<Queues<oneshot::Sender<Permit>>>,
    total: usize,
    /// Outside of the lock, for those who only look.
    waiting: AtomicUsize,
}

/// One slot, given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    share: Share,
    /// Whether its instance runs a call, rather than waiting for one.
    is_running: bool,
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission").finish_non_exhaustive()
    }
}

impl Admission {
    pub(crate) fn new(total: u32) -> Arc<Admission> {
        let total = total as usize;
        Arc::new(Admission {
            queues: Mutex::new(Queues::new(total)),
            total,
            waiting: AtomicUsize::new(0),
        })
    }

    /// Slots in all.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Slots in use.
    pub(crate) fn used(&self) -> usize {
        self.total - self.queues.lock().free
    }

    /// Calls that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// A slot at once, or a place in the queue.
    pub(crate) fn ask(self: &Arc<Self>, share: Share) -> Result<Permit, Option<Wait>> {
        let mut queues = self.queues.lock();
        if queues.take(&share) {
            drop(queues);
            return Ok(self.permit(share));
        }
        let (sender, receiver) = oneshot::channel();
        let Some(ticket) = queues.wait(&share, sender) else {
            return Err(None);
        };
        self.waiting.store(queues.waiting, Ordering::SeqCst);
        drop(queues);
        Err(Some(Wait {
            admission: Arc::clone(self),
            share,
            ticket,
            receiver,
        }))
    }

    /// What a call that cannot run is told: how many of its tenant's calls run, or of all.
    pub(crate) fn no_slot(&self, share: &Share, waited: Duration) -> NoSlot {
        let queues = self.queues.lock();
        let of_tenant = queues.tenants.get(&share.tenant);
        let running = of_tenant.map_or(0, |tenant| tenant.running);
        let running = if running > 0 {
            running
        } else {
            self.total - queues.free
        };
        NoSlot { running, waited }
    }

    fn permit(self: &Arc<Self>, share: Share) -> Permit {
        Permit {
            admission: Arc::clone(self),
            share,
            is_running: true,
        }
    }

    /// Changes something and hands out what that frees.
    fn change(self: &Arc<Self>, change: impl FnOnce(&mut Queues<oneshot::Sender<Permit>>)) {
        let mut queues = self.queues.lock();
        change(&mut queues);
        let mut granted = Vec::new();
        while let Some(next) = queues.next() {
            granted.push(next);
        }
        self.waiting.store(queues.waiting, Ordering::SeqCst);
        drop(queues);
        for (share, sender) in granted {
            // Whoever is gone drops the permit, which comes back here.
            let _ = sender.send(self.permit(share));
        }
    }
}

impl Permit {
    /// The instance waits for its next call: it keeps the slot and no longer counts as a call.
    pub(crate) fn park(&mut self) {
        if std::mem::take(&mut self.is_running) {
            let share = self.share;
            self.admission.change(|queues| queues.stop(&share));
        }
    }

    /// The instance takes a call; false when its tenant or installation has as many as it may.
    pub(crate) fn resume(&mut self) -> bool {
        if !self.is_running {
            self.is_running = self.admission.queues.lock().start(&self.share);
        }
        self.is_running
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let (share, was_running) = (self.share, self.is_running);
        self.admission.change(|queues| {
            if was_running {
                queues.stop(&share);
            }
            queues.free += 1;
        });
    }
}

/// A place in the queue, given up when dropped.
#[derive(Debug)]
pub(crate) struct Wait {
    admission: Arc<Admission>,
    share: Share,
    ticket: u64,
    receiver: oneshot::Receiver<Permit>,
}

impl Wait {
    /// Waits for a slot, for at most `patience`.
    pub(crate) async fn permit(mut self, patience: Duration) -> Result<Permit, NoSlot> {
        let began = Instant::now();
        match timeout(patience, &mut self.receiver).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(self.admission.no_slot(&self.share, began.elapsed())),
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut queues = self.admission.queues.lock();
        queues.leave(&self.share, self.ticket);
        self.admission
            .waiting
            .store(queues.waiting, Ordering::SeqCst);
    }
}

/// Who runs and who waits. Knows no time; `W` is how one who waits is told.
struct Queues<W> {
    free: usize,
    waiting: usize,
    waiting_max: usize,
    of_tenant_waiting_max: usize,
    of_tenant_max: usize,
    of_installation_max: usize,
    /// Only those with calls that run or wait.
    tenants: HashMap<u64, Tenant<W>>,
    /// Numbers those who wait, and tells who was served longest ago.
    turn: u64,
}

struct Tenant<W> {
    weight: u32,
    running: usize,
    waiting: usize,
    served: u64,
    /// In the order in which they are served next.
    installations: VecDeque<Installation<W>>,
}

struct Installation<W> {
    key: u64,
    running: usize,
    waiting: VecDeque<(u64, W)>,
}

impl<W> Tenant<W> {
    fn installation(&mut self, key: u64) -> &mut Installation<W> {
        let at = self.installations.iter().position(|one| one.key == key);
        let at = at.unwrap_or_else(|| {
            self.installations.push_back(Installation {
                key,
                running: 0,
                waiting: VecDeque::new(),
            });
            self.installations.len() - 1
        });
        &mut self.installations[at]
    }
}

impl<W> Queues<W> {
    fn new(total: usize) -> Queues<W> {
        Queues {
            free: total,
            waiting: 0,
            waiting_max: total * WAITING_PER_SLOT,
            of_tenant_waiting_max: total * WAITING_PER_SLOT_OF_TENANT,
            of_tenant_max: (total / TENANT_SHARE).max(1),
            of_installation_max: (total / INSTALLATION_SHARE).max(1),
            tenants: HashMap::new(),
            turn: 0,
        }
    }

    fn tenant(&mut self, share: &Share) -> &mut Tenant<W> {
        let tenant = self.tenants.entry(share.tenant).or_insert_with(|| Tenant {
            weight: 1,
            running: 0,
            waiting: 0,
            served: 0,
            installations: VecDeque::new(),
        });
        tenant.weight = share.weight.max(1);
        tenant
    }

    /// Counts a call as running, if its tenant and installation may have one more.
    fn start(&mut self, share: &Share) -> bool {
        let (of_tenant_max, of_installation_max) = (self.of_tenant_max, self.of_installation_max);
        self.turn += 1;
        let turn = self.turn;
        let tenant = self.tenant(share);
        if tenant.running >= of_tenant_max
            || tenant.installation(share.installation).running >= of_installation_max
        {
            self.forget_if_idle(share);
            return false;
        }
        tenant.running += 1;
        tenant.served = turn;
        tenant.installation(share.installation).running += 1;
        true
    }

    /// A slot at once. Who waits is never overtaken: those who could use a free slot have been given it.
    fn take(&mut self, share: &Share) -> bool {
        let is_taken = self.free > 0 && self.start(share);
        self.free -= usize::from(is_taken);
        is_taken
    }

    /// A place in the queue; `None` when it is full.
    fn wait(&mut self, share: &Share, who: W) -> Option<u64> {
        let of_tenant_max = self.of_tenant_waiting_max;
        self.turn += 1;
        let (ticket, is_full) = (self.turn, self.waiting >= self.waiting_max);
        let tenant = self.tenant(share);
        if is_full || tenant.waiting >= of_tenant_max {
            self.forget_if_idle(share);
            return None;
        }
        tenant.waiting += 1;
        let installation = tenant.installation(share.installation);
        installation.waiting.push_back((ticket, who));
        self.waiting += 1;
        Some(ticket)
    }

    /// Gives up a place in the queue, if it is still there.
    fn leave(&mut self, share: &Share, ticket: u64) {
        let tenant = self.tenant(share);
        let waiting = &mut tenant.installation(share.installation).waiting;
        if let Some(at) = waiting.iter().position(|(of, _)| *of == ticket) {
            waiting.remove(at);
            tenant.waiting -= 1;
            self.waiting -= 1;
        }
        self.forget_if_idle(share);
    }

    /// A call no longer runs.
    fn stop(&mut self, share: &Share) {
        let tenant = self.tenant(share);
        tenant.running -= 1;
        tenant.installation(share.installation).running -= 1;
        self.forget_if_idle(share);
    }

    fn forget_if_idle(&mut self, share: &Share) {
        let Some(tenant) = self.tenants.get_mut(&share.tenant) else {
            return;
        };
        tenant
            .installations
            .retain(|one| one.running > 0 || !one.waiting.is_empty());
        if tenant.installations.is_empty() {
            self.tenants.remove(&share.tenant);
        }
    }

    /// Gives a free slot to the next one who waits.
    fn next(&mut self) -> Option<(Share, W)> {
        if self.free == 0 || self.waiting == 0 {
            return None;
        }
        let (of_tenant_max, of_installation_max) = (self.of_tenant_max, self.of_installation_max);
        let may_start =
            |one: &Installation<W>| one.running < of_installation_max && !one.waiting.is_empty();
        let (&key, tenant) = self
            .tenants
            .iter_mut()
            .filter(|(_, tenant)| {
                tenant.waiting > 0
                    && tenant.running < of_tenant_max
                    && tenant.installations.iter().any(may_start)
            })
            .min_by(|(_, a), (_, b)| {
                // Compares a.running / a.weight with b.running / b.weight.
                let load =
                    |of: &Tenant<W>, other: &Tenant<W>| of.running as u64 * u64::from(other.weight);
                load(a, b).cmp(&load(b, a)).then(a.served.cmp(&b.served))
            })?;
        let at = tenant.installations.iter().position(may_start)?;
        let mut installation = tenant.installations.remove(at)?;
        let (_, who) = installation.waiting.pop_front()?;
        installation.running += 1;
        let share = Share {
            tenant: key,
            weight: tenant.weight,
            installation: installation.key,
        };
        tenant.installations.push_back(installation);
        self.turn += 1;
        tenant.served = self.turn;
        tenant.running += 1;
        tenant.waiting -= 1;
        self.waiting -= 1;
        self.free -= 1;
        Some((share, who))
    }
}

#[cfg(test)]
mod tests;
