//! Connections, look-ups and echo requests: hostile guests, and hostile servers and resolvers.
//!
//! Connections to names that change their mind need a resolver below the connection: see `src/egress/tests.rs`.

use std::time::Duration;

use super::case::{Attack, Case, Ends};
use super::cases;
use super::pieces::{WAIT, forever, times};
use super::server::Answer;

cases! {
    connections_until_one_is_refused
    connections_opened_and_dropped
    a_connection_that_is_never_read
    bytes_without_end_from_a_server
    bytes_one_by_one_from_a_server
    bytes_without_end_to_a_server
    connections_to_addresses_that_are_closed
    connections_to_hosts_that_are_not_granted
    a_thousand_lookups
    a_name_of_three_hundred_bytes
    names_of_addresses_that_are_closed
    a_name_that_changes_its_mind
    a_resolver_that_never_answers
    a_thousand_echo_requests
    echo_requests_to_addresses_that_are_closed
}

/// Everything of `net`. What `$open`, `$lookup` and `$ping` do with a text that lies at some place and ends with a zero
/// answers with a number that is 0 or more, or -1 minus the case of `net-error`.
const NET: &str = r#"
    (import "shoal:plugin/net@0.1.0" "tcp-connect" (func $tcp_connect (param i32 i32 i32 i32 i32)))
    (import "shoal:plugin/net@0.1.0" "[method]connection.write" (func $send (param i32 i32 i32 i32 i32)))
    (import "shoal:plugin/net@0.1.0" "[method]connection.read" (func $receive (param i32 i32 i32 i32)))
    (import "shoal:plugin/net@0.1.0" "[resource-drop]connection" (func $close (param i32)))
    (import "shoal:plugin/net@0.1.0" "dns-query" (func $dns_query (param i32 i32 i32 i32 i32)))
    (import "shoal:plugin/net@0.1.0" "icmp-echo" (func $icmp_echo (param i32 i32 i32 i32)))
    (global $refused (mut i32) (i32.const 0))
    (global $patience_ms (mut i32) (i32.const 5000))
    (func $length (param $text i32) (result i32)
      (local $end i32)
      (local.set $end (local.get $text))
      (block $found (loop $next
        (br_if $found (i32.eqz (i32.load8_u (local.get $end))))
        (local.set $end (i32.add (local.get $end) (i32.const 1)))
        (br $next)))
      (i32.sub (local.get $end) (local.get $text)))
    (func $open (param $host i32) (param $port i32) (result i32)
      (call $tcp_connect (local.get $host) (call $length (local.get $host)) (local.get $port) (i32.const 5000) (i32.const 4096))
      (if (i32.load8_u (i32.const 4096)) (then (return (i32.sub (i32.const -1) (i32.load8_u (i32.const 4100))))))
      (i32.load (i32.const 4100)))
    (func $write (param $connection i32) (param $count i32) (result i32)
      (call $send (local.get $connection) (i32.const 65536) (local.get $count) (i32.const 5000) (i32.const 4096))
      (if (i32.load8_u (i32.const 4096)) (then (return (i32.sub (i32.const -1) (i32.load8_u (i32.const 4100))))))
      (local.get $count))
    (func $read (param $connection i32) (result i32)
      (call $receive (local.get $connection) (i32.const 65536) (i32.const 5000) (i32.const 4096))
      (if (i32.load8_u (i32.const 4096)) (then (return (i32.sub (i32.const -1) (i32.load8_u (i32.const 4100))))))
      (i32.load (i32.const 4104)))
    (func $lookup (param $name i32) (param $type i32) (result i32)
      (call $dns_query (local.get $name) (call $length (local.get $name)) (local.get $type) (global.get $patience_ms) (i32.const 4096))
      (if (i32.load8_u (i32.const 4096)) (then (return (i32.sub (i32.const -1) (i32.load8_u (i32.const 4100))))))
      (i32.load (i32.const 4112)))
    (func $ping (param $host i32) (result i32)
      (call $icmp_echo (local.get $host) (call $length (local.get $host)) (global.get $patience_ms) (i32.const 4096))
      (if (i32.load8_u (i32.const 4096)) (then (return (i32.sub (i32.const -1) (i32.load8_u (i32.const 4104))))))
      (i32.const 0))
    (func $count_if_limited (param $outcome i32)
      (if (i32.eq (local.get $outcome) (i32.const -5))
        (then (global.set $refused (i32.add (global.get $refused) (i32.const 1))))))
