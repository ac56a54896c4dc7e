//! The way out: hostile requests. What hostile servers answer is in `answers`.
//!
//! Names that resolve to what they should not, and change their mind, need a resolver of the test's own: see
//! `src/egress/tests.rs`.

use super::case::{Attack, Case, Ends};
use super::cases;
use super::pieces::times;
use super::server::Answer;

cases! {
    request_of_a_hundred_thousand_headers
    request_header_of_one_mebibyte
    request_header_with_a_line_break
    request_path_with_a_line_break
    request_path_of_another_host
    request_for_another_host_by_header
    request_of_two_lengths
    requests_to_addresses_that_are_closed
    requests_to_hosts_that_are_not_granted
    a_thousand_requests
    requests_that_nobody_waits_for
    a_million_header_lists
    redirect_to_the_metadata_service
}

const ASKS: &str = r#"
    [[capabilities]]
    kind = "http"
    hosts = ["127.0.0.1:{port}"]
    reason = "to test"
"#;

/// Functions over `wasi:http`: `$fields`, `$put` (headers, name, value; both end with a 0 byte), `$ask` (headers,
/// authority, path) and `$read` (response).
const CLIENT: &str = r#"
    (import "wasi:http/types@0.2.6" "[constructor]fields" (func $fields (result i32)))
    (import "wasi:http/types@0.2.6" "[method]fields.append" (func $append (param i32 i32 i32 i32 i32 i32)))
    (import "wasi:http/types@0.2.6" "[constructor]outgoing-request" (func $request (param i32) (result i32)))
    (import "wasi:http/types@0.2.6" "[method]outgoing-request.set-path-with-query" (func $set_path (param i32 i32 i32 i32) (result i32)))
    (import "wasi:http/types@0.2.6" "[method]outgoing-request.set-scheme" (func $set_scheme (param i32 i32 i32 i32 i32) (result i32)))
    (import "wasi:http/types@0.2.6" "[method]outgoing-request.set-authority" (func $set_authority (param i32 i32 i32 i32) (result i32)))
    (import "wasi:http/types@0.2.6" "[method]future-incoming-response.subscribe" (func $subscribe (param i32) (result i32)))
    (import "wasi:http/types@0.2.6" "[method]future-incoming-response.get" (func $get (param i32 i32)))
    (import "wasi:http/types@0.2.6" "[method]incoming-response.status" (func $status (param i32) (result i32)))
    (import "wasi:http/types@0.2.6" "[method]incoming-response.consume" (func $consume (param i32 i32)))
    (import "wasi:http/types@0.2.6" "[method]incoming-body.stream" (func $stream (param i32 i32)))
    (import "wasi:http/outgoing-handler@0.2.6" "handle" (func $handle (param i32 i32 i32 i32)))
    (import "wasi:io/poll@0.2.6" "[method]pollable.block" (func $block (param i32)))
    (import "wasi:io/streams@0.2.6" "[method]input-stream.blocking-read" (func $blocking_read (param i32 i64 i32)))
    ;; The response of the last request.
    (global $response (mut i32) (i32.const 0))
    (data (i32.const 2048) "127.0.0.1:{port}\00")
    (data (i32.const 2112) "/\00")
    (data (i32.const 2176) "x-test\00")
    (data (i32.const 2240) "value\00")
    (func $length (param $at i32) (result i32) (local $n i32)
      (loop $next
        (if (i32.load8_u (i32.add (local.get $at) (local.get $n)))
          (then (local.set $n (i32.add (local.get $n) (i32.const 1))) (br $next))))
      (local.get $n))
    ;; 0, or 1 and more for the header-error.
    (func $put (param $headers i32) (param $name i32) (param $value i32) (result i32)
      (call $append (local.get $headers) (local.get $name) (call $length (local.get $name))
        (local.get $value) (call $length (local.get $value)) (i32.const 4096))
      (if (i32.eqz (i32.load8_u (i32.const 4096))) (then (return (i32.const 0))))
      (i32.add (i32.const 1) (i32.load8_u (i32.const 4097))))
    ;; The future, or -1 when it was refused at once, with the error at 4104.
    (func $begin (param $headers i32) (param $authority i32) (param $path i32) (result i32)
      (local $r i32)
      (local.set $r (call $request (local.get $headers)))
      (drop (call $set_scheme (local.get $r) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0)))
      (if (call $set_authority (local.get $r) (i32.const 1) (local.get $authority) (call $length (local.get $authority)))
        (then (i32.store8 (i32.const 4104) (i32.const 100)) (return (i32.const -1))))
      (if (call $set_path (local.get $r) (i32.const 1) (local.get $path) (call $length (local.get $path)))
        (then (i32.store8 (i32.const 4104) (i32.const 100)) (return (i32.const -1))))
      (call $handle (local.get $r) (i32.const 0) (i32.const 0) (i32.const 4096))
      (if (i32.load8_u (i32.const 4096)) (then (return (i32.const -1))))
      (i32.load (i32.const 4104)))
    ;; The status, or minus the error-code minus 1: -1 is the first; -101 is a URL that cannot be set.
    (func $ask (param $headers i32) (param $authority i32) (param $path i32) (result i32)
      (local $future i32)
      (local.set $future (call $begin (local.get $headers) (local.get $authority) (local.get $path)))
      (if (i32.eq (local.get $future) (i32.const -1))
        (then (return (i32.sub (i32.const -1) (i32.load8_u (i32.const 4104))))))
      (call $block (call $subscribe (local.get $future)))
      (call $get (local.get $future) (i32.const 4096))
      (if (i32.load8_u (i32.const 4112))
        (then (return (i32.sub (i32.const -1) (i32.load8_u (i32.const 4120))))))
      (global.set $response (i32.load (i32.const 4120)))
      (call $status (global.get $response)))
    ;; Bytes of the body until it ends or breaks.
    (func $read (result i32)
      (local $stream i32) (local $total i32)
      (call $consume (global.get $response) (i32.const 4096))
      (call $stream (i32.load (i32.const 4100)) (i32.const 4096))
      (local.set $stream (i32.load (i32.const 4100)))
      (loop $next
        (call $blocking_read (local.get $stream) (i64.const 65536) (i32.const 4096))
        (if (i32.eqz (i32.load8_u (i32.const 4096)))
          (then
            (local.set $total (i32.add (local.get $total) (i32.load (i32.const 4104))))
            (br $next))))
      (local.get $total))
