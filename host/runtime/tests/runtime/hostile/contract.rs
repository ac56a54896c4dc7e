//! Answering against the contract, byte by byte: wrong addresses, wrong lengths, wrong choices, wrong text.

use wit_component::StringEncoding;

use super::case::{Attack, Case, Ends};
use super::cases;
use super::pieces::{LOG, STDERR, grown};

cases! {
    an_answer_beyond_memory
    an_answer_at_an_odd_address
    a_result_that_is_neither
    a_status_that_is_none
    text_that_is_not_utf8
    text_beyond_memory
    text_of_one_gibibyte
    text_of_six_megabytes
    a_list_whose_length_wraps
    a_list_beyond_memory
    a_list_of_a_million
    a_thousand_measurements
    a_measurement_without_a_name
    a_value_that_is_no_number
    a_log_level_that_is_none
    a_log_line_that_is_not_utf8
    a_failure_of_four_megabytes
    a_retry_at_the_end_of_time
    room_beyond_memory
    room_at_an_odd_address
    room_over_its_own_data
    an_allocator_that_calls_the_host
    an_allocator_that_crashes
    a_cleanup_that_crashes
    a_cleanup_that_calls_the_host
    utf16_of_odd_length
    utf16_with_half_a_character
    latin1_with_an_untrue_mark
    utf16_that_is_well
}

/// Ends in a crash that says this.
fn crash(tries: &'static str, attack: Attack, says: &'static str) -> Case {
    Case::new(
        tries,
        "the check of every answer",
        attack,
        Ends::Failed("trapped", says),
    )
}

/// Instead of the usual answer at 1024, this, and its address.
fn answer(stores: &str, at: i32) -> Attack {
    Attack::check(&format!("{stores} (return (i32.const {at}))"))
}

/// The usual answer, changed afterwards.
fn changed(stores: &str) -> Attack {
    answer(
        &format!(
            "(i32.store (i32.const 1036) (i32.const 512)) (i32.store (i32.const 1040) (i32.const 11)) {stores}"
        ),
        1024,
    )
}

/// The answer has these measurements.
fn measurements(at: u32, count: i64) -> String {
    format!(
        "(i32.store (i32.const 1044) (i32.const {at})) (i32.store (i32.const 1048) (i32.const {count}))"
    )
}

fn an_answer_beyond_memory() -> Case {
    crash(
        "an answer at address -8",
        answer("", -8),
        "the plugin crashed: pointer out of bounds",
    )
}

fn an_answer_at_an_odd_address() -> Case {
    crash(
        "an answer at an odd address",
        answer("", 1025),
        "the plugin crashed: return pointer not aligned",
    )
}

fn a_result_that_is_neither() -> Case {
    crash(
        "a result that is neither success nor failure",
        changed("(i32.store8 (i32.const 1024) (i32.const 7))"),
        "the plugin crashed: ",
    )
}

fn a_status_that_is_none() -> Case {
    crash(
        "status 9 of 4",
        changed("(i32.store8 (i32.const 1032) (i32.const 9))"),
        "the plugin crashed: ",
    )
}

fn text_that_is_not_utf8() -> Case {
    crash(
        "a summary that is not UTF-8",
        changed("(i32.store (i32.const 512) (i32.const -1))"),
        "the plugin crashed: invalid utf-8",
    )
}

fn text_beyond_memory() -> Case {
    crash(
        "a summary that begins inside the memory and ends beyond it",
        changed("(i32.store (i32.const 1040) (i32.const 0x7fffffff))"),
        "the plugin crashed: string pointer/length out of bounds of memory",
    )
}

fn text_of_one_gibibyte() -> Case {
    crash(
        "a summary of 1 GiB, which its memory does not have",
        changed(
            "(i32.store (i32.const 1036) (i32.const 0)) (i32.store (i32.const 1040) (i32.const 0x40000000))",
        ),
        "the plugin crashed: string pointer/length out of bounds of memory",
    )
}

