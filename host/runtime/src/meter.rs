//! How long a guest computed.
//!
//! Time is that of the thread's processor clock, so neither waiting nor a busy machine counts. A call may move
//! between threads from one poll to the next but not within one, so differences are taken within a poll.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
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
    pub(crate) fn counted<F: Future>(self: &Arc<Meter>, future: F) -> Metered<F> {
        Metered {
            future: Box::pin(future),
            meter: Arc::clone(self),
            is_host: false,
        }
    }

    /// Leaves the time of `future` out: the host's own work.
    pub(crate) fn uncounted<F: Future>(self: &Arc<Meter>, future: F) -> Metered<F> {
        Metered {
            future: Box::pin(future),
            meter: Arc::clone(self),
            is_host: true,
        }
    }
}

/// A future whose polls are timed.
pub(crate) struct Metered<F> {
    future: Pin<Box<F>>,
    meter: Arc<Meter>,
    is_host: bool,
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let began = thread_cpu_ns();
        if !self.is_host {
            self.meter.began_ns.store(began, Relaxed);
        }
        let poll = self.future.as_mut().poll(cx);
        let took = thread_cpu_ns().saturating_sub(began);
        let sum = if self.is_host {
            &self.meter.host_ns
        } else {
            &self.meter.done_ns
        };
        sum.fetch_add(took, Relaxed);
        poll
    }
}

#[cfg(test)]
mod tests {
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