"#;

/// What `$ask` answers for an error of WASI.
pub(super) const fn error(code: i32) -> i32 {
    -1 - code
}
const PROHIBITED: i32 = error(4);
const LIMIT_REACHED: i32 = error(11);
const DENIED: i32 = error(15);

/// A check with the client above, served by a server that answers with 200.
pub(super) fn client(doing: &str) -> Attack {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    Attack::check_with(CLIENT, doing)
        .manifest(ASKS)
        .serving(Answer::once(ok))
}

/// Asks the server and goes on only when the outcome is this.
pub(super) fn must_be(wanted: i32) -> String {
    asking("(call $fields)", 2048, 2112, wanted)
}

fn asking(headers: &str, authority: u32, path: u32, wanted: i32) -> String {
    format!(
        "(if (i32.ne (call $ask {headers} (i32.const {authority}) (i32.const {path})) (i32.const {wanted}))
           (then unreachable))"
    )
}

fn request_of_a_hundred_thousand_headers() -> Case {
    let doing = format!(
        "(local $i i32) (local $h i32) (local.set $h (call $fields)) {}",
        times(
            100_000,
            "(drop (call $put (local.get $h) (i32.const 2176) (i32.const 2240)))"
        )
        .replacen("(local $i i32)", "", 1)
    );
    Case::new(
        "a request of 100,000 headers",
        "32 KiB of headers in the host",
        client(&doing),
        Ends::Failed("trapped", "the plugin crashed: "),
    )
}

fn request_header_of_one_mebibyte() -> Case {
    let doing = "(drop (memory.grow $memory (i32.const 40)))
        (memory.fill (i32.const 65536) (i32.const 65) (i32.const 1048576))
        (call $append (call $fields) (i32.const 2176) (i32.const 6) (i32.const 65536) (i32.const 1048576) (i32.const 4096))";
    Case::new(
        "a header of 1 MiB",
        "32 KiB of headers in the host",
        client(doing),
        Ends::Failed("trapped", "the plugin crashed: "),
    )
}

/// A header that the host does not take.
fn refused_header(tries: &'static str, name: &str, value: &str) -> Case {
    let before = format!(
        "{CLIENT} (data (i32.const 2304) \"{name}\\00\") (data (i32.const 2432) \"{value}\\00\")"
    );
    let doing = "(if (i32.eqz (call $put (call $fields) (i32.const 2304) (i32.const 2432))) (then unreachable))";
    Case::new(
        tries,
        "the host, which does not take such a header",
        Attack::check_with(&before, doing)
            .manifest(ASKS)
            .serving(Answer::once("")),
        Ends::Well,
    )
}

fn request_header_with_a_line_break() -> Case {
    refused_header(
        "a header whose value holds a line break and another request",
        "x-test",
        "a\\r\\n\\r\\nGET /admin HTTP/1.1\\r\\nhost: internal",
    )
}

fn request_for_another_host_by_header() -> Case {
    refused_header(
        "a header that names another host",
        "host",
        "internal.example",
    )
}

/// A path that is not sent.
fn refused_path(tries: &'static str, path: &str) -> Case {
    let before = format!("{CLIENT} (data (i32.const 2304) \"{path}\\00\")");
    let doing = "(if (i32.ge_s (call $ask (call $fields) (i32.const 2048) (i32.const 2304)) (i32.const 0)) (then unreachable))";
    Case::new(
        tries,
        "the host, which sends paths only",
        Attack::check_with(&before, doing)
            .manifest(ASKS)
            .serving(Answer::once("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")),
        Ends::Well,
    )
}

fn request_path_with_a_line_break() -> Case {
    refused_path(
        "a path that holds a line break and another request",
        "/ HTTP/1.1\\r\\nhost: internal\\r\\n\\r\\nGET /admin",
    )
}

