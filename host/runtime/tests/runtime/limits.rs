//! What becomes of guests that use more than they may, or break.

use std::time::Duration;

use shoal_model::grant::Kind;
use shoal_model::limit::LimitOverrides;
use shoal_runtime::{
    CallError, InstallOptions, LimitKind, LogSource, RuntimeOptions, TenantLimits,
};

use crate::support::*;

fn limit(error: &CallError) -> LimitKind {
    match error {
        CallError::Limit(limit) => limit.which,
        other => panic!("{other:?} is no limit"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_behaves_has_an_outcome() {
    let call = run(&well_after("")).await;
    let outcome = call.outcome.unwrap();
    assert_eq!(outcome.summary, "all is well");
    assert!(call.report.memory_peak_bytes >= 4 * 65536);
    assert!(!call.report.reused);
    assert_eq!(call.report.log, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_loop_ends_by_its_processor_time_and_disturbs_nobody() {
    let runtime = runtime();
    let spin = installed(
        &runtime,
        &Guest::check(&well_after("(loop $again (br $again))")),
    )
    .await;
    let well = installed(&runtime, &Guest::check(&well_after(""))).await;
    let spinning = tokio::spawn(async move { spin.run_check(&context()).await });
    let mut beside = 0;
    while !spinning.is_finished() {
        well.run_check(&context()).await.outcome.unwrap();
        beside += 1;
    }
    let call = spinning.await.unwrap();
    let error = call.outcome.unwrap_err();
    assert_eq!(limit(&error), LimitKind::Cpu);
    assert!(error.to_string().ends_with("200 ms are allowed"), "{error}");
    assert!(call.report.cpu >= Duration::from_millis(200));
    assert!(
        call.report.cpu < Duration::from_millis(400),
        "{:?}",
        call.report.cpu
    );
    assert!(beside > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_ends_at_the_deadline_and_is_no_processor_time() {
    let code = format!(
        r#"
        (import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-duration" (func $after (param i64) (result i32)))
        (import "wasi:io/poll@0.2.6" "[method]pollable.block" (func $block (param i32)))
        {}"#,
        well_after("(call $block (call $after (i64.const 3600000000000)))")
    );
    let runtime = runtime();
    let check = installed(&runtime, &Guest::check(&code)).await;
    let call = check.run_check(&within(Duration::from_millis(300))).await;
    assert_eq!(limit(&call.outcome.unwrap_err()), LimitKind::Wall);
    assert!(call.report.duration >= Duration::from_millis(300));
    assert!(
        call.report.cpu < Duration::from_millis(100),
        "{:?}",
        call.report.cpu
    );
    let passed = check.run_check(&within(Duration::ZERO)).await;
    assert_eq!(passed.outcome.unwrap_err(), CallError::DeadlinePassed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_one_sum_over_all_memories() {
    // Three memories of 25 MiB each: each is below the limit of 64 MiB, all are not.
    let code = format!(
        "{} (memory $b 1) (memory $c 1)",
        well_after(
            "(if (i32.eq (i32.const -1) (memory.grow (i32.const 400))) (then unreachable))
             (if (i32.eq (i32.const -1) (memory.grow $b (i32.const 400))) (then unreachable))
             (if (i32.eq (i32.const -1) (memory.grow $c (i32.const 400))) (then unreachable))"
        )
    );
    // The allocator's memory must be the first.
    let code = code.replace("(memory.grow (", "(memory.grow $memory (");
    let call = run(&code).await;
    let error = call.outcome.unwrap_err();
    assert_eq!(limit(&error), LimitKind::Memory);
    assert!(
        error
            .to_string()
            .ends_with("67108864 bytes of memory are allowed"),
        "{error}"
    );
    assert!(call.report.memory_peak_bytes <= 64 << 20);
    assert!(call.report.memory_peak_bytes >= 50 << 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_counts_as_memory() {
    let code = format!(
        "(table $t 1 funcref) {}",
        well_after(
            "(if (i32.eq (i32.const -1) (table.grow $t (ref.null func) (i32.const 1000000000)))
               (then unreachable))"
        )
    );
    assert_eq!(
        limit(&run(&code).await.outcome.unwrap_err()),
        LimitKind::Memory
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn growth_that_is_refused_is_the_guests_to_handle() {
    let code = well_after("(drop (memory.grow $memory (i32.const 60000)))");
    assert!(run(&code).await.outcome.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_is_told_with_the_functions_that_led_to_it() {
    let code = format!(
        "(func $parse_page unreachable) {}",
        well_after("(call $parse_page)")
    );
    let call = run(&code).await;
    let CallError::Trapped { message, backtrace } = call.outcome.unwrap_err() else {
        panic!("a crash");
    };
    assert_eq!(
        message,
        "wasm trap: wasm `unreachable` instruction executed"
    );
    assert!(backtrace[0].ends_with("parse_page"), "{backtrace:?}");
    assert!(backtrace.len() >= 2, "{backtrace:?}");
    let crash = run(&well_after(
        "(drop (i32.div_u (i32.const 1) (i32.const 0)))",
    ))
    .await;
    let text = crash.outcome.unwrap_err().to_string();
    assert_eq!(
        text,
        "the plugin crashed: wasm trap: integer divide by zero"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recursion_without_end_is_a_crash() {
    let code = format!(
        "(func $deeper (param i32) (result i32) (i32.add (i32.const 1) (call $deeper (local.get 0)))) {}",
        well_after("(drop (call $deeper (i32.const 0)))")
    );
    let CallError::Trapped { message, backtrace } = run(&code).await.outcome.unwrap_err() else {
        panic!("a crash");
    };
    assert!(message.contains("call stack exhausted"), "{message}");
    assert!(backtrace.len() <= 32);
}

const STDERR: &str = r#"
    (import "wasi:cli/stderr@0.2.6" "get-stderr" (func $stderr (result i32)))
    (import "wasi:io/streams@0.2.6" "[method]output-stream.blocking-write-and-flush"
      (func $write (param i32 i32 i32 i32)))
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_told_with_its_message_and_place() {
    let said = "\\nthread '<unnamed>' (1) panicked at src/lib.rs:15:9:\\nno such page\\nnote: run with `RUST_BACKTRACE=1`\\n";
    let code = format!(
        "{STDERR} (data (i32.const 2048) \"{said}\") {}",
        well_after(
            "(call $write (call $stderr) (i32.const 2048) (i32.const 101) (i32.const 4096)) unreachable"
        )
    );
    let call = run(&code).await;
    let error = call.outcome.unwrap_err();
    let CallError::Panicked { message, backtrace } = &error else {
        panic!("{error:?} is no panic");
    };
    assert_eq!(message, "src/lib.rs:15:9: no such page");
    assert!(!backtrace.is_empty());
    assert!(
        call.report
            .log
            .iter()
            .all(|line| line.source == LogSource::Stderr)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_log_is_cut_and_counted() {
    let code = format!(
        r#"
        (import "shoal:plugin/log@0.1.0" "write" (func $log (param i32 i32 i32)))
        {}"#,
        well_after(
            "(local $i i32)
             (loop $again
               (call $log (i32.const 1) (i32.const 65536) (i32.const 1000))
               (local.set $i (i32.add (local.get $i) (i32.const 1)))
               (br_if $again (i32.lt_u (local.get $i) (i32.const 1000))))"
        )
    );
    let call = run(&code).await;
    assert!(call.outcome.is_ok(), "a flood fails nobody");
    assert_eq!(call.report.log.len(), 65);
    assert_eq!(call.report.log_dropped_bytes, 1_000_000 - 65_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_beyond_its_size_is_refused() {
    let code = well_after(
        "(drop (memory.grow $memory (i32.const 200)))
         (i32.store (i32.const 1044) (i32.const 0)) (i32.store (i32.const 1048) (i32.const 0))
         (global.set $answer (i32.const 6000000))",
    )
    .replace("(i32.const 11)", "(global.get $answer)");
    let code = format!("(global $answer (mut i32) (i32.const 11)) {code}");
    let error = run(&code).await.outcome.unwrap_err();
    assert_eq!(limit(&error), LimitKind::Output);
    assert!(error.is_plugin_fault());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_with_too_much_for_the_host_is_refused() {
    let code = format!(
        r#"
        (import "shoal:plugin/log@0.1.0" "write" (func $log (param i32 i32 i32)))
        {}"#,
        well_after(
            "(drop (memory.grow $memory (i32.const 200)))
             (call $log (i32.const 1) (i32.const 65536) (i32.const 6000000))"
        )
    );
    assert_eq!(
        limit(&run(&code).await.outcome.unwrap_err()),
        LimitKind::Output
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resources_that_are_never_dropped_run_out() {
    let code = format!(
        "{STDERR} {}",
        well_after("(loop $again (drop (call $stderr)) (br $again))")
    );
    assert_eq!(
        limit(&run(&code).await.outcome.unwrap_err()),
        LimitKind::Handles
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ending_itself_is_a_crash_of_the_guest_alone() {
    let code = format!(
        "(import \"wasi:cli/exit@0.2.6\" \"exit\" (func $exit (param i32))) {}",
        well_after("(call $exit (i32.const 1))")
    );
    let error = run(&code).await.outcome.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the plugin crashed: it ended itself with status 1"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_against_the_contract_is_refused() {
    // Status 9 of 4, and text that is not UTF-8.
    let odd = well_after("(i32.store8 (i32.const 1032) (i32.const 9))");
    let text = run(&odd).await.outcome.unwrap_err().to_string();
    assert!(text.starts_with("the plugin crashed: "), "{text}");
    let garbage = well_after("(i32.store (i32.const 512) (i32.const -1))");
    let text = run(&garbage).await.outcome.unwrap_err().to_string();
    assert!(text.starts_with("the plugin crashed: "), "{text}");
    // One measurement whose name is empty.
    let nameless = well_after(
        "(i32.store (i32.const 1044) (i32.const 3000)) (i32.store (i32.const 1048) (i32.const 1))",
    );
    let error = run(&nameless).await.outcome.unwrap_err();
    assert!(matches!(error, CallError::BadAnswer(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_of_the_plugin_is_handed_on() {
    let code = well_after(
        "(i32.store8 (i32.const 1024) (i32.const 1))
         (i32.store8 (i32.const 1032) (i32.const 1))
         (i32.store (i32.const 1040) (i32.const 512)) (i32.store (i32.const 1044) (i32.const 3))
         (i32.store (i32.const 1048) (i32.const 512)) (i32.store (i32.const 1052) (i32.const 11))
         (i32.store8 (i32.const 1056) (i32.const 1)) (i64.store (i32.const 1064) (i64.const 1500))
         (return (i32.const 1024))",
    );
    let error = run(&code).await.outcome.unwrap_err();
    assert_eq!(error.code(), "retry");
    assert_eq!(error.to_string(), "to be tried again (all): all is well");
    assert!(!error.is_plugin_fault());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_there_is_no_room_a_call_is_busy_and_the_next_one_is_not() {
    let runtime = shoal_runtime::Runtime::new(RuntimeOptions {
        concurrent_calls_max: 4,
        admission_wait: Duration::from_millis(50),
        ..options()
    })
    .unwrap();
    let code = format!(
        r#"
        (import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-duration" (func $after (param i64) (result i32)))
        (import "wasi:io/poll@0.2.6" "[method]pollable.block" (func $block (param i32)))
        {}"#,
        well_after("(call $block (call $after (i64.const 3600000000000)))")
    );
    let waits = installed(&runtime, &Guest::check(&code)).await;
    let other = installed(&runtime, &Guest::check(&well_after(""))).await;
    let holder = waits.clone();
    let holding = tokio::spawn(async move { holder.run_check(&context()).await });
    while runtime.stats().live == 0 {
        tokio::task::yield_now().await;
    }
    // A quarter of the slots is one: the installation is full, the others are not.
    let busy = waits.run_check(&context()).await.outcome.unwrap_err();
    assert_eq!(busy.code(), "busy");
    assert!(!busy.is_plugin_fault());
    assert!(other.run_check(&context()).await.outcome.is_ok());
    holding.abort();
    let _ = holding.await;
    assert_eq!(runtime.stats().live, 0, "a dropped call leaves nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn turning_to_the_host_without_end_is_stopped_and_counted() {
    let code = format!(
        r#"
        (import "wasi:clocks/monotonic-clock@0.2.6" "now" (func $now (result i64)))
        {}"#,
        well_after(
            "(local $i i32)
             (loop $again
               (drop (call $now))
               (local.set $i (i32.add (local.get $i) (i32.const 1)))
               (br_if $again (i32.lt_u (local.get $i) (i32.const 100))))"
        )
    );
    let runtime = runtime();
    let plugin = load(&runtime, &Guest::check(&code)).await.unwrap();
    let call = install(&plugin).run_check(&context()).await;
    call.outcome.unwrap();
    let calls = call.report.host_calls;
    assert!((100..110).contains(&calls), "{calls}");
    let few = plugin.install(InstallOptions {
        limits: LimitOverrides {
            host_calls_max: Some(50),
            ..LimitOverrides::default()
        },
        ..InstallOptions::new(id(), plugin.manifest().asked(), serde_json::Map::new())
    });
    let error = few
        .unwrap()
        .run_check(&context())
        .await
        .outcome
        .unwrap_err();
    assert_eq!(limit(&error), LimitKind::HostCalls);
    assert_eq!(
        error.to_string(),
        "the plugin turned to the host 51 times, 50 times are allowed"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_much_randomness_at_once_ends_the_call() {
    let code = format!(
        r#"
        (import "wasi:random/random@0.2.6" "get-random-bytes" (func $random (param i64 i32)))
        {}"#,
        well_after("(call $random (i64.const 65537) (i32.const 4096))")
    );
    let error = run(&code).await.outcome.unwrap_err();
    assert_eq!(limit(&error), LimitKind::Random);
    assert_eq!(
        error.to_string(),
        "the plugin asked for 65537 random bytes at once, 65536 random bytes at once are allowed"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_told_where_there_is_only_the_log_to_say_it() {
    let said = "panicked at src/lib.rs:3:1:\\nno luck";
    let code = format!(
        r#"
        (import "shoal:plugin/log@0.1.0" "write" (func $log (param i32 i32 i32)))
        (data (i32.const 2048) "{said}") {}"#,
        well_after("(call $log (i32.const 3) (i32.const 2048) (i32.const 35)) unreachable")
    );
    let error = run(&code).await.outcome.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the plugin panicked: src/lib.rs:3:1: no luck"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_has_its_own_bounds_from_the_next_call_on() {
    let runtime = runtime();
    let endless = Guest::check(&well_after("(loop $again (br $again))")).component();
    let plugin = runtime.load(endless).await.unwrap();
    let installed = plugin.install(InstallOptions {
        tenant: 7,
        ..InstallOptions::new(id(), plugin.manifest().asked(), serde_json::Map::new())
    });
    let installed = installed.unwrap();
    let allowed = async |cpu_ms: Option<u64>| {
        let own = LimitOverrides {
            cpu: cpu_ms.map(Duration::from_millis),
            ..LimitOverrides::default()
        };
        let tenant = TenantLimits {
            weight: 1,
            limits: [(Kind::Check, own)].into(),
        };
        runtime.set_tenants([(7, tenant)].into());
        match installed.run_check(&context()).await.outcome.unwrap_err() {
            CallError::Limit(limit) => limit.allowed,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(allowed(Some(20)).await, 20);
    assert_eq!(allowed(Some(900)).await, 200, "only the lower one counts");
    assert_eq!(allowed(None).await, 200);
}
