//! Asking the host for too much, or telling it too much.

use super::case::{Attack, Case, Ends};
use super::cases;
use super::pieces::{LOG, STDERR, WAIT, forever, grown, times};

cases! {
    a_million_log_lines
    a_million_empty_log_lines
    sixty_four_mebibytes_to_standard_error
    a_line_that_never_ends
    a_panic_of_one_mebibyte
    a_panic_of_control_characters
    a_million_streams
    a_million_timers
    a_million_handles_of_its_own
    four_hundred_timers_at_once
    one_timer_a_million_times_in_one_list
    waiting_for_nothing
    zeroes_without_end
    random_bytes_without_end
    random_bytes_in_small_pieces
    a_string_of_one_gibibyte_to_the_host
    a_string_of_six_megabytes_to_the_host
    dropping_what_it_does_not_have
    dropping_twice
    ending_itself
    ending_itself_well
}

fn a_million_log_lines() -> Case {
    Case::new(
        "a million lines of 100 bytes",
        "log of 64 KiB: the rest is dropped and counted",
        Attack::check_with(
            LOG,
            &times(
                1_000_000,
                "(call $log (i32.const 1) (i32.const 65536) (i32.const 100))",
            ),
        ),
        Ends::OneOf(vec![
            Ends::Well,
            Ends::Failed("limit-cpu", "200 ms are allowed"),
        ]),
    )
}

fn a_million_empty_log_lines() -> Case {
    Case::new(
        "a million empty lines: each takes memory, none takes bytes",
        "1,000 lines a call",
        Attack::check_with(
            LOG,
            &times(
                1_000_000,
                "(call $log (i32.const 1) (i32.const 65536) (i32.const 0))",
            ),
        ),
        Ends::OneOf(vec![
            Ends::Well,
            Ends::Failed("limit-cpu", "200 ms are allowed"),
        ]),
    )
}

fn sixty_four_mebibytes_to_standard_error() -> Case {
    let doing = times(
        16 << 10,
        "(call $write (global.get $to) (i32.const 65536) (i32.const 4096) (i32.const 4096))",
    );
    let open = "(local $i i32) (global.set $to (call $stderr))";
    let before = format!("{STDERR} (global $to (mut i32) (i32.const 0))");
    Case::new(
        "64 MiB to standard error in pieces of 4 KiB",
        "log of 64 KiB, or processor time",
        Attack::check_with(&before, &doing.replacen("(local $i i32)", open, 1)),
        Ends::OneOf(vec![
            Ends::Well,
            Ends::Failed("limit-cpu", "200 ms are allowed"),
        ]),
    )
}

fn a_line_that_never_ends() -> Case {
    let doing = format!(
        "(local $i i32) (local $to i32) (local.set $to (call $stderr))
         (memory.fill (i32.const 65536) (i32.const 65) (i32.const 4096)) {}",
        times(
            2000,
            "(call $write (local.get $to) (i32.const 65536) (i32.const 4096) (i32.const 4096))"
        )
        .replacen("(local $i i32)", "", 1)
    );
    Case::new(
        "8 MB on standard error without a line break",
        "lines of 8 KiB: the rest is dropped and counted",
        Attack::check_with(STDERR, &doing),
        Ends::Well,
    )
}

/// A guest that says on standard error that it panics, with a message of this many bytes of this character.
fn panic(bytes: u32, character: u8) -> Attack {
    let said = "\\nthread '<unnamed>' (1) panicked at src/lib.rs:15:9:\\n";
    let before = format!("{STDERR} (data (i32.const 2048) \"{said}\")");
    let doing = format!(
        "(local $i i32) (local $to i32) (local.set $to (call $stderr))
         (memory.fill (i32.const 65536) (i32.const {character}) (i32.const 4096))
         (call $write (local.get $to) (i32.const 2048) (i32.const 53) (i32.const 4096))
         {} unreachable",
        times(
            bytes / 4096,
            "(call $write (local.get $to) (i32.const 65536) (i32.const 4096) (i32.const 4096))"
        )
        .replacen("(local $i i32)", "", 1)
    );
    Attack::check_with(&before, &doing)
}

