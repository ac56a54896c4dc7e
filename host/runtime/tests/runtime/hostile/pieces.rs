//! Pieces of text that attacks are made of.

/// Standard error: `$stderr` and `$write` (stream, address, length, result).
pub(super) const STDERR: &str = r#"
    (import "wasi:cli/stderr@0.2.6" "get-stderr" (func $stderr (result i32)))
    (import "wasi:io/streams@0.2.6" "[method]output-stream.blocking-write-and-flush"
      (func $write (param i32 i32 i32 i32)))
"#;

/// The host's log: `$log` (level, address, length).
pub(super) const LOG: &str =
    r#"(import "shoal:plugin/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#;

/// Waiting: `$after` (nanoseconds) makes a pollable, `$block` waits for it, `$drop` drops it.
pub(super) const WAIT: &str = r#"
    (import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-duration" (func $after (param i64) (result i32)))
    (import "wasi:io/poll@0.2.6" "[method]pollable.block" (func $block (param i32)))
    (import "wasi:io/poll@0.2.6" "[resource-drop]pollable" (func $drop (param i32)))
"#;

/// A loop that does something for ever.
pub(super) fn forever(doing: &str) -> String {
    format!("(loop $again {doing} (br $again))")
}

/// A loop that does something so many times. Needs a local `$i`, which `Attack::check` puts first.
pub(super) fn times(count: u32, doing: &str) -> String {
    format!(
        "(local $i i32)
         (loop $again
           {doing}
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $again (i32.lt_u (local.get $i) (i32.const {count}))))"
    )
}

/// Takes this many more pages of memory, or crashes.
pub(super) fn grown(pages: u32) -> String {
    format!(
        "(if (i32.eq (i32.const -1) (memory.grow $memory (i32.const {pages}))) (then unreachable))"
    )
}
