//! Receivers: the way of metrics, and instances that serve several requests.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use shoal_model::grant::Kind;
use shoal_model::telemetry::ValidMetrics;
use shoal_runtime::{
    Call, Committed, Ingest, IngestError, Installed, ReceiverRequest, ReceiverResponse,
    RuntimeOptions, Transport,
};

use crate::support::*;

/// `receive` that does something and answers with HTTP status 200 plus the number of requests before.
fn receives(doing: &str) -> String {
    format!(
        r#"
        (import "shoal:plugin/ingest@0.1.0" "write-metrics" (func $ingest (param i32 i32)))
        (global $served (mut i32) (i32.const 0))
        (func (export "shoal:plugin/receiver@0.1.0#receive") (param $request i32) (result i32)
          (i32.store16 (i32.const 1032) (i32.add (i32.const 200) (global.get $served)))
          (global.set $served (i32.add (global.get $served) (i32.const 1)))
          {doing}
          (i32.const 1024))
        "#
    )
}

/// Hands over an empty batch that lies at 8192, and answers with status 500 plus the case when it is refused.
const INGESTS: &str = "
    (call $ingest (i32.const 8192) (i32.const 2048))
    (if (i32.load8_u (i32.const 2048))
      (then (i32.store16 (i32.const 1032) (i32.add (i32.const 500) (i32.load8_u (i32.const 2056))))))";

/// Remembers how many points it was given, and answers as it was told.
struct Sink {
    batches: Mutex<Vec<usize>>,
    answer: Result<Committed, IngestError>,
}

impl Sink {
    fn new(answer: Result<Committed, IngestError>) -> Arc<Sink> {
        Arc::new(Sink {
            batches: Mutex::default(),
            answer,
        })
    }
}

#[async_trait::async_trait]
impl Ingest for Sink {
    async fn write_metrics(&self, batch: ValidMetrics) -> Result<Committed, IngestError> {
        self.batches.lock().push(batch.points());
        self.answer.clone()
    }
}

async fn receive(receiver: &Installed, sink: &Arc<Sink>) -> Call<ReceiverResponse> {
    let request = ReceiverRequest {
        transport: Transport::Http,
        endpoint: "/v1/test".into(),
        method: "POST".into(),
        content_type: "text/plain".into(),
        body: vec![1; 1000],
    };
    receiver.receive(&context(), request, sink.clone()).await
}

fn guest(code: &str) -> Guest<'_> {
    Guest {
        kind: Kind::Receiver,
        code,
        manifest: "",
    }
}

async fn receiver(doing: &str) -> Arc<Installed> {
    let code = receives(doing);
    installed(&runtime(), &guest(&code)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_reaches_the_host_and_its_fate_the_guest() {
    for (answer, status) in [
        (Ok(Committed::default()), 200),
        (
            Err(IngestError::Overloaded {
                retry_after: Duration::from_secs(1),
            }),
            501,
        ),
        (Err(IngestError::Unavailable("full".into())), 502),
    ] {
        let sink = Sink::new(answer);
        let call = receive(&*receiver(INGESTS).await, &sink).await;
        assert_eq!(call.outcome.unwrap().status, status);
        assert_eq!(*sink.batches.lock(), [0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_batch_never_reaches_the_store() {
    // `symbols.ends` has one end, 5, of no bytes.
    let doing = format!(
        "(i32.store (i32.const 8200) (i32.const 9000)) (i32.store (i32.const 8204) (i32.const 1))
         (i32.store (i32.const 9000) (i32.const 5)) {INGESTS}"
    );
    let sink = Sink::new(Ok(Committed::default()));
    let call = receive(&*receiver(&doing).await, &sink).await;
    assert_eq!(
        call.outcome.unwrap().status,
        500,
        "malformed is the first case"
    );
    assert_eq!(*sink.batches.lock(), [] as [usize; 0]);
    assert_eq!(
        call.report.log[0].message,
        "a batch of metrics was refused: symbols.ends[1]: the last end is not the length 0"
    );
    // A list that passes the end of the memory is the end of the call, not of the host.
    let doing = format!("(i32.store (i32.const 8196) (i32.const -1)) {INGESTS}");
    let call = receive(&*receiver(&doing).await, &sink).await;
    assert!(call.outcome.unwrap_err().is_plugin_fault());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_serves_128_requests_and_then_makes_way() {
    let receiver = receiver("").await;
    let sink = Sink::new(Ok(Committed::default()));
    for i in 0..130u16 {
        let call = receive(&receiver, &sink).await;
        assert_eq!(call.outcome.unwrap().status, 200 + i % 128);
        assert_eq!(call.report.reused, i % 128 != 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_not_used_again_after_a_failure_or_with_much_memory() {
    for doing in [
        "(if (i32.eq (global.get $served) (i32.const 2)) (then unreachable))",
        "(if (i32.eq (global.get $served) (i32.const 2)) (then (drop (memory.grow $memory (i32.const 1200)))))",
    ] {
        let receiver = receiver(doing).await;
        let sink = Sink::new(Ok(Committed::default()));
        let mut reused = Vec::new();
        for _ in 0..4 {
            reused.push(receive(&receiver, &sink).await.report.reused);
        }
        assert_eq!(reused, [false, true, false, true], "{doing}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_instances_make_way_for_others_and_go_with_their_installation() {
    let runtime = shoal_runtime::Runtime::new(RuntimeOptions {
        concurrent_calls_max: 4,
        ..options()
    })
    .unwrap();
    let code = receives("");
    let plugin = load(&runtime, &guest(&code)).await.unwrap();
    let sink = Sink::new(Ok(Committed::default()));
    let all: Vec<_> = (0..6).map(|_| install(&plugin)).collect();
    for receiver in &all {
        assert!(receive(receiver, &sink).await.outcome.is_ok());
    }
    assert_eq!(
        runtime.stats().idle,
        4,
        "every slot is idle, the oldest made way"
    );
    assert!(!receive(&all[0], &sink).await.report.reused);
    assert!(receive(&all[5], &sink).await.report.reused);
    drop(all);
    assert_eq!((runtime.stats().idle, runtime.stats().live), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_none_of_the_protocol_is_refused() {
    let receiver = receiver("(i32.store16 (i32.const 1032) (i32.const 5000))").await;
    let sink = Sink::new(Ok(Committed::default()));
    let error = receive(&receiver, &sink).await.outcome.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the plugin's answer breaks its contract: status 5000 is none of the protocol"
    );
    let context = context();
    let wrong = receiver.run_check(&context).await.outcome.unwrap_err();
    assert_eq!(wrong.to_string(), "the plugin is a receiver, not a check");
}