fn a_panic_of_one_mebibyte() -> Case {
    Case::new(
        "a panic whose message has 1 MiB",
        "messages of 4 KiB",
        panic(1 << 20, b'x'),
        Ends::Failed("panicked", "the plugin panicked: src/lib.rs:15:9: xxxxxxxx"),
    )
}

fn a_panic_of_control_characters() -> Case {
    Case::new(
        "a panic whose message is 4 KiB of escape characters, to confuse who reads the log",
        "nothing: whoever shows it escapes it",
        panic(4096, 0x1b),
        Ends::Failed("panicked", "src/lib.rs:15:9: "),
    )
}

/// Ends by the resources that a call may hold.
fn by_handles(tries: &'static str, attack: Attack) -> Case {
    let ends = Ends::Failed("limit-handles", "1000 resources are allowed");
    Case::new(tries, "resources held at a time", attack, ends)
}

fn a_million_streams() -> Case {
    by_handles(
        "opening standard error again and again",
        Attack::check_with(STDERR, &forever("(drop (call $stderr))")),
    )
}

fn a_million_timers() -> Case {
    by_handles(
        "setting timers again and again",
        Attack::check_with(
            WAIT,
            &forever("(drop (call $after (i64.const 3600000000000)))"),
        ),
    )
}

fn a_million_handles_of_its_own() -> Case {
    by_handles(
        "making resources of a type of its own (resource.new) again and again",
        Attack::bytes(super::bytes::beside_well(
            r#"(component
                 (type $r (resource (rep i32)))
                 (core func $new (canon resource.new $r))
                 (core module $m
                   (import "" "new" (func $new (param i32) (result i32)))
                   (func $flood (loop $again (drop (call $new (i32.const 1))) (br $again)))
                   (start $flood))
                 (core instance (instantiate $m (with "" (instance (export "new" (func $new)))))))"#,
            1,
        )),
    )
    .refused()
}

impl Case {
    /// The same found when the file is loaded, because it happens at the start.
    fn refused(self) -> Case {
        let Ends::Failed(_, says) = self.ends else {
            return self;
        };
        Case {
            ends: Ends::Refused(says),
            ..self
        }
    }
}

fn four_hundred_timers_at_once() -> Case {
    let before =
        format!("{WAIT} (import \"wasi:io/poll@0.2.6\" \"poll\" (func $poll (param i32 i32 i32)))");
    let doing = format!(
        "{} (call $poll (i32.const 65536) (i32.const 400) (i32.const 4096))",
        times(
            400,
            "(i32.store offset=65536 (i32.mul (local.get $i) (i32.const 4)) (call $after (i64.const 1000000)))"
        )
    );
    Case::new(
        "400 timers in one list",
        "nothing: it may",
        Attack::check_with(&before, &doing),
        Ends::Well,
    )
}

fn one_timer_a_million_times_in_one_list() -> Case {
    let before =
        format!("{WAIT} (import \"wasi:io/poll@0.2.6\" \"poll\" (func $poll (param i32 i32 i32)))");
    let doing = format!(
        "{} (call $poll (i32.const 65536) (i32.const 1000000) (i32.const 4096))",
        times(
            1_000_000,
            "(if (i32.eqz (local.get $i)) (then
               (if (i32.eq (i32.const -1) (memory.grow $memory (i32.const 80))) (then unreachable))
               (global.set $one (call $after (i64.const 1000000)))))
             (i32.store offset=65536 (i32.mul (local.get $i) (i32.const 4)) (global.get $one))"
        )
    );
    Case::new(
        "a list that names one timer a million times, which costs the host more than the guest",
        "what is handed over at once, or processor time",
        Attack::check_with(
            &format!("{before} (global $one (mut i32) (i32.const 0))"),
            &doing,
        ),
        Ends::OneOf(vec![
            Ends::Well,
            Ends::Failed("limit-output", "4194304 bytes at once are allowed"),
            Ends::Failed("limit-cpu", "200 ms are allowed"),
        ]),
    )
}