"#;

/// What they answer for an error of `net`.
const fn error(case: i32) -> i32 {
    -1 - case
}
const DENIED: i32 = error(0);
const TIMED_OUT: i32 = error(2);
const FAILED: i32 = error(3);
const LIMIT_REACHED: i32 = error(4);

/// Types of records.
const A: i32 = 0;
const AAAA: i32 = 1;

/// Where texts lie, 64 bytes each.
const TEXTS: u32 = 2048;

/// A check that may do everything with these hosts, and whose texts they are.
fn client(hosts: &[&str], doing: &str) -> Attack {
    client_with(hosts, hosts, "", doing)
}

/// The same with other texts than what it asks for.
fn client_with(asked: &[&str], texts: &[&str], before: &str, doing: &str) -> Attack {
    let data: String = texts
        .iter()
        .enumerate()
        .map(|(i, text)| format!("(data (i32.const {}) \"{text}\\00\")", at(i)))
        .collect();
    let asks = format!(
        "[[capabilities]]\nkind = \"net\"\nreason = \"to test\"\noperations = [\"tcp\", \"dns\", \"icmp\"]\nhosts = {asked:?}"
    );
    Attack::check_with(&format!("{before} {NET} {data}"), doing).manifest(&asks)
}

fn at(i: usize) -> u32 {
    TEXTS + 64 * u32::try_from(i).expect("few")
}

/// Goes on only when an expression has this value.
fn must_be(expression: &str, wanted: i32) -> String {
    format!("(if (i32.ne {expression} (i32.const {wanted})) (then unreachable))")
}

/// A check that may connect to its own server and does so.
fn connected(before: &str, doing: &str, answer: Answer) -> Attack {
    let open = format!(
        "(local $c i32) (local $n i32) (local.set $c (call $open (i32.const {TEXTS}) (i32.const {{port}})))
         (if (i32.lt_s (local.get $c) (i32.const 0)) (then unreachable)) {doing}"
    );
    client_with(&["127.0.0.1:{port}"], &["127.0.0.1"], before, &open).serving(answer)
}

/// Ends by the time that the caller gives.
fn by_wall(tries: &'static str, attack: Attack) -> Case {
    let attack = attack.within(Duration::from_millis(500));
    let ends = Ends::Failed("limit-wall", " ms are allowed");
    Case::new(tries, "wall-clock time of the call", attack, ends)
}

/// Does something so often and goes on only when so many of it were refused because there had been too much.
fn refused(count: u32, doing: &str, wanted: i32) -> String {
    times(count, &format!("(call $count_if_limited {doing})"))
        + &must_be("(global.get $refused)", wanted)
}

fn connections_until_one_is_refused() -> Case {
    let open = format!("(call $open (i32.const {TEXTS}) (i32.const {{port}}))");
    let doing = refused(200, &open, 196);
    Case::new(
        "200 connections that are held open",
        "4 connections at a time: the others are refused",
        client_with(&["127.0.0.1:{port}"], &["127.0.0.1"], "", &doing).serving(Answer::once("")),
        Ends::Well,
    )
}

