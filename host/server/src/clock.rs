//! The only place that reads the time.
//!
//! Everything else takes a time as argument or holds a [`Clock`], so that tests move time by hand.

#![expect(
    clippy::disallowed_methods,
    reason = "everything else asks this module"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shoal_model::Timestamp;

/// Tells the time: the system's, or one that a test moves.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    /// Ahead of the system's clock by so many milliseconds.
    System {
        ahead_ms: i64,
    },
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Clock {
        Clock::system_ahead(Duration::ZERO)
    }

    /// The system's clock, ahead by a constant: a rehearsal of what will be, such as the end of a month.
    pub fn system_ahead(by: Duration) -> Clock {
        let ahead_ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        Clock(Source::System { ahead_ms })
    }

    /// A clock that stands at `now` until it is moved. Its clones move with it.
    pub fn manual(now: Timestamp) -> Clock {
        Clock(Source::Manual(Arc::new(AtomicI64::new(now.0))))
    }

    /// The time now, UTC.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System { ahead_ms } => {
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
                let now = since_epoch.map_or(0, |duration| duration.as_millis() as i64);
                Timestamp(now.saturating_add(*ahead_ms))
            }
            Source::Manual(now) => Timestamp(now.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock.
    ///
    /// # Panics
    /// When the clock is the system's.
    pub fn advance(&self, by: Duration) {
        let Source::Manual(now) = &self.0 else {
            panic!("only a manual clock can be moved");
        };
        now.fetch_add(by.as_millis() as i64, Ordering::SeqCst);
    }
}

/// Measures how long something takes, by a clock that never goes back.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts measuring.
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_manual_clock_move_together() {
        let clock = Clock::manual(Timestamp(1000));
        let clone = clock.clone();
        clock.advance(Duration::from_millis(5));
        assert_eq!(clone.now(), Timestamp(1005));
    }
}
