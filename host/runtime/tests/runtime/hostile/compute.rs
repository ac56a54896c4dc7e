//! Computing or waiting for ever.

use std::time::Duration;

use super::case::{Attack, Case, Ends};
use super::cases;
use super::pieces::{LOG, WAIT, forever, grown};

cases! {
    endless_loop
    endless_tail_calls
    endless_indirect_calls
    endless_memory_fills
    endless_memory_copies
    endless_table_fills
    endless_growth_by_nothing
    endless_allocator
    endless_cleanup
    exponential_recursion
    deep_recursion
    deep_recursion_into_the_host
    recursion_through_the_allocator
    endless_clock_reading
    endless_random_numbers
    endless_polling
    endless_large_log_lines
    sleeping_for_ever
    sleeping_longer_than_time_goes
    waiting_for_the_end_of_time
    dividing_by_zero
    float_out_of_range
}

/// Ends by the processor time of a check, or by how often it turns to the host where that comes first.
fn by_cpu_or_turns(tries: &'static str, attack: Attack) -> Case {
    let ends = Ends::OneOf(vec![
        Ends::Failed("limit-cpu", " ms, 200 ms are allowed"),
        Ends::Failed("limit-host-calls", "1000000 times are allowed"),
    ]);
    Case::new(tries, "processor time, or host calls", attack, ends)
}

/// Ends by the processor time of a check.
fn by_cpu(tries: &'static str, attack: Attack) -> Case {
    let ends = Ends::Failed("limit-cpu", " ms, 200 ms are allowed");
    Case::new(tries, "processor time", attack, ends)
}

/// Ends by the time that the caller gives.
fn by_wall(tries: &'static str, attack: Attack) -> Case {
    let attack = attack.within(Duration::from_millis(300));
    let ends = Ends::Failed("limit-wall", " ms are allowed");
    Case::new(tries, "wall-clock time", attack, ends)
}

fn endless_loop() -> Case {
    by_cpu("a loop without end", Attack::check(&forever("")))
}

fn endless_tail_calls() -> Case {
    by_cpu(
        "two functions that call each other as their last act, which takes no stack",
        Attack::check_with(
            "(func $ping (return_call $pong)) (func $pong (return_call $ping))",
            "(call $ping)",
        ),
    )
}

fn endless_indirect_calls() -> Case {
    by_cpu(
        "calls through a table, again and again",
        Attack::check_with(
            "(type $nothing (func)) (table $t funcref (elem $f)) (func $f)",
            &forever("(call_indirect $t (type $nothing) (i32.const 0))"),
        ),
    )
}

fn endless_memory_fills() -> Case {
    let fill = "(memory.fill (i32.const 65536) (i32.const 1) (i32.const 58000000))";
    by_cpu(
        "one instruction that writes 58 MB, again and again: nothing interrupts it but its end",
        Attack::check(&format!("{} {}", grown(900), forever(fill))),
    )
}

fn endless_memory_copies() -> Case {
    let copy = "(memory.copy (i32.const 65536) (i32.const 65537) (i32.const 58000000))";
    by_cpu(
        "one instruction that moves 58 MB by one byte, again and again",
        Attack::check(&format!("{} {}", grown(900), forever(copy))),
    )
}

fn endless_table_fills() -> Case {
    let fill = "(table.fill $t (i32.const 0) (ref.null func) (i32.const 15000))";
    by_cpu(
        "one instruction that writes a whole table, again and again",
        Attack::check_with("(table $t 15000 funcref)", &forever(fill)),
    )
}

fn endless_growth_by_nothing() -> Case {
    by_cpu_or_turns(
        "growing the memory by 0 pages, again and again",
        Attack::check(&forever("(drop (memory.grow $memory (i32.const 0)))")),
    )
}

fn endless_allocator() -> Case {
    by_cpu(
        "an allocator that never answers the host, which wants room for the settings",
        Attack::check("").base(
            "(local $at i32)",
            "(local $at i32) (loop $again (br $again))",
        ),
    )
}

fn endless_cleanup() -> Case {
    let cleanup = r#"(func (export "cabi_post_shoal:plugin/check@0.1.0#run") (param i32)
        (loop $again (br $again)))"#;
    by_cpu(
        "a clean-up after the answer (post-return) that never ends",
        Attack::check_with(cleanup, ""),
    )
}

fn exponential_recursion() -> Case {
    let code = "(func $both (param $n i32)
        (if (local.get $n) (then
          (call $both (i32.sub (local.get $n) (i32.const 1)))
          (call $both (i32.sub (local.get $n) (i32.const 1))))))";
    by_cpu(
        "recursion that doubles at each of 1,000 steps",
        Attack::check_with(code, "(call $both (i32.const 1000))"),
    )
}

const DEEPER: &str =
    "(func $deeper (param i32) (result i32) (i32.add (i32.const 1) (call $deeper (local.get 0))))";

