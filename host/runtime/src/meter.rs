//! How long a guest computed.
//!
//! Time is that of the thread's processor clock, so neither waiting nor a busy machine counts. A call may move
//! between threads from one poll to the next but not within one, so differences are taken within a poll.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Processor time of the calling thread, in nanoseconds.
fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    (time.tv_sec as u64)
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_nsec as u64)
}

/// Counts the time of one call.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// Of the polls that are over.
    done_ns: AtomicU64,
    /// Thread clock when the present poll began.
    began_ns: AtomicU64,
    /// Spent in the host on the guest's behalf.
    host_ns: AtomicU64,
}

impl Meter {
    /// What the guest computed so far. Only from within the metered future.
    pub(crate) fn used_now(&self) -> Duration {
        let present = thread_cpu_ns().saturating_sub(self.began_ns.load(Relaxed));
        Duration::from_nanos(
            (self.done_ns.load(Relaxed) + present).saturating_sub(self.host_ns.load(Relaxed)),
        )
    }

    /// What the guest computed in all polls that are over.
    pub(crate) fn used(&self) -> Duration {
        Duration::from_nanos(
            self.done_ns
                .load(Relaxed)
                .saturating_sub(self.host_ns.load(Relaxed)),
        )
    }

    /// Counts all of `future` as the guest's time, but what is [`uncounted`](Meter::uncounted) in it.
    pub(crate) async fn counted<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            let began = thread_cpu_ns();
            self.began_ns.store(began, Relaxed);
            let poll = future.as_mut().poll(cx);
            let took = thread_cpu_ns().saturating_sub(began);
            self.done_ns.fetch_add(took, Relaxed);
            poll
        })
        .await
    }

    /// Leaves the time of `future` out: the host's own work.
    pub(crate) async fn uncounted<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            let began = thread_cpu_ns();
            let poll = future.as_mut().poll(cx);
            let took = thread_cpu_ns().saturating_sub(began);
            self.host_ns.fetch_add(took, Relaxed);
            poll
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn burn(time: Duration) {
        let until = thread_cpu_ns() + time.as_nanos() as u64;
        while thread_cpu_ns() < until {}
    }

    #[tokio::test]
    async fn waiting_and_the_hosts_work_do_not_count() {
        let meter = Arc::new(Meter::default());
        let inside = Arc::clone(&meter);
        meter
            .counted(async move {
                burn(Duration::from_millis(20));
                assert!(inside.used_now() >= Duration::from_millis(20));
                tokio::time::sleep(Duration::from_millis(200)).await;
                inside
                    .uncounted(async {
                        tokio::task::yield_now().await;
                        burn(Duration::from_millis(200));
                    })
                    .await;
                assert!(inside.used_now() < Duration::from_millis(150));
            })
            .await;
        let used = meter.used();
        assert!(
            used >= Duration::from_millis(20) && used < Duration::from_millis(150),
            "{used:?}"
        );
    }
}
