//! The only place that spawns: every background task has an owner, a name and a way to end.
//!
//! A [`Tasks`] is owned by whoever starts the work. Each task gets a [`Stop`] and must return soon after it
//! fires. [`Tasks::shutdown`] fires it, waits for all up to a deadline and then ends the rest by
//! dropping them at their next `.await`. A task that panics is logged at once and never takes the process with it.

#![expect(
    clippy::disallowed_methods,
    reason = "everything else spawns through this module"
)]

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Tells a task to end. Clones fire together.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Returns when the task should end; at once when it already should. Cancel-safe.
    pub async fn requested(&mut self) {
        // An error means that the owner is gone, which asks to end as well.
        let _ = self.0.wait_for(|stop| *stop).await;
    }

    /// Whether the task should end.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Waits for `duration`, or less when the task should end. Returns whether it should go on. Cancel-safe.
    pub async fn sleep(&mut self, duration: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(duration) => true,
            () = self.requested() => false,
        }
    }
}

/// Tasks of one owner. Clones share them.
#[derive(Clone, Debug)]
pub struct Tasks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stop: watch::Sender<bool>,
    running: Mutex<Vec<(&'static str, JoinHandle<()>)>>,
}

impl Default for Tasks {
    fn default() -> Self {
        Tasks::new()
    }
}

impl Tasks {
    /// An owner without tasks.
    pub fn new() -> Tasks {
        Tasks(Arc::new(Inner {
            stop: watch::Sender::new(false),
            running: Mutex::default(),
        }))
    }

    /// What tells this owner's tasks to end, for code that runs elsewhere (a server's graceful shutdown).
    pub fn stop(&self) -> Stop {
        Stop(self.0.stop.subscribe())
    }

    /// Starts a task. `name` is for logs: what it does, such as `plugin watcher`.
    pub fn spawn<F>(&self, name: &'static str, task: impl FnOnce(Stop) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let work = task(self.stop());
        let handle = tokio::spawn(async move {
            match AssertUnwindSafe(work).catch_unwind().await {
                Ok(()) => tracing::debug!(task.name = name, "task ended"),
                Err(panic) => {
                    let error = panic_message(&*panic);
                    tracing::error!(
                        task.name = name,
                        error,
                        "task panicked; what it did is not done any more"
                    );
                }
            }
        });
        let mut running = self.0.running.lock();
        running.retain(|(_, handle)| !handle.is_finished());
        running.push((name, handle));
    }

    /// Asks every task to end and waits for at most `deadline`; those that still run are dropped then, each named in a
    /// warning.
    pub async fn shutdown(&self, deadline: Duration) {
        self.0.stop.send_replace(true);
        let running = std::mem::take(&mut *self.0.running.lock());
        let end = tokio::time::Instant::now() + deadline;
        for (name, mut handle) in running {
            match tokio::time::timeout_at(end, &mut handle).await {
                Ok(_) => {}
                Err(_) => {
                    tracing::warn!(task.name = name, "task did not end in time and is dropped");
                    handle.abort();
                }
            }
        }
    }
}

/// What a panic says.
pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a message")
}

/// Runs blocking work (compiling, hashing, files) off the async threads and waits for it.
///
/// The work goes on when the caller is cancelled.
///
/// # Panics
/// When the work panics.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(
            error
                .try_into_panic()
                .unwrap_or_else(|_| Box::new("the runtime is shutting down")),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn shutdown_ends_what_listens_and_drops_what_does_not() {
        let tasks = Tasks::new();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        tasks.spawn("listener", |mut stop| async move {
            stop.requested().await;
            sender.send(()).expect("the test waits");
        });
        tasks.spawn("stubborn", |_| std::future::pending());
        tasks.shutdown(Duration::from_millis(20)).await;
        receiver.await.expect("the listener ended by itself");
    }

    #[tokio::test]
    async fn a_panic_ends_its_task_alone() {
        let tasks = Tasks::new();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        tasks.spawn("faulty", |_| async { panic!("on purpose") });
        tasks.spawn("sound", |_| async move {
            sender.send(()).expect("the test waits")
        });
        receiver.await.expect("it goes on");
        tasks.shutdown(Duration::from_secs(60)).await;
        assert_eq!(panic_message(&"on purpose"), "on purpose");
    }

    #[tokio::test]
    async fn a_stopped_sleep_says_not_to_go_on() {
        let tasks = Tasks::new();
        let mut stop = tasks.stop();
        assert!(stop.sleep(Duration::from_millis(1)).await);
        tasks.shutdown(Duration::ZERO).await;
        assert!(!stop.sleep(Duration::from_secs(1000)).await);
        assert!(stop.is_requested());
    }
}
