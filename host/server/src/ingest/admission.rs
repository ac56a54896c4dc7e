//! How many bytes of requests may be in memory: of all clients together, and of one tenant.
//!
//! Bytes are taken as they arrive, not as they are announced, so that a client that promises much and sends
//! nothing takes nothing from others.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use shoal_model::TenantId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::body::BODY_MAX_BYTES;
use super::problem::Problem;

/// Bytes of one tenant's requests: the largest body with its compressed form, or many usual ones.
const TENANT_MAX_BYTES: usize = 2 * BODY_MAX_BYTES + (1 << 20);
/// Bytes of all requests: what two tenants at their limit take.
const TOTAL_MAX_BYTES: usize = 2 * TENANT_MAX_BYTES;

/// Gives room to requests.
pub struct Admission {
    total: Arc<Semaphore>,
    tenant_max_bytes: usize,
    /// As many as there are tenants.
    tenants: Mutex<HashMap<TenantId, Arc<Semaphore>>>,
}

/// The room that one request takes; given back when dropped.
pub struct Admitted {
    total: Room,
    own: Room,
}

struct Room {
    bytes: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Default for Admission {
    fn default() -> Admission {
        Admission::new(TOTAL_MAX_BYTES, TENANT_MAX_BYTES)
    }
}

impl Admission {
    /// Room for so many bytes in all, and of one tenant.
    pub fn new(total_max_bytes: usize, tenant_max_bytes: usize) -> Admission {
        Admission {
            total: Arc::new(Semaphore::new(total_max_bytes)),
            tenant_max_bytes,
            tenants: Mutex::default(),
        }
    }

    /// A request of a tenant that has taken nothing yet.
    pub fn enter(&self, tenant: TenantId) -> Admitted {
        let mut tenants = self.tenants.lock();
        let own = tenants
            .entry(tenant)
            .or_insert_with(|| Arc::new(Semaphore::new(self.tenant_max_bytes)));
        let room = |bytes: &Arc<Semaphore>| Room {
            bytes: bytes.clone(),
            held: None,
        };
        Admitted {
            total: room(&self.total),
            own: room(own),
        }
    }
}

impl Admitted {
    /// Takes room for more bytes.
    ///
    /// # Errors
    /// There is none now: the tenant's own requests take it all, or everybody's.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        let own = self.own.take(bytes).ok_or_else(|| {
            Problem::too_many(
                "your requests in progress take all the memory that one tenant may use; send again later",
            )
        })?;
        let total = self.total.take(bytes).ok_or_else(|| {
            Problem::unavailable(
                "requests in progress take all the memory that there is for them; send again later",
            )
        })?;
        self.own.hold(own);
        self.total.hold(total);
        Ok(())
    }
}

impl Room {
    fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        self.bytes.clone().try_acquire_many_owned(bytes).ok()
    }

    fn hold(&mut self, permit: OwnedSemaphorePermit) {
        match &mut self.held {
            Some(held) => held.merge(permit),
            None => self.held = Some(permit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tenant_cannot_take_the_room_of_all() {
        let admission = Admission::new(100, 60);
        let (one, two) = (TenantId(1), TenantId(2));
        let mut first = admission.enter(one);
        first.grow(40).expect("there is room");
        first.grow(20).expect("there is room");
        let refused = admission.enter(one).grow(1).expect_err("it has its share");
        assert_eq!((refused.http_status, refused.grpc_code), (429, 8));
        assert!(refused.retry_after.is_some());
        let mut other = admission.enter(two);
        other.grow(40).expect("another has room");
        let refused = other.grow(1).expect_err("there is no more");
        assert_eq!((refused.http_status, refused.grpc_code), (503, 14));
        drop(first);
        other.grow(20).expect("there is room again");
    }
}
