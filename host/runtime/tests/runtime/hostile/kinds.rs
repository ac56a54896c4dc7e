//! Calls of each kind, and what receivers and channels try beside what checks do.

use std::sync::Arc;

use shoal_model::Timestamp;
use shoal_model::alert::Severity;
use shoal_model::grant::Kind;
use shoal_model::telemetry::ValidMetrics;
use shoal_model::usage::{Meter, MonthUsage};
use shoal_runtime::{
    Call, CallContext, Committed, Ingest, IngestError, Installed, Notification, NotifiedAlert,
    NotifiedMonitor, ReceiverRequest, Terms, Transport, Trigger,
};

use super::case::{Attack, Case, Ends};
use super::cases;
use super::pieces::{forever, grown};

cases! {
    channel_endless_loop
    channel_too_much_memory
    channel_receipt_of_three_megabytes
    receiver_endless_loop
    receiver_too_much_memory
    receiver_all_memory_there_is
    receiver_status_of_no_protocol
    receiver_header_in_its_content_type
    receiver_body_of_one_gibibyte
    receiver_body_of_sixty_mebibytes
    receiver_retry_at_the_end_of_time
    receiver_batch_with_wrong_ends
    receiver_batch_beyond_memory
    receiver_batch_of_sixteen_million_numbers
    receiver_thirty_large_batches
    receiver_that_works_once_and_then_never_ends
}

/// Calls a plugin of whatever kind.
pub(super) async fn call(installed: &Installed, context: &CallContext) -> Call<()> {
    fn done<T>(call: Call<T>) -> Call<()> {
        Call {
            outcome: call.outcome.map(drop),
            report: call.report,
        }
    }
    match installed.plugin().kind() {
        Kind::Check => done(installed.run_check(context).await),
        Kind::Channel => done(installed.notify(context, &notification()).await),
        Kind::BillingRule => done(installed.rate(&usage(), &terms()).await),
        Kind::Receiver => done(
            installed
                .receive(context, request(installed), Arc::new(Sink))
                .await,
        ),
    }
}

fn notification() -> Notification {
    Notification {
        organization: "Acme".into(),
        alert: NotifiedAlert {
            id: "alr_1".into(),
            severity: Severity::Critical,
            previous: Severity::Ok,
            trigger: Trigger::Monitor,
            message: "too slow".into(),
            value: Some(2.5),
            labels: vec![("host".into(), "web-1".into())],
            opened: Timestamp(1_795_000_000_000),
            changed: Timestamp(1_795_000_000_000),
            closed: None,
            url: String::new(),
        },
        monitor: NotifiedMonitor {
            id: "mon_1".into(),
            name: "response time".into(),
            kind: "query".into(),
            memo: String::new(),
            warning: None,
            critical: Some(2.0),
            comparison: None,
        },
    }
}

pub(super) fn usage() -> MonthUsage {
    let mut usage = MonthUsage::new("2026-11".parse().expect("a month"));
    usage.closed_hours = 1;
    usage.count(Meter::HostStandard, "web-1", 1);
    usage
}

pub(super) fn terms() -> Terms {
    Terms {
        currency: "JPY".into(),
        currency_digits: 0,
    }
}

/// A request for the first endpoint of a receiver.
fn request(installed: &Installed) -> ReceiverRequest {
    use shoal_runtime::Endpoint::{Grpc, Http};
    let (transport, endpoint) = match installed.plugin().manifest().endpoints.first() {
        Some(Grpc(method)) => (Transport::Grpc, method.clone()),
        Some(Http(path)) => (Transport::Http, path.clone()),
        None => (Transport::Http, "/".to_owned()),
    };
    ReceiverRequest {
        transport,
        endpoint,
        method: "POST".into(),
        content_type: "application/x-protobuf".into(),
        body: vec![1; 1000],
    }
}

/// Takes every batch that is well formed.
struct Sink;

#[async_trait::async_trait]
impl Ingest for Sink {
    async fn write_metrics(&self, batch: ValidMetrics) -> Result<Committed, IngestError> {
        Ok(Committed {
            accepted: batch.points() as u64,
            ..Committed::default()
        })
    }
}

