//! The time, which tests set: `FakeHost::at_unix_ms`.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in milliseconds since the Unix epoch. In a billing rule the clock stands at the end of the period.
pub fn now_unix_ms() -> i64 {
    #[cfg(not(target_arch = "wasm32"))]
    if let Some(fixed) = crate::double::now_unix_ms() {
        return fixed;
    }
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}