fn waiting_for_nothing() -> Case {
    let before = "(import \"wasi:io/poll@0.2.6\" \"poll\" (func $poll (param i32 i32 i32)))";
    Case::new(
        "waiting for an empty list",
        "a trap",
        Attack::check_with(
            before,
            "(call $poll (i32.const 0) (i32.const 0) (i32.const 4096))",
        ),
        Ends::Failed("trapped", "the plugin crashed: empty poll list"),
    )
}

fn zeroes_without_end() -> Case {
    let before = format!(
        "{STDERR} (import \"wasi:io/streams@0.2.6\" \"[method]output-stream.write-zeroes\"
           (func $zeroes (param i32 i64 i32)))"
    );
    Case::new(
        "2^63 zeroes to standard error, which the host would have to make",
        "a trap: 64 KiB at once",
        Attack::check_with(
            &before,
            "(call $zeroes (call $stderr) (i64.const 0x7fffffffffffffff) (i32.const 4096))",
        ),
        Ends::Failed(
            "trapped",
            "cannot write more zeroes than `check_write` allows",
        ),
    )
}

const RANDOM: &str =
    r#"(import "wasi:random/random@0.2.6" "get-random-bytes" (func $random (param i64 i32)))"#;

fn random_bytes_without_end() -> Case {
    Case::new(
        "2^63 random bytes",
        "64 KiB at once",
        Attack::check_with(
            RANDOM,
            "(call $random (i64.const 0x7fffffffffffffff) (i32.const 4096))",
        ),
        Ends::Failed("limit-random", "65536 random bytes at once are allowed"),
    )
}

fn random_bytes_in_small_pieces() -> Case {
    Case::new(
        "64 KiB of random bytes, again and again",
        "memory of the guest, where they go",
        Attack::check_with(
            RANDOM,
            &forever("(call $random (i64.const 65536) (i32.const 4096))"),
        ),
        Ends::OneOf(vec![
            Ends::Failed("limit-memory", "67108864 bytes of memory are allowed"),
            Ends::Failed("limit-cpu", "200 ms are allowed"),
        ]),
    )
}

fn a_string_of_one_gibibyte_to_the_host() -> Case {
    Case::new(
        "a log line of 1 GiB, which its memory does not have",
        "bounds of its memory",
        Attack::check_with(
            LOG,
            "(call $log (i32.const 1) (i32.const 65536) (i32.const 0x40000000))",
        ),
        Ends::Failed("trapped", "the plugin crashed: "),
    )
}

fn a_string_of_six_megabytes_to_the_host() -> Case {
    let doing = grown(200) + "(call $log (i32.const 1) (i32.const 65536) (i32.const 6000000))";
    Case::new(
        "a log line of 6 MB",
        "what is handed over at once",
        Attack::check_with(LOG, &doing),
        Ends::Failed(
            "limit-output",
            "the plugin handed over more than it may: 4194304 bytes at once are allowed",
        ),
    )
}

fn dropping_what_it_does_not_have() -> Case {
    Case::new(
        "dropping a resource that it never had",
        "a trap",
        Attack::check_with(WAIT, "(call $drop (i32.const 77))"),
        Ends::Failed("trapped", "the plugin crashed: unknown handle index 77"),
    )
}

fn dropping_twice() -> Case {
    Case::new(
        "dropping a timer twice",
        "a trap",
        Attack::check_with(
            WAIT,
            "(local $p i32) (local.set $p (call $after (i64.const 0)))
             (call $drop (local.get $p)) (call $drop (local.get $p))",
        ),
        Ends::Failed("trapped", "the plugin crashed: unknown handle index"),
    )
}

fn exit(status: u32) -> Attack {
    Attack::check_with(
        r#"(import "wasi:cli/exit@0.2.6" "exit" (func $exit (param i32)))"#,
        &format!("(call $exit (i32.const {status}))"),
    )
}

fn ending_itself() -> Case {
    Case::new(
        "ending the process with status 1",
        "the end of the call, not of the host",
        exit(1),
        Ends::Failed(
            "trapped",
            "the plugin crashed: it ended itself with status 1",
        ),
    )
}

fn ending_itself_well() -> Case {
    Case::new(
        "ending the process with status 0 instead of an answer",
        "the end of the call, not of the host",
        exit(0),
        Ends::Failed(
            "trapped",
            "the plugin crashed: it ended itself with status 0",
        ),
    )
}