fn deep_recursion() -> Case {
    Case::new(
        "recursion without end",
        "stack of 512 KiB",
        Attack::check_with(DEEPER, "(drop (call $deeper (i32.const 0)))"),
        Ends::Failed(
            "trapped",
            "the plugin crashed: wasm trap: call stack exhausted",
        ),
    )
}

fn deep_recursion_into_the_host() -> Case {
    let code = format!(
        "{LOG} {}
         (func $deeper (param i32) (result i32)
           (call $log (i32.const 1) (i32.const 512) (i32.const 11))
           (call $block (call $after (i64.const 0)))
           (i32.add (i32.const 1) (call $deeper (local.get 0))))",
        WAIT
    );
    Case::new(
        "calls of the host at every depth of the stack, to have the host overflow it",
        "stack of the guest, apart from the host's",
        Attack::check_with(&code, "(drop (call $deeper (i32.const 0)))"),
        Ends::OneOf(vec![
            Ends::Failed("trapped", "call stack exhausted"),
            Ends::Failed("limit-handles", "1000 resources are allowed"),
            Ends::Failed("limit-cpu", "200 ms are allowed"),
        ]),
    )
}

fn recursion_through_the_allocator() -> Case {
    Case::new(
        "an allocator that calls itself without end",
        "stack of 512 KiB",
        Attack::check("").base(
            "(local $at i32)",
            "(local $at i32) (drop (call $allocate (i32.const 0) (i32.const 0) (i32.const 1) (local.get $size)))",
        ),
        Ends::Failed("trapped", "call stack exhausted"),
    )
}

fn endless_clock_reading() -> Case {
    let code = r#"(import "wasi:clocks/monotonic-clock@0.2.6" "now" (func $now (result i64)))"#;
    by_cpu_or_turns(
        "asking the host for the time, again and again",
        Attack::check_with(code, &forever("(drop (call $now))")),
    )
}

fn endless_random_numbers() -> Case {
    let code =
        r#"(import "wasi:random/random@0.2.6" "get-random-u64" (func $random (result i64)))"#;
    by_cpu_or_turns(
        "asking the host for random numbers, again and again",
        Attack::check_with(code, &forever("(drop (call $random))")),
    )
}

fn endless_polling() -> Case {
    let doing = "(local $p i32)".to_owned()
        + &forever(
            "(local.set $p (call $after (i64.const 0))) (call $block (local.get $p)) (call $drop (local.get $p))",
        );
    let case = by_cpu(
        "waiting for what is ready at once, again and again",
        Attack::check_with(WAIT, &doing).within(Duration::from_secs(5)),
    );
    Case {
        stopped_by: "processor time, or wall-clock time where waiting gives it away",
        ends: Ends::OneOf(vec![
            Ends::Failed("limit-cpu", "200 ms are allowed"),
            Ends::Failed("limit-wall", " ms are allowed"),
            Ends::Failed("limit-host-calls", "1000000 times are allowed"),
        ]),
        ..case
    }
}

fn endless_large_log_lines() -> Case {
    let doing =
        grown(80) + &forever("(call $log (i32.const 1) (i32.const 65536) (i32.const 4000000))");
    by_cpu(
        "log lines of 4 MB, again and again: the host's copying counts as the guest's",
        Attack::check_with(LOG, &doing),
    )
}

fn sleeping_for_ever() -> Case {
    by_wall(
        "sleeping for an hour",
        Attack::check_with(
            WAIT,
            "(call $block (call $after (i64.const 3600000000000)))",
        ),
    )
}

fn sleeping_longer_than_time_goes() -> Case {
    by_wall(
        "sleeping for 2^64 - 1 nanoseconds, which no clock reaches",
        Attack::check_with(WAIT, "(call $block (call $after (i64.const -1)))"),
    )
}

fn waiting_for_the_end_of_time() -> Case {
    let code = format!(
        "{WAIT} (import \"wasi:clocks/monotonic-clock@0.2.6\" \"subscribe-instant\" (func $at (param i64) (result i32)))"
    );
    by_wall(
        "waiting until the clock shows 2^64 - 1",
        Attack::check_with(&code, "(call $block (call $at (i64.const -1)))"),
    )
}

fn dividing_by_zero() -> Case {
    Case::new(
        "dividing by zero",
        "a trap",
        Attack::check("(drop (i32.div_u (i32.const 1) (i32.const 0)))"),
        Ends::Failed(
            "trapped",
            "the plugin crashed: wasm trap: integer divide by zero",
        ),
    )
}

fn float_out_of_range() -> Case {
    Case::new(
        "making an integer of a number that is none",
        "a trap",
        Attack::check("(drop (i32.trunc_f64_s (f64.const nan)))"),
        Ends::Failed(
            "trapped",
            "the plugin crashed: wasm trap: invalid conversion to integer",
        ),
    )
}