fn text_of_six_megabytes() -> Case {
    let attack = changed(&format!(
        "{} (i32.store (i32.const 1040) (i32.const 6000000))",
        grown(200)
    ));
    Case::new(
        "a summary of 6 MB",
        "what is handed over at once",
        attack,
        Ends::Failed(
            "limit-output",
            "the plugin handed over more than it may: 4194304 bytes at once are allowed",
        ),
    )
}

fn a_list_whose_length_wraps() -> Case {
    crash(
        "a list so long that its size in bytes wraps around to little",
        changed(&measurements(4096, 0x0924_9249 + 1)),
        "the plugin crashed: ",
    )
}

fn a_list_beyond_memory() -> Case {
    crash(
        "a list that begins at the end of the memory",
        changed(&measurements(262_136, 1000)),
        "the plugin crashed: list pointer/length out of bounds of memory",
    )
}

fn a_list_of_a_million() -> Case {
    Case::new(
        "a million measurements",
        "what is handed over at once",
        changed(&format!(
            "{} {}",
            grown(700),
            measurements(65536, 1_000_000)
        )),
        Ends::Failed("limit-output", "4194304 bytes at once are allowed"),
    )
}

fn a_thousand_measurements() -> Case {
    Case::new(
        "a thousand measurements",
        "the contract: 100",
        changed(&measurements(150_000, 1000)),
        Ends::Failed(
            "bad-answer",
            "the plugin's answer breaks its contract: 1000 measurements where 100 are the most",
        ),
    )
}

fn a_measurement_without_a_name() -> Case {
    Case::new(
        "a measurement without a name",
        "the contract: a name of letters, digits, '_' and ':'",
        changed(&measurements(150_000, 1)),
        Ends::Failed(
            "bad-answer",
            "measurement \"\" is not named by letters, digits, '_' and ':'",
        ),
    )
}

fn a_value_that_is_no_number() -> Case {
    // Its name is the "is" of "all is well".
    let one = "(i32.store (i32.const 150000) (i32.const 516)) (i32.store (i32.const 150004) (i32.const 2))
        (i64.store (i32.const 150008) (i64.const 0x7ff4dead0000beef))";
    Case::new(
        "a measurement whose value is a signalling NaN with a payload",
        "nothing: it is a value",
        changed(&format!("{one} {}", measurements(150_000, 1))),
        Ends::Well,
    )
}

fn a_log_level_that_is_none() -> Case {
    crash(
        "a log line of level 200",
        Attack::check_with(
            LOG,
            "(call $log (i32.const 200) (i32.const 512) (i32.const 11))",
        ),
        "the plugin crashed: ",
    )
}

fn a_log_line_that_is_not_utf8() -> Case {
    crash(
        "a log line that is not UTF-8",
        Attack::check_with(
            LOG,
            "(i32.store (i32.const 512) (i32.const -1)) (call $log (i32.const 1) (i32.const 512) (i32.const 11))",
        ),
        "the plugin crashed: invalid utf-8",
    )
}

/// A failure that wants to be tried again, with a message of so many bytes.
fn retry(message_bytes: u32, after_ms: i64) -> Attack {
    answer(
        &format!(
            "{}
             (i32.store8 (i32.const 1024) (i32.const 1)) (i32.store8 (i32.const 1032) (i32.const 1))
             (i32.store (i32.const 1040) (i32.const 150000)) (i32.store (i32.const 1044) (i32.const {message_bytes}))
             (i32.store (i32.const 1048) (i32.const 150000)) (i32.store (i32.const 1052) (i32.const {message_bytes}))
             (i32.store8 (i32.const 1056) (i32.const 1)) (i64.store (i32.const 1064) (i64.const {after_ms}))",
            grown(100)
        ),
        1024,
    )
}