/// A channel that does something and then says that it told.
pub(super) fn channel_answering(doing: &str) -> Attack {
    channel_with("", "", doing)
}

/// The same with imports, globals or functions before it, and locals.
pub(super) fn channel_with(before: &str, locals: &str, doing: &str) -> Attack {
    Attack::guest(
        Kind::Channel,
        format!(
            r#"{before}
               (func (export "shoal:plugin/channel@0.1.0#notify") (param i32) (result i32)
                 {locals}
                 (i32.store (i32.const 1032) (i32.const 512))
                 (i32.store (i32.const 1036) (i32.const 11))
                 {doing}
                 (i32.const 1024))"#
        ),
    )
}

/// A receiver that does something and then answers with status 200.
fn receiver_answering(doing: &str) -> Attack {
    Attack::guest(
        Kind::Receiver,
        format!(
            r#"(import "shoal:plugin/ingest@0.1.0" "write-metrics" (func $ingest (param i32 i32)))
               (global $served (mut i32) (i32.const 0))
               (func (export "shoal:plugin/receiver@0.1.0#receive") (param $request i32) (result i32)
                 (local $i i32)
                 (i32.store16 (i32.const 1032) (i32.const 200))
                 {doing}
                 (i32.const 1024))"#
        ),
    )
}

fn channel_endless_loop() -> Case {
    Case::new(
        "a channel that computes for ever",
        "processor time of a channel",
        channel_answering(&forever("")),
        Ends::Failed("limit-cpu", "100 ms are allowed"),
    )
}

fn channel_too_much_memory() -> Case {
    Case::new(
        "a channel that takes 65 MB",
        "memory of a channel",
        channel_answering(&grown(1000)),
        Ends::Failed("limit-memory", "33554432 bytes of memory are allowed"),
    )
}

fn channel_receipt_of_three_megabytes() -> Case {
    Case::new(
        "a channel whose receipt has 3 MB",
        "cut to 1,024 bytes",
        channel_answering(&format!(
            "{} (i32.store (i32.const 1032) (i32.const 300000)) (i32.store (i32.const 1036) (i32.const 3000000))",
            grown(60)
        )),
        Ends::Well,
    )
}

fn receiver_endless_loop() -> Case {
    Case::new(
        "a receiver that computes for ever",
        "processor time of a receiver",
        // Less than the two seconds that it may, so that this takes less.
        receiver_answering(&forever("")).manifest("[limits]\ncpu_ms = 300"),
        Ends::Failed("limit-cpu", "300 ms are allowed"),
    )
}

fn receiver_too_much_memory() -> Case {
    Case::new(
        "a receiver that takes 1 GB",
        "memory of a receiver",
        receiver_answering(&grown(16_000)),
        Ends::Failed("limit-memory", " bytes of memory are allowed"),
    )
}

fn receiver_all_memory_there_is() -> Case {
    Case::new(
        "a receiver that writes 120 MB in each of five requests",
        "no instance with so much memory is kept",
        receiver_answering(&format!(
            "{} (memory.fill (i32.const 65536) (i32.const 7) (i32.const 120000000))",
            grown(1900)
        ))
        .times(5),
        Ends::OneOf(vec![
            Ends::Well,
            Ends::Failed("limit-memory", " bytes of memory are allowed"),
        ]),
    )
}

fn bad_response(tries: &'static str, doing: &str, says: &'static str) -> Case {
    Case::new(
        tries,
        "the contract",
        receiver_answering(doing),
        Ends::Failed("bad-answer", says),
    )
}

fn receiver_status_of_no_protocol() -> Case {
    bad_response(
        "an answer with status 5000",
        "(i32.store16 (i32.const 1032) (i32.const 5000))",
        "the plugin's answer breaks its contract: status 5000 is none of the protocol",
    )
}

fn receiver_header_in_its_content_type() -> Case {
    bad_response(
        "a content type with a line break and another header after it",
        "(i32.store (i32.const 512) (i32.const 0x3a610a0d))
         (i32.store (i32.const 1036) (i32.const 512)) (i32.store (i32.const 1040) (i32.const 11))",
        "the content type is not 200 or fewer printable characters",
    )
}