fn connections_opened_and_dropped() -> Case {
    let open = format!("(call $open_and_close (i32.const {TEXTS}) (i32.const {{port}}))");
    let doing = refused(200, &open, 190);
    let attack = client_with(&["127.0.0.1:{port}"], &["127.0.0.1"], "", &doing);
    let close = "(func $open_and_close (param $host i32) (param $port i32) (result i32)
        (local $c i32)
        (local.set $c (call $open (local.get $host) (local.get $port)))
        (if (i32.ge_s (local.get $c) (i32.const 0)) (then (call $close (local.get $c))))
        (local.get $c))";
    Case::new(
        "200 connections, each dropped at once",
        "10 requests a call: the others are refused",
        attack.after(close).serving(Answer::once("")),
        Ends::Well,
    )
}

fn a_connection_that_is_never_read() -> Case {
    let doing = must_be("(call $write (local.get $c) (i32.const 4))", 4)
        + "(call $block (call $after (i64.const 3600000000000)))";
    let answer = Answer::endless("", vec![b'x'; 65536], Duration::ZERO);
    by_wall(
        "a server that sends without end to a guest that reads nothing",
        connected(WAIT, &doing, answer),
    )
}

fn bytes_without_end_from_a_server() -> Case {
    let doing = must_be("(call $write (local.get $c) (i32.const 4))", 4)
        + "(loop $next
             (local.set $n (call $read (local.get $c)))
             (br_if $next (i32.gt_s (local.get $n) (i32.const 0))))"
        + &must_be("(local.get $n)", LIMIT_REACHED);
    let answer = Answer::endless("", vec![b'x'; 65536], Duration::ZERO);
    Case::new(
        "a server that sends without end to a guest that reads all of it",
        "4 MiB of one connection",
        connected("", &doing, answer),
        Ends::Well,
    )
}

fn bytes_one_by_one_from_a_server() -> Case {
    let doing = must_be("(call $write (local.get $c) (i32.const 4))", 4)
        + &forever("(drop (call $read (local.get $c)))");
    let answer = Answer::endless("", "x", Duration::from_millis(20));
    by_wall(
        "a server that sends one byte every 20 ms",
        connected("", &doing, answer),
    )
}

fn bytes_without_end_to_a_server() -> Case {
    let doing = "(loop $next
         (local.set $n (call $write (local.get $c) (i32.const 65536)))
         (br_if $next (i32.gt_s (local.get $n) (i32.const 0))))"
        .to_owned()
        + &must_be("(local.get $n)", LIMIT_REACHED);
    Case::new(
        "a guest that sends without end",
        "1 MiB over one connection",
        connected("", &doing, Answer::once("")),
        Ends::Well,
    )
}

/// Addresses of this machine, of networks at home and of the metadata service.
const CLOSED: [&str; 6] = [
    "127.0.0.1",
    "[::ffff:127.0.0.1]",
    "::1",
    "169.254.169.254",
    "10.0.0.1",
    "localhost",
];

/// What a manifest can say of them.
const CLOSED_ASKED: [&str; 4] = [
    "127.0.0.1:80",
    "169.254.169.254:80",
    "10.0.0.1:80",
    "localhost:80",
];

fn connections_to_addresses_that_are_closed() -> Case {
    let each = |i| format!("(call $open (i32.const {}) (i32.const 80))", at(i));
    let all = (0..CLOSED.len()).map(|i| must_be(&each(i), DENIED));
    Case::new(
        "loopback, private and metadata addresses, and a name that resolves to one, granted by mistake",
        "the policy of addresses, which no grant opens",
        client_with(&CLOSED_ASKED, &CLOSED, "", &all.collect::<String>()),
        Ends::Well,
    )
}

fn connections_to_hosts_that_are_not_granted() -> Case {
    let texts = ["127.0.0.1.evil.example", "evil.example", "127.0.0.1"];
    let each = |i| format!("(call $open (i32.const {}) (i32.const 22))", at(i));
    let all = (0..texts.len()).map(|i| must_be(&each(i), DENIED));
    Case::new(
        "hosts and ports beside the one that is granted",
        "the grant: they are not even looked up",
        client_with(&["127.0.0.1:{port}"], &texts, "", &all.collect::<String>())
            .serving(Answer::once("")),
        Ends::Well,
    )
}

