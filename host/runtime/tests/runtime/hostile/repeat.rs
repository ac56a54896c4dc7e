//! Running a billing rule again and again, beside guests that take all the processor time there is.

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::kinds::{terms, usage};
use super::pieces::forever;
use crate::support::{Guest, context, install, installed, runtime, well_after};

/// The hash of each answer, and the instructions that it took.
///
/// # Panics
/// When the file is no billing rule, or fails.
pub(crate) async fn under_load(path: &Path, count: usize) -> Vec<(String, u64)> {
    let runtime = runtime();
    let bytes = std::fs::read(path).expect("a file");
    let plugin = runtime.load(bytes).await.expect("a rule");
    let rule = install(&plugin);
    let endless = well_after(&forever(""));
    let busy = installed(&runtime, &Guest::check(&endless)).await;
    let load: Vec<_> = (0..3)
        .map(|_| {
            let busy = Arc::clone(&busy);
            tokio::spawn(async move {
                loop {
                    let _ = busy.run_check(&context()).await;
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    for _ in 0..count {
        let call = rule.rate(&usage(), &terms()).await;
        let statement = call.outcome.expect("a statement");
        let hash = Sha256::digest(format!("{statement:?}"));
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        all.push((hash, call.report.fuel.expect("it is counted")));
    }
    load.iter().for_each(tokio::task::JoinHandle::abort);
    all
}
