//! Ctrl-C and `kill`: remembered in a flag, so that what was started is also stopped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};

static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Begins to listen. The first signal sets the flag; a second one ends the process at once.
pub(crate) fn listen() -> Result<()> {
    for signal in [SIGINT, SIGTERM] {
        // Order matters: this one looks at the flag before the next one sets it.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&INTERRUPTED))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&INTERRUPTED)))
            .with_context(|| format!("could not listen for signal {signal}"))?;
    }
    Ok(())
}

/// Whether somebody asked us to stop.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}