/// Looks up the first text as an address of IPv4.
fn lookup() -> String {
    format!("(call $lookup (i32.const {TEXTS}) (i32.const {A}))")
}

fn a_thousand_lookups() -> Case {
    let doing = refused(1000, &lookup(), 990);
    Case::new(
        "1,000 look-ups in one call",
        "10 requests a call: the others are refused",
        client(&["public.test"], &doing).resolving(),
        Ends::Well,
    )
}

fn a_name_of_three_hundred_bytes() -> Case {
    let name = format!("{}.test", "x".repeat(295));
    let labels = format!("{}test", "xxxxxxxxx.".repeat(29));
    let before =
        format!("(data (i32.const 3000) \"{name}\\00\") (data (i32.const 3400) \"{labels}\\00\")");
    let refused = |place: u32| {
        format!(
            "(local.set $n (call $lookup (i32.const {place}) (i32.const {A})))
             (if (i32.eqz (i32.or
                   (i32.eq (local.get $n) (i32.const {DENIED}))
                   (i32.eq (local.get $n) (i32.const {FAILED}))))
               (then unreachable))"
        )
    };
    let doing = format!("(local $n i32) {} {}", refused(3000), refused(3400));
    Case::new(
        "names of 300 bytes, of one label and of many",
        "the host, which sends no such query",
        client_with(&["*.test"], &[], "", &doing)
            .after(&before)
            .resolving(),
        Ends::Well,
    )
}

fn names_of_addresses_that_are_closed() -> Case {
    let names = [
        ("loopback.test", A),
        ("private.test", A),
        ("metadata.test", A),
        ("mapped.test", AAAA),
    ];
    let all = names.iter().enumerate().map(|(i, (_, of))| {
        let query = format!("(call $lookup (i32.const {}) (i32.const {of}))", at(i));
        must_be(&query, DENIED)
    });
    let texts = names.map(|(name, _)| name);
    Case::new(
        "names that resolve to loopback, private and metadata addresses, also as addresses of IPv6",
        "the policy of addresses: the guest is not told them",
        client_with(&["*.test"], &texts, "", &all.collect::<String>()).resolving(),
        Ends::Well,
    )
}

fn a_name_that_changes_its_mind() -> Case {
    let doing = must_be(&lookup(), 1) + &must_be(&lookup(), DENIED);
    Case::new(
        "a name that resolves to a public address first and to this machine the next time",
        "the policy of addresses, applied to each answer",
        client(&["rebinding.test"], &doing).resolving(),
        Ends::Well,
    )
}

fn a_resolver_that_never_answers() -> Case {
    let doing =
        "(global.set $patience_ms (i32.const 300))".to_owned() + &must_be(&lookup(), TIMED_OUT);
    Case::new(
        "a resolver that never answers",
        "the time that the guest gives a look-up, 10 s at most",
        client(&["silent.test"], &doing).resolving(),
        Ends::Well,
    )
}

fn a_thousand_echo_requests() -> Case {
    let ping = format!("(call $ping (i32.const {TEXTS}))");
    let doing = refused(1000, &ping, 990);
    Case::new(
        "1,000 echo requests (pings) in one call",
        "10 requests a call: the others are refused",
        client_with(&["127.0.0.1"], &["127.0.0.1"], "", &doing).serving(Answer::once("")),
        Ends::Well,
    )
}

fn echo_requests_to_addresses_that_are_closed() -> Case {
    let each = |i| format!("(call $ping (i32.const {}))", at(i));
    let all = (0..CLOSED.len()).map(|i| must_be(&each(i), DENIED));
    Case::new(
        "echo requests to loopback, private and metadata addresses, granted by mistake",
        "the policy of addresses, which no grant opens",
        client_with(&CLOSED_ASKED, &CLOSED, "", &all.collect::<String>()),
        Ends::Well,
    )
}
