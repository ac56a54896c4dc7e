//! Components that are compiled, by digest: as many as are in use, each compiled once.

use std::collections::HashMap;
use std::sync::Arc;

use shoal_runtime::Plugin;
use tokio::sync::OnceCell;

/// Compiled components by digest, or why the runtime refuses one. As many as are in use.
#[derive(Default)]
pub(super) struct Compiled(parking_lot::Mutex<HashMap<String, Arc<Component>>>);

/// Whoever comes first compiles it, the others wait.
pub(super) type Component = OnceCell<Result<Arc<Plugin>, String>>;

impl Compiled {
    pub(super) fn entry(&self, digest: &str) -> Arc<Component> {
        let mut all = self.0.lock();
        all.entry(digest.to_owned()).or_default().clone()
    }

    /// What became of compiling; `None` while that is still to be done.
    pub(super) fn ready(&self, digest: &str) -> Option<Result<Arc<Plugin>, String>> {
        self.0.lock().get(digest)?.get().cloned()
    }

    /// Forgets why a component was refused, so that it is tried again.
    pub(super) fn forget_refused(&self, digest: &str) {
        let is_refused = |component: &Arc<Component>| matches!(component.get(), Some(Err(_)));
        self.0
            .lock()
            .retain(|other, component| other != digest || !is_refused(component));
    }

    /// Forgets what nobody holds.
    pub(super) fn forget_unused(&self, is_wanted: impl Fn(&str) -> bool) {
        self.0.lock().retain(|digest, component| {
            let is_held = match component.get() {
                Some(Ok(plugin)) => Arc::strong_count(plugin) > 1,
                _ => Arc::strong_count(component) > 1,
            };
            is_held || is_wanted(digest)
        });
    }
}
