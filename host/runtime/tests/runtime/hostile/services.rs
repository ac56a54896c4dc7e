//! What a deployment does for its plugins: floods of values and of mail.

use super::case::{Attack, Case, Ends};
use super::cases;
use super::kinds::channel_with;
use super::pieces::{grown, times};

cases! {
    ten_thousand_writes_of_values
    a_million_writes_of_values
    fifteen_hundred_keys
    a_hundred_of_the_largest_values
    a_key_of_one_mebibyte
    a_value_of_one_mebibyte
    a_key_of_control_characters
    a_thousand_messages
    a_message_of_one_mebibyte
    a_subject_with_another_header
    a_recipient_with_another_header
    recipients_that_are_not_granted
    a_message_to_five_thousand
}

const KV_ASKS: &str = "[[capabilities]]\nkind = \"kv\"\nreason = \"to test\"";

/// Writes a value (address and length of key and value) and answers 0, or -1 minus the case of `kv-error`. The first four
/// bytes at 2048 are a key that `$name` gives a number.
const KV: &str = r#"
    (import "shoal:plugin/kv@0.1.0" "set" (func $kv_set (param i32 i32 i32 i32 i32 i64 i32)))
    (import "shoal:plugin/kv@0.1.0" "get" (func $kv_get (param i32 i32 i32)))
    (global $written (mut i32) (i32.const 0))
    (func $outcome (result i32)
      (if (i32.load8_u (i32.const 4096)) (then (return (i32.sub (i32.const -1) (i32.load8_u (i32.const 4100))))))
      (i32.const 0))
    (func $set (param $key i32) (param $key_length i32) (param $value i32) (param $length i32) (result i32)
      (call $kv_set (local.get $key) (local.get $key_length) (local.get $value) (local.get $length)
        (i32.const 0) (i64.const 0) (i32.const 4096))
      (call $outcome))
    (func $get (param $key i32) (param $key_length i32) (result i32)
      (call $kv_get (local.get $key) (local.get $key_length) (i32.const 4096))
      (call $outcome))
    (func $name (param $number i32)
      (i32.store (i32.const 2048) (i32.or (i32.const 0x60606060)
        (i32.or (i32.and (local.get $number) (i32.const 0xf))
          (i32.or (i32.shl (i32.and (local.get $number) (i32.const 0xf0)) (i32.const 4))
            (i32.shl (i32.and (local.get $number) (i32.const 0xf00)) (i32.const 8)))))))
    (func $count (param $outcome i32)
      (if (i32.eqz (local.get $outcome))
        (then (global.set $written (i32.add (global.get $written) (i32.const 1))))))
"#;

const TOO_LARGE: i32 = -2;

/// A check that keeps values.
fn keeping(doing: &str) -> Attack {
    Attack::check_with(KV, doing).manifest(KV_ASKS)
}

/// Goes on only when an expression has this value.
fn must_be(expression: &str, wanted: i32) -> String {
    format!("(if (i32.ne {expression} (i32.const {wanted})) (then unreachable))")
}

/// Writes so often, under another key each time, a value of so many bytes; so many writes must succeed.
fn writes(count: u32, value_bytes: u32, succeed: i32) -> String {
    let write = format!(
        "(call $name (local.get $i))
         (call $count (call $set (i32.const 2048) (i32.const 4) (i32.const 65536) (i32.const {value_bytes})))"
    );
    times(count, &write) + &must_be("(global.get $written)", succeed)
}

/// Writes one value again and again.
const REWRITE: &str =
    "(call $count (call $set (i32.const 2048) (i32.const 4) (i32.const 65536) (i32.const 100)))";

fn ten_thousand_writes_of_values() -> Case {
    let doing = "(local $i i32) (call $name (i32.const 1))".to_owned()
        + &times(10_000, REWRITE).replacen("(local $i i32)", "", 1)
        + &must_be("(global.get $written)", 2000);
    Case::new(
        "10,000 writes of one value",
        "2,000 turns to its values a call: the others are refused",
        keeping(&doing),
        Ends::Well,
    )
}

fn a_million_writes_of_values() -> Case {
    let doing = "(local $i i32) (call $name (i32.const 1))".to_owned()
        + &times(1_000_000, REWRITE).replacen("(local $i i32)", "", 1);
    Case::new(
        "a million writes of one value, whatever the answers",
        "2,000 turns to its values a call; then its own memory, in which it is told so, or time",
        keeping(&doing),
        Ends::OneOf(vec![
            Ends::Failed("limit-memory", "67108864 bytes of memory are allowed"),
            Ends::Failed("limit-cpu", "200 ms are allowed"),
            Ends::Failed("limit-host-calls", "1000000 times are allowed"),
        ]),
    )
}

fn fifteen_hundred_keys() -> Case {
    Case::new(
        "1,500 keys",
        "1,000 keys of an installation",
        keeping(&writes(1500, 1, 1000)),
        Ends::Well,
    )
}

fn a_hundred_of_the_largest_values() -> Case {
    Case::new(
        "100 values of 64 KiB",
        "1 MiB of keys and values of an installation",
        keeping(&writes(100, 65536, 15)),
        Ends::Well,
    )
}

fn a_key_of_one_mebibyte() -> Case {
    let set = "(call $set (i32.const 65536) (i32.const 1048576) (i32.const 65536) (i32.const 1))";
    let get = "(call $get (i32.const 65536) (i32.const 1048576))";
    let fill = "(memory.fill (i32.const 65536) (i32.const 65) (i32.const 1048576))";
    Case::new(
        "a key of 1 MiB, written and read",
        "keys of 256 bytes",
        keeping(&(grown(40) + fill + &must_be(set, TOO_LARGE) + &must_be(get, TOO_LARGE))),
        Ends::Well,
    )
}

