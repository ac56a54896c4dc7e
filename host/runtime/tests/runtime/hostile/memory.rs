//! Taking more memory than allowed, or all that is.

use super::case::{Attack, Case, Ends};
use super::cases;
use super::pieces::{forever, grown, times};

cases! {
    one_large_memory
    three_memories
    a_large_table
    all_memory_there_is
    all_memory_in_twenty_calls
    growing_page_by_page
    an_allocator_that_takes_all
    a_passive_segment_again_and_again
    reading_past_the_end
    writing_past_the_end
    calling_past_the_table
    calling_with_a_wrong_type
}

/// Ends by the memory of a check.
fn by_memory(tries: &'static str, attack: Attack) -> Case {
    let ends = Ends::Failed("limit-memory", "67108864 bytes of memory are allowed");
    Case::new(tries, "memory over all memories and tables", attack, ends)
}

fn trap(tries: &'static str, attack: Attack, says: &'static str) -> Case {
    Case::new(tries, "a trap", attack, Ends::Failed("trapped", says))
}

fn one_large_memory() -> Case {
    by_memory("3.9 GB in one memory", Attack::check(&grown(60_000)))
}

fn three_memories() -> Case {
    let grow = |memory: &str| {
        format!(
            "(if (i32.eq (i32.const -1) (memory.grow {memory} (i32.const 400))) (then unreachable))"
        )
    };
    let doing = ["$memory", "$b", "$c"].map(grow).concat();
    // The allocator's memory must be the first, so the others follow it.
    let attack =
        Attack::check(&doing).base("(global $heap", "(memory $b 1) (memory $c 1) (global $heap");
    by_memory(
        "25 MiB in each of three memories, each within the limit",
        attack,
    )
}

fn a_large_table() -> Case {
    let doing = "(if (i32.eq (i32.const -1) (table.grow $t (ref.null func) (i32.const 1000000000)))
         (then unreachable))";
    by_memory(
        "a table of a milliard entries",
        Attack::check_with("(table $t 1 funcref)", doing),
    )
}

/// Touches 60 MB.
fn touching() -> String {
    grown(900) + "(memory.fill (i32.const 65536) (i32.const 7) (i32.const 58000000))"
}

fn all_memory_there_is() -> Case {
    Case::new(
        "all memory that it may have, every page of it written",
        "given back when the call ends",
        Attack::check(&touching()),
        Ends::Well,
    )
}

fn all_memory_in_twenty_calls() -> Case {
    Case::new(
        "the same in each of 20 calls",
        "given back when each call ends",
        Attack::check(&touching()).times(20),
        Ends::Well,
    )
}

fn growing_page_by_page() -> Case {
    by_memory(
        "one page after the other, each written",
        Attack::check(&forever(
            "(if (i32.eq (i32.const -1) (memory.grow $memory (i32.const 1))) (then unreachable))
             (i32.store (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4)) (i32.const 1))",
        )),
    )
}

fn an_allocator_that_takes_all() -> Case {
    by_memory(
        "an allocator that takes 3.9 GB when the host wants room for the settings",
        Attack::check("").base(
            "(local $at i32)",
            &format!("(local $at i32) {}", grown(60_000)),
        ),
    )
}

fn a_passive_segment_again_and_again() -> Case {
    let before = format!("(data $d \"{}\")", "x".repeat(60_000));
    let copy = "(memory.init $d (i32.const 65536) (i32.const 0) (i32.const 60000))";
    Case::new(
        "copying a piece of the file into memory 100 times",
        "nothing: it is harmless",
        Attack::check_with(&before, &times(100, copy)),
        Ends::Well,
    )
}

fn reading_past_the_end() -> Case {
    trap(
        "reading where there is no memory",
        Attack::check("(drop (i64.load offset=4294967295 (i32.const -1)))"),
        "the plugin crashed: wasm trap: out of bounds memory access",
    )
}

fn writing_past_the_end() -> Case {
    trap(
        "writing in one instruction from inside the memory to beyond it",
        Attack::check("(memory.fill (i32.const 65536) (i32.const 1) (i32.const -1))"),
        "the plugin crashed: wasm trap: out of bounds memory access",
    )
}

fn calling_past_the_table() -> Case {
    trap(
        "calling an entry that the table does not have",
        Attack::check_with(
            "(type $nothing (func)) (table $t 1 funcref)",
            "(call_indirect $t (type $nothing) (i32.const 100000))",
        ),
        "the plugin crashed: wasm trap: undefined element: out of bounds table access",
    )
}

fn calling_with_a_wrong_type() -> Case {
    trap(
        "calling a function of a table with other parameters than it has",
        Attack::check_with(
            "(type $nothing (func)) (table $t funcref (elem $f)) (func $f (param i64))",
            "(call_indirect $t (type $nothing) (i32.const 0))",
        ),
        "the plugin crashed: wasm trap: indirect call type mismatch",
    )
}
