//! What happens when a file is loaded: its start-up code runs once.

use super::case::{Attack, Case, Ends};
use super::cases;
use super::pieces::{LOG, STDERR, WAIT, forever, grown};

cases! {
    core_start_that_never_ends
    core_start_that_calls_the_host
    start_that_never_ends
    start_that_sleeps
    start_that_takes_all_memory
    start_that_crashes
    start_that_recurses
    start_that_panics
    start_that_floods_the_log
    start_that_ends_the_process
    start_with_too_much_memory
    start_with_too_many_entries
    start_that_calls_out
    start_that_works
}

/// Something in the start-up code, which is refused with this.
fn start(tries: &'static str, before: &str, doing: &str, says: &'static str) -> Case {
    // Called when the component is whole, so that it reaches the host; a core module's own start is called before.
    let before = format!("{before} (func (export \"_initialize\") {doing})");
    Case::new(
        tries,
        "the limits of its kind, when it is loaded",
        Attack::check_with(&before, ""),
        Ends::Refused(says),
    )
}

fn core_start(tries: &'static str, before: &str, doing: &str, says: &'static str) -> Case {
    let before = format!("{before} (func $start {doing}) (start $start)");
    Case::new(
        tries,
        "the limits of its kind, when it is loaded",
        Attack::check_with(&before, ""),
        Ends::Refused(says),
    )
}

fn core_start_that_never_ends() -> Case {
    core_start(
        "the start function of a core module that never ends",
        "",
        &forever(""),
        "the component cannot start: the plugin computed ",
    )
}

fn core_start_that_calls_the_host() -> Case {
    core_start(
        "the start function of a core module that calls the host before it is linked",
        LOG,
        "(call $log (i32.const 1) (i32.const 512) (i32.const 11))",
        "the component cannot start: the plugin crashed: wasm trap: uninitialized element",
    )
}

fn start_that_never_ends() -> Case {
    start(
        "start-up code that never ends",
        "",
        &forever(""),
        "the component cannot start: the plugin computed ",
    )
}

fn start_that_sleeps() -> Case {
    let case = start(
        "start-up code that sleeps for an hour",
        WAIT,
        "(call $block (call $after (i64.const 3600000000000)))",
        "the component cannot start: the plugin took ",
    );
    // Nobody has set a deadline yet, so its manifest asks for less than half a minute.
    Case {
        attack: case.attack.manifest("[limits]\nwall_ms = 300"),
        ..case
    }
}

fn start_that_takes_all_memory() -> Case {
    start(
        "start-up code that takes 3.9 GB",
        "",
        &grown(60_000),
        "67108864 bytes of memory are allowed",
    )
}

fn start_that_crashes() -> Case {
    start(
        "start-up code that crashes",
        "",
        "unreachable",
        "the component cannot start: the plugin crashed: wasm trap",
    )
}

fn start_that_recurses() -> Case {
    start(
        "start-up code that calls itself for ever",
        "(func $deeper (param i32) (result i32) (i32.add (i32.const 1) (call $deeper (local.get 0))))",
        "(drop (call $deeper (i32.const 0)))",
        "call stack exhausted",
    )
}

fn start_that_panics() -> Case {
    let said = "panicked at src/lib.rs:1:1:\\nnot today";
    start(
        "start-up code that panics",
        &format!("{STDERR} (data (i32.const 2048) \"{said}\")"),
        "(call $write (call $stderr) (i32.const 2048) (i32.const 37) (i32.const 4096)) unreachable",
        "the component cannot start: the plugin panicked: src/lib.rs:1:1: not today",
    )
}

fn start_that_floods_the_log() -> Case {
    let case = start(
        "start-up code that logs for ever",
        LOG,
        &forever("(call $log (i32.const 1) (i32.const 512) (i32.const 11))"),
        "",
    );
    // A fast machine has it turn to the host often enough before its time is over.
    let ends = Ends::OneOf(vec![
        Ends::Refused("the component cannot start: the plugin computed "),
        Ends::Refused("1000000 times are allowed"),
    ]);
    Case { ends, ..case }
}

fn start_that_ends_the_process() -> Case {
    start(
        "start-up code that ends the process",
        r#"(import "wasi:cli/exit@0.2.6" "exit" (func $exit (param i32)))"#,
        "(call $exit (i32.const 0))",
        "the component cannot start: the plugin crashed: it ended itself with status 0",
    )
}

fn start_with_too_much_memory() -> Case {
    Case::new(
        "131 MB of memory from the beginning",
        "memory over all memories and tables, when it is loaded",
        Attack::check("").base("(global $heap", "(memory $more 2000) (global $heap"),
        Ends::Refused("bytes of memory"),
    )
}

fn start_with_too_many_entries() -> Case {
    Case::new(
        "a table of 10 million entries from the beginning",
        "memory over all memories and tables, when it is loaded",
        Attack::check_with("(table $t 10000000 funcref)", ""),
        Ends::Refused(""),
    )
}

fn start_that_calls_out() -> Case {
    Case::new(
        "start-up code that asks the host to wait, which only calls may",
        "nothing: it is harmless",
        Attack::check_with(
            &format!(
                "{WAIT} (func (export \"_initialize\") (call $block (call $after (i64.const 1000))))"
            ),
            "",
        ),
        Ends::Well,
    )
}

fn start_that_works() -> Case {
    Case::new(
        "start-up code that computes for half of what it may, at each of ten calls",
        "nothing: it may, and it counts",
        Attack::check_with(
            "(func $start (local $i i32)
               (loop $again (local.set $i (i32.add (local.get $i) (i32.const 1)))
                 (br_if $again (i32.lt_u (local.get $i) (i32.const 10000000)))))
             (start $start)",
            "",
        )
        .times(10),
        Ends::Well,
    )
}
