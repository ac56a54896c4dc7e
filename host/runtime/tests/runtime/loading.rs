//! Which components are not even loaded.

use shoal_model::grant::Kind;
use shoal_runtime::Refusal;

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_up_code_that_never_ends_is_refused() {
    let guest = Guest::check(
        "(func $start (loop $again (br $again))) (start $start)
         (func (export \"shoal:plugin/check@0.1.0#run\")
           (param i32 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32) (result i32) unreachable)",
    );
    let refusal = load(&runtime(), &guest).await.unwrap_err();
    let Refusal::CannotStart(reason) = &refusal else {
        panic!("{refusal:?}");
    };
    assert!(reason.contains("200 ms are allowed"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_memory_at_the_start_than_allowed_is_refused() {
    let guest = Guest::check(
        "(memory $more 2000) (func (export \"shoal:plugin/check@0.1.0#run\")
           (param i32 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32) (result i32) unreachable)",
    );
    let refusal = load(&runtime(), &guest).await.unwrap_err().to_string();
    assert!(refusal.contains("bytes of memory"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interface_of_other_types_is_refused() {
    let bytes = wat::parse_str(
        r#"(component
             (core module $m (func (export "run")))
             (core instance $i (instantiate $m))
             (func $run (canon lift (core func $i "run")))
             (instance $check (export "run" (func $run)))
             (export "shoal:plugin/check@0.1.0" (instance $check))
             (@custom "shoal:manifest" "id = \"odd\"\nversion = \"1.0.0\"\nkind = \"check\"\ntitle = \"Odd\"\ndescription = \"Odd.\"")
           )"#,
    )
    .unwrap();
    let refusal = runtime().load(bytes).await.unwrap_err();
    let Refusal::Incompatible {
        kind: Kind::Check,
        reason,
    } = &refusal
    else {
        panic!("{refusal:?}");
    };
    assert!(reason.contains("type mismatch with parameters"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_beyond_the_deployments_are_refused() {
    let guest = Guest {
        manifest: "[limits]\ncpu_ms = 1000",
        ..Guest::check(
            "(func (export \"shoal:plugin/check@0.1.0#run\")
               (param i32 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32) (result i32) unreachable)",
        )
    };
    let refusal = load(&runtime(), &guest).await.unwrap_err().to_string();
    assert_eq!(
        refusal,
        "plugin.toml: limits.cpu_ms asks for 1000 ms, this deployment allows 200 ms: ask for less, or have the operator raise the limit"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_plugin_needs_the_operators_leave() {
    let guest = Guest {
        manifest: "[limits]\nclass = \"large\"\ncpu_ms = 1000\nmemory_mib = 200",
        ..Guest::check(
            "(table 50000 funcref) (func (export \"shoal:plugin/check@0.1.0#run\")
               (param i32 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32) (result i32) unreachable)",
        )
    };
    let refusal = load(&runtime(), &guest).await.unwrap_err();
    assert_eq!(refusal, Refusal::LargeNotAllowed);
    let roomy = shoal_runtime::Runtime::new(shoal_runtime::RuntimeOptions {
        allow_large: true,
        ..options()
    });
    let plugin = load(&roomy.unwrap(), &guest).await.unwrap();
    assert_eq!(plugin.limits().memory_max_bytes, 200 << 20);
    assert_eq!(plugin.limits().cpu.as_millis(), 1000);
}