fn a_value_of_one_mebibyte() -> Case {
    let set = "(call $set (i32.const 512) (i32.const 3) (i32.const 65536) (i32.const 1048576))";
    Case::new(
        "a value of 1 MiB",
        "values of 64 KiB",
        keeping(&(grown(40) + &must_be(set, TOO_LARGE))),
        Ends::Well,
    )
}

fn a_key_of_control_characters() -> Case {
    let set = "(call $set (i32.const 200000) (i32.const 4) (i32.const 65536) (i32.const 1))";
    Case::new(
        "a key of zeroes",
        "the host, which takes no control characters in a key",
        keeping(&must_be(set, TOO_LARGE)),
        Ends::Well,
    )
}

const MAIL_ASKS: &str =
    "[[capabilities]]\nkind = \"mail\"\nreason = \"to test\"\nrecipients = [\"ops@example.com\"]";

/// Sends a message of some recipients (a list of them lies at 3000), a subject of 3 bytes and a text; answers 0, or -1 minus
/// the case of `mail-error`.
const MAIL: &str = r#"
    (import "shoal:plugin/mail@0.1.0" "send" (func $mail_send (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
    (global $sent (mut i32) (i32.const 0))
    (func $send (param $recipients i32) (param $subject i32) (param $subject_length i32) (param $length i32) (result i32)
      (call $mail_send (i32.const 3000) (local.get $recipients) (local.get $subject) (local.get $subject_length)
        (i32.const 65536) (local.get $length) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 4096))
      (if (i32.load8_u (i32.const 4096)) (then (return (i32.sub (i32.const -1) (i32.load8_u (i32.const 4100))))))
      (i32.const 0))
    (func $count (param $outcome i32)
      (if (i32.eqz (local.get $outcome))
        (then (global.set $sent (i32.add (global.get $sent) (i32.const 1))))))
"#;

const DENIED: i32 = -1;
const INVALID: i32 = -2;

/// A channel that sends mail to one address, whose text is letters.
fn mailing(recipient: &str, doing: &str) -> Attack {
    let length = recipient.replace("\\r", "r").replace("\\n", "n").len();
    let before = format!("{MAIL} (data (i32.const 2560) \"{recipient}\")");
    // Two at the beginning of the list are the same one.
    let list = format!(
        "(i32.store (i32.const 3000) (i32.const 2560)) (i32.store (i32.const 3004) (i32.const {length}))
         (memory.fill (i32.const 65536) (i32.const 65) (i32.const 65536))"
    );
    let (locals, doing) = match doing.strip_prefix("(local $i i32)") {
        Some(rest) => ("(local $i i32)", rest),
        None => ("", doing),
    };
    channel_with(&before, locals, &format!("{list} {doing}")).manifest(MAIL_ASKS)
}

/// Sends one message and goes on only when this comes of it.
fn sending(recipients: u32, subject: (u32, u32), length: u32, wanted: i32) -> String {
    let (at, subject_length) = subject;
    must_be(
        &format!(
            "(call $send (i32.const {recipients}) (i32.const {at}) (i32.const {subject_length}) (i32.const {length}))"
        ),
        wanted,
    )
}

/// Of the text that every guest has.
const SUBJECT: (u32, u32) = (512, 3);

fn a_thousand_messages() -> Case {
    let send =
        "(call $count (call $send (i32.const 1) (i32.const 512) (i32.const 3) (i32.const 1000)))";
    let doing = times(1000, send) + &must_be("(global.get $sent)", 100);
    Case::new(
        "1,000 messages in one call",
        "100 messages a call: the others are refused",
        mailing("ops@example.com", &doing),
        Ends::Well,
    )
}

fn a_message_of_one_mebibyte() -> Case {
    let doing = grown(40) + &sending(1, SUBJECT, 1 << 20, INVALID);
    Case::new(
        "a message whose text has 1 MiB",
        "256 KiB of text",
        mailing("ops@example.com", &doing),
        Ends::Well,
    )
}

fn a_subject_with_another_header() -> Case {
    let subject = "(i32.store (i32.const 2500) (i32.const 0x620a0d61)) (i32.store (i32.const 2504) (i32.const 0x203a6363))";
    let doing = subject.to_owned() + &sending(1, (2500, 8), 10, INVALID);
    Case::new(
        "a subject with a line break and another header after it",
        "the host, which takes no control characters in a subject",
        mailing("ops@example.com", &doing),
        Ends::Well,
    )
}

fn a_recipient_with_another_header() -> Case {
    Case::new(
        "a recipient with a line break and another header after it",
        "the host, which takes plain addresses only",
        mailing(
            "ops@example.com\\r\\nBcc: all@evil.example",
            &sending(1, SUBJECT, 10, INVALID),
        ),
        Ends::Well,
    )
}

fn recipients_that_are_not_granted() -> Case {
    Case::new(
        "a message to somebody else",
        "the grant",
        mailing("all@evil.example", &sending(1, SUBJECT, 10, DENIED)),
        Ends::Well,
    )
}

fn a_message_to_five_thousand() -> Case {
    let fill = "(local $i i32) (loop $again
        (i64.store offset=3000 (i32.mul (local.get $i) (i32.const 8)) (i64.load (i32.const 3000)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $i) (i32.const 5000))))";
    Case::new(
        "a message to 5,000 recipients",
        "50 recipients of a message",
        mailing(
            "ops@example.com",
            &(fill.to_owned() + &sending(5000, SUBJECT, 10, INVALID)),
        ),
        Ends::Well,
    )
}