fn request_path_of_another_host() -> Case {
    refused_path(
        "a whole URL of another host in place of a path",
        "http://169.254.169.254/latest/",
    )
}

fn request_of_two_lengths() -> Case {
    let before = format!(
        "{CLIENT} (data (i32.const 2304) \"content-length\\00\") (data (i32.const 2432) \"5\\00\")
         (data (i32.const 2496) \"50\\00\")"
    );
    let put = |value: u32| {
        format!("(drop (call $put (local.get $h) (i32.const 2304) (i32.const {value})))")
    };
    let doing = format!(
        "(local $h i32) (local.set $h (call $fields)) {} {}
         (if (i32.ge_s (call $ask (local.get $h) (i32.const 2048) (i32.const 2112)) (i32.const 0)) (then unreachable))",
        put(2432),
        put(2496)
    );
    Case::new(
        "a request of two lengths, which a proxy may read otherwise than a server",
        "the host, which does not send it",
        Attack::check_with(&before, &doing)
            .manifest(ASKS)
            .serving(Answer::once("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")),
        Ends::Well,
    )
}

/// Asks each of these in turn; each must end like this.
fn authorities(all: &[&str], wanted: i32) -> (String, String) {
    let at = |i: usize| 2304 + 64 * i;
    let data: String = all
        .iter()
        .enumerate()
        .map(|(i, authority)| format!("(data (i32.const {}) \"{authority}\\00\")", at(i)))
        .collect();
    let asks: String = (0..all.len())
        .map(|i| {
            asking(
                "(call $fields)",
                u32::try_from(at(i)).expect("small"),
                2112,
                wanted,
            )
        })
        .collect();
    (format!("{CLIENT} {data}"), asks)
}

fn requests_to_addresses_that_are_closed() -> Case {
    const CLOSED: [&str; 7] = [
        "127.0.0.2:80",
        "[::ffff:127.0.0.2]:80",
        "169.254.169.254:80",
        "169.254.169.254",
        "[::ffff:a9fe:a9fe]",
        "10.0.0.1:80",
        "0.0.0.0:80",
    ];
    let (before, doing) = authorities(&CLOSED, PROHIBITED);
    let asks = "[[capabilities]]\nkind = \"http\"\nreason = \"to test\"
        hosts = [\"127.0.0.2:80\", \"169.254.169.254\", \"10.0.0.1:80\", \"0.0.0.0:80\"]";
    Case::new(
        "loopback, private and metadata addresses in every spelling, granted by mistake",
        "the policy of addresses, which no grant opens",
        Attack::check_with(&before, &doing).manifest(asks),
        Ends::Well,
    )
}

fn requests_to_hosts_that_are_not_granted() -> Case {
    let (before, doing) = authorities(
        &[
            "169.254.169.254",
            "localhost:{port}",
            "127.0.0.1:1",
            "127.0.0.1.evil.example:{port}",
            "evil.example",
        ],
        DENIED,
    );
    Case::new(
        "hosts and ports beside the one that is granted",
        "the grant: they are not even looked up",
        Attack::check_with(&before, &doing)
            .manifest(ASKS)
            .serving(Answer::once("")),
        Ends::Well,
    )
}

fn a_thousand_requests() -> Case {
    let before = format!("{CLIENT} (global $refused (mut i32) (i32.const 0))");
    let doing = format!(
        "{} (if (i32.ne (global.get $refused) (i32.const 190)) (then unreachable))",
        times(
            200,
            &format!(
                "(if (i32.eq (call $ask (call $fields) (i32.const 2048) (i32.const 2112)) (i32.const {LIMIT_REACHED}))
                   (then (global.set $refused (i32.add (global.get $refused) (i32.const 1)))))"
            )
        )
    );
    Case::new(
        "200 requests in one call",
        "10 requests a call: the others are refused",
        Attack::check_with(&before, &doing)
            .manifest(ASKS)
            .serving(Answer::once("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")),
        Ends::Well,
    )
}

fn requests_that_nobody_waits_for() -> Case {
    let begin = "(drop (call $begin (call $fields) (i32.const 2048) (i32.const 2112)))";
    Case::new(
        "ten requests whose answers it does not wait for",
        "the end of the call, which ends them",
        client(&times(10, begin)).serving(Answer::once("")),
        Ends::Well,
    )
}

fn a_million_header_lists() -> Case {
    Case::new(
        "making lists of headers again and again",
        "resources held at a time",
        client(&super::pieces::forever("(drop (call $fields))")),
        Ends::Failed("limit-handles", "1000 resources are allowed"),
    )
}

fn redirect_to_the_metadata_service() -> Case {
    let before = format!("{CLIENT} (data (i32.const 2304) \"169.254.169.254\\00\")");
    let doing = must_be(302) + &asking("(call $fields)", 2304, 2112, DENIED);
    Case::new(
        "a server that sends the guest on to 169.254.169.254, and a guest that goes there",
        "the host follows nothing; what the guest follows is a request like any other",
        Attack::check_with(&before, &doing).manifest(ASKS).serving(Answer::once(
            "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n",
        )),
        Ends::Well,
    )
}
