//! What hostile servers answer over HTTP.

use std::time::Duration;

use super::case::{Case, Ends};
use super::cases;
use super::http::{client, error, must_be};
use super::server::Answer;

cases! {
    answer_of_a_hundred_thousand_headers
    answer_header_of_one_mebibyte
    answer_header_that_never_ends
    answer_of_two_lengths
    answer_of_both_framings
    answer_that_is_no_http
    answer_that_never_comes
    answer_byte_by_byte
    answer_of_preludes_without_end
    body_that_never_ends
    body_in_chunks_that_never_end
    body_of_a_chunk_whose_size_never_ends
    body_byte_by_byte
    body_shorter_than_said
}

const READ_TIMEOUT: i32 = error(9);
const HEADERS_TOO_LARGE: i32 = error(26);
const PROTOCOL: i32 = error(35);

/// Asks a server that answers like this, and is told of this error.
fn server(tries: &'static str, stopped_by: &'static str, answer: Answer, wanted: i32) -> Case {
    let attack = client(&must_be(wanted)).serving(answer);
    Case::new(tries, stopped_by, attack, Ends::Well)
}

/// Reads a whole body of at most so many bytes.
fn reading(tries: &'static str, stopped_by: &'static str, answer: Answer) -> Case {
    let doing = format!(
        "{} (if (i32.gt_u (call $read) (i32.const 4194304)) (then unreachable))",
        must_be(200)
    );
    Case::new(
        tries,
        stopped_by,
        client(&doing).serving(answer),
        Ends::Well,
    )
}

/// Ends by the time that the caller gives.
fn by_wall(case: Case) -> Case {
    Case {
        attack: case.attack.within(Duration::from_millis(500)),
        ends: Ends::Failed("limit-wall", " ms are allowed"),
        stopped_by: "wall-clock time of the call",
        ..case
    }
}

fn answer_of_a_hundred_thousand_headers() -> Case {
    let head = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(100_000));
    server(
        "a server that answers with 100,000 headers",
        "100 headers, 64 KiB of head",
        Answer::once(head),
        HEADERS_TOO_LARGE,
    )
}

fn answer_header_of_one_mebibyte() -> Case {
    let head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    server(
        "a server that answers with a header of 1 MiB",
        "64 KiB of head",
        Answer::once(head),
        HEADERS_TOO_LARGE,
    )
}

fn answer_header_that_never_ends() -> Case {
    let answer = Answer::endless("HTTP/1.1 200 OK\r\nx: ", vec![b'y'; 4096], Duration::ZERO);
    server(
        "a server whose header never ends",
        "64 KiB of head",
        answer,
        HEADERS_TOO_LARGE,
    )
}

fn answer_of_two_lengths() -> Case {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 50\r\n\r\nhello";
    server(
        "a server whose answer has two lengths",
        "the host, which takes neither",
        Answer::once(head),
        PROTOCOL,
    )
}

fn answer_of_both_framings() -> Case {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 99\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    reading(
        "a server whose answer has a length and is chunked",
        "the host, which reads chunks and nothing behind them",
        Answer::once(head),
    )
}

fn answer_that_is_no_http() -> Case {
    server(
        "a server that speaks another protocol",
        "the host",
        Answer::once("SSH-2.0-OpenSSH_9.6\r\n"),
        PROTOCOL,
    )
}

fn answer_that_never_comes() -> Case {
    by_wall(server(
        "a server that never answers",
        "",
        Answer::once(""),
        READ_TIMEOUT,
    ))
}

fn answer_byte_by_byte() -> Case {
    by_wall(server(
        "a server that sends one byte of its head every 20 ms",
        "",
        Answer::endless("HTTP/1.1 200 OK\r\nx: ", "y", Duration::from_millis(20)),
        READ_TIMEOUT,
    ))
}

fn answer_of_preludes_without_end() -> Case {
    by_wall(server(
        "a server that says \"continue\" again and again",
        "",
        Answer::endless(
            "",
            "HTTP/1.1 100 Continue\r\n\r\n",
            Duration::from_millis(1),
        ),
        READ_TIMEOUT,
    ))
}

fn body_that_never_ends() -> Case {
    reading(
        "a server whose body never ends",
        "4 MiB of body",
        Answer::endless("HTTP/1.1 200 OK\r\n\r\n", vec![b'x'; 65536], Duration::ZERO),
    )
}

fn body_in_chunks_that_never_end() -> Case {
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    reading(
        "a server that sends chunks for ever",
        "4 MiB of body",
        Answer::endless(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            chunk.repeat(16),
            Duration::ZERO,
        ),
    )
}

fn body_of_a_chunk_whose_size_never_ends() -> Case {
    reading(
        "a server that sends a chunk's size and its remarks for ever",
        "the host, which ends such a body",
        Answer::endless(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;",
            "x".repeat(4096),
            Duration::ZERO,
        ),
    )
}

fn body_byte_by_byte() -> Case {
    let answer = Answer::endless("HTTP/1.1 200 OK\r\n\r\n", "x", Duration::from_millis(20));
    by_wall(reading(
        "a server that sends one byte of its body every 20 ms",
        "",
        answer,
    ))
}

fn body_shorter_than_said() -> Case {
    by_wall(reading(
        "a server that says it sends 2^63 bytes and sends two",
        "",
        Answer::once("HTTP/1.1 200 OK\r\ncontent-length: 9223372036854775807\r\n\r\nok"),
    ))
}