fn a_failure_of_four_megabytes() -> Case {
    Case::new(
        "a failure whose code and message have 2 MB each",
        "cut to 100 and 4,096 bytes",
        retry(2_000_000, 1000),
        Ends::Failed("retry", "to be tried again ("),
    )
}

fn a_retry_at_the_end_of_time() -> Case {
    Case::new(
        "a wish to be tried again in 2^64 - 1 milliseconds",
        "whoever plans it",
        retry(3, -1),
        Ends::Failed("retry", "to be tried again ("),
    )
}

/// A guest whose allocator gives this to the host, which wants room for the settings.
fn room(at: &str) -> Attack {
    Attack::check("").base("(local.get $at))", &format!("{at})"))
}

fn room_beyond_memory() -> Case {
    crash(
        "an allocator that gives room beyond the memory",
        room("(i32.const 0xfffffff0)"),
        "the plugin crashed: realloc return: beyond end of memory",
    )
}

fn room_at_an_odd_address() -> Case {
    let notified = super::kinds::channel_answering("");
    crash(
        "an allocator that gives room at an odd address",
        notified.base(
            "(local.get $at))",
            "(i32.or (i32.const 1) (local.get $at)))",
        ),
        "the plugin crashed: realloc return: result not aligned",
    )
}

fn room_over_its_own_data() -> Case {
    Case::new(
        "an allocator that has the host write over the guest's own data",
        "nothing: it harms itself",
        room("(i32.const 512)"),
        Ends::Well,
    )
}

fn an_allocator_that_calls_the_host() -> Case {
    crash(
        "an allocator that calls the host, which is waiting for it",
        Attack::check_with(LOG, "").base(
            "(local $at i32)",
            "(local $at i32) (call $log (i32.const 1) (i32.const 512) (i32.const 11))",
        ),
        "cannot leave component instance",
    )
}

fn an_allocator_that_crashes() -> Case {
    crash(
        "an allocator that crashes",
        Attack::check("").base("(local $at i32)", "(local $at i32) unreachable"),
        "the plugin crashed: wasm trap: wasm `unreachable` instruction executed",
    )
}

fn cleanup(doing: &str) -> String {
    format!("(func (export \"cabi_post_shoal:plugin/check@0.1.0#run\") (param i32) {doing})")
}

fn a_cleanup_that_crashes() -> Case {
    crash(
        "a clean-up after a good answer (post-return) that crashes",
        Attack::check_with(&cleanup("unreachable"), ""),
        "the plugin crashed: wasm trap: wasm `unreachable` instruction executed",
    )
}

fn a_cleanup_that_calls_the_host() -> Case {
    let code = format!("{STDERR} {}", cleanup("(drop (call $stderr))"));
    crash(
        "a clean-up after the answer that calls the host",
        Attack::check_with(&code, ""),
        "cannot leave component instance",
    )
}

fn utf16_of_odd_length() -> Case {
    crash(
        "text in UTF-16 at an odd address",
        changed("(i32.store (i32.const 1036) (i32.const 513))").encoding(StringEncoding::UTF16),
        "the plugin crashed: ",
    )
}

fn utf16_with_half_a_character() -> Case {
    crash(
        "text in UTF-16 with one half of a surrogate pair",
        changed("(i32.store16 (i32.const 512) (i32.const 0xd800))").encoding(StringEncoding::UTF16),
        "the plugin crashed: ",
    )
}

fn latin1_with_an_untrue_mark() -> Case {
    crash(
        "text marked as UTF-16 whose length, times two, wraps around",
        changed("(i32.store (i32.const 1040) (i32.const 0xffffffff))")
            .encoding(StringEncoding::CompactUTF16),
        "the plugin crashed: string pointer/length out of bounds of memory",
    )
}

fn utf16_that_is_well() -> Case {
    Case::new(
        "text in UTF-16, in and out",
        "nothing: it may",
        changed("").encoding(StringEncoding::UTF16),
        Ends::Well,
    )
}