fn receiver_body_of_one_gibibyte() -> Case {
    Case::new(
        "an answer whose body has 1 GiB, which its memory does not have",
        "bounds of its memory",
        receiver_answering(
            "(i32.store (i32.const 1072) (i32.const 0)) (i32.store (i32.const 1076) (i32.const 0x40000000))",
        ),
        Ends::Failed("trapped", "list pointer/length out of bounds of memory"),
    )
}

fn receiver_body_of_sixty_mebibytes() -> Case {
    Case::new(
        "an answer whose body has 60 MiB",
        "the contract, or what is handed over at once",
        receiver_answering(&format!(
            "{} (i32.store (i32.const 1072) (i32.const 65536)) (i32.store (i32.const 1076) (i32.const 62914560))",
            grown(1000)
        )),
        Ends::OneOf(vec![
            Ends::Failed("bad-answer", "a body of 62914560 bytes where "),
            Ends::Failed("limit-output", " bytes at once are allowed"),
        ]),
    )
}

fn receiver_retry_at_the_end_of_time() -> Case {
    Case::new(
        "a wish that the client try again in 2^64 - 1 milliseconds",
        "whoever writes the header",
        receiver_answering(
            "(i32.store8 (i32.const 1048) (i32.const 1)) (i64.store (i32.const 1056) (i64.const -1))",
        ),
        Ends::Well,
    )
}

/// Hands over what lies at 8192, ten lists without anything else, after some stores.
fn ingest(stores: &str) -> String {
    format!("{stores} (call $ingest (i32.const 8192) (i32.const 2048))")
}

fn receiver_batch_with_wrong_ends() -> Case {
    Case::new(
        "a batch whose text ends where there is none",
        "the check of every batch: the guest is told, the store sees nothing",
        receiver_answering(&ingest(
            "(i32.store (i32.const 8200) (i32.const 9000)) (i32.store (i32.const 8204) (i32.const 1))
             (i32.store (i32.const 9000) (i32.const 5))",
        )),
        Ends::Well,
    )
}

fn receiver_batch_beyond_memory() -> Case {
    Case::new(
        "a batch that passes the end of the memory",
        "bounds of its memory",
        receiver_answering(&ingest("(i32.store (i32.const 8196) (i32.const -1))")),
        Ends::Failed("trapped", "list pointer/length out of bounds of memory"),
    )
}

fn receiver_batch_of_sixteen_million_numbers() -> Case {
    Case::new(
        "a batch of 16 million ends, 64 MB, of no text at all",
        "the check of every batch, or what is handed over at once",
        receiver_answering(&ingest(&format!(
            "{} (i32.store (i32.const 8200) (i32.const 65536)) (i32.store (i32.const 8204) (i32.const 16000000))",
            grown(1000)
        ))),
        Ends::OneOf(vec![
            Ends::Well,
            Ends::Failed("limit-output", " bytes at once are allowed"),
        ]),
    )
}

fn receiver_thirty_large_batches() -> Case {
    Case::new(
        "1.6 million ends of no text in each of 30 batches of one request",
        "processor time where it is more than that",
        receiver_answering(&format!(
            "{}
             (i32.store (i32.const 8200) (i32.const 65536)) (i32.store (i32.const 8204) (i32.const 1600000))
             (loop $again
               (call $ingest (i32.const 8192) (i32.const 2048))
               (local.set $i (i32.add (local.get $i) (i32.const 1)))
               (br_if $again (i32.lt_u (local.get $i) (i32.const 30))))",
            grown(200)
        )),
        Ends::OneOf(vec![
            Ends::Well,
            Ends::Failed("limit-cpu", " ms are allowed"),
        ]),
    )
}

fn receiver_that_works_once_and_then_never_ends() -> Case {
    Case::new(
        "a receiver that serves one request and computes for ever at the next, in the same instance",
        "processor time, counted anew for each request",
        receiver_answering(&format!(
            "(if (global.get $served) (then {})) (global.set $served (i32.const 1))",
            forever("")
        ))
        .manifest("[limits]\ncpu_ms = 300")
        .times(2),
        Ends::Failed("limit-cpu", "300 ms are allowed"),
    )
}
