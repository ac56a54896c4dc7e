//! What the author of a plugin learns of its crash: functions, files and lines, where the component carries them.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Map;
use shoal_model::telemetry::ValidMetrics;
use shoal_model::{InstallationId, Timestamp};
use shoal_runtime::{
    CallContext, CallError, Committed, Ingest, IngestError, InstallOptions, ReceiverRequest,
    Runtime, RuntimeOptions, Transport,
};

use crate::support::components::component;

struct Nowhere;

#[async_trait]
impl Ingest for Nowhere {
    async fn write_metrics(&self, _: ValidMetrics) -> Result<Committed, IngestError> {
        Ok(Committed::default())
    }
}

/// Has the hostile receiver, which carries debug information, behave as the word says.
async fn crash(word: &str) -> CallError {
    let runtime = Runtime::new(RuntimeOptions {
        concurrent_calls_max: 4,
        ..RuntimeOptions::default()
    });
    let runtime = runtime.expect("a runtime");
    let plugin = runtime.load(component("hostile-receiver")).await;
    let plugin = plugin.expect("loaded");
    let (id, asked) = (
        InstallationId::from_random([7; 10]),
        plugin.manifest().asked(),
    );
    let installed = plugin.install(InstallOptions::new(id, asked, Map::new()));
    let request = ReceiverRequest {
        transport: Transport::Http,
        endpoint: "/hostile".to_owned(),
        method: "POST".to_owned(),
        content_type: "text/plain".to_owned(),
        body: word.as_bytes().to_vec(),
    };
    let context = CallContext::new(Timestamp(1_795_478_400_000), "crash");
    let installed = installed.expect("installed");
    let call = installed.receive(&context, request, Arc::new(Nowhere));
    call.await.outcome.expect_err("it crashed")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_is_told_with_file_and_line() {
    let CallError::Panicked { message, backtrace } = crash("panic").await else {
        panic!("a panic");
    };
    assert!(
        message.starts_with("hostile-receiver/src/lib.rs:") || message.starts_with("src/lib.rs:"),
        "{message}"
    );
    let CallError::Trapped {
        backtrace: aborted, ..
    } = crash("abort").await
    else {
        panic!("a trap");
    };
    for backtrace in [backtrace, aborted] {
        let ours =
            |line: &&String| line.contains("hostile_receiver::") && line.contains("src/lib.rs:");
        assert!(backtrace.iter().any(|line| ours(&line)), "{backtrace:#?}");
    }
}
