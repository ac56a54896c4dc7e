//! The tables of limits.

use std::fmt::Write as _;
use std::time::Duration;

use shoal_model::grant::Kind;
use shoal_model::limit::CallLimits;

use super::{settle, with_part};

/// A row: what is bounded, and how much of it limits allow.
type Row = (&'static str, fn(&CallLimits) -> String);

#[test]
fn the_tables_of_limits_say_what_the_code_allows() {
    let kinds = [
        Kind::Receiver,
        Kind::Check,
        Kind::Channel,
        Kind::BillingRule,
    ];
    let mut table = String::from("| a call may use |");
    for kind in kinds {
        write!(table, " {kind} |").unwrap();
    }
    table.push_str("\n|---|---|---|---|---|\n");
    for (what, shown) in rows() {
        write!(table, "| {what} |").unwrap();
        for kind in kinds {
            write!(table, " {} |", shown(&CallLimits::for_kind(kind))).unwrap();
        }
        table.push('\n');
    }
    settle("limits.md", &with_part("limits.md", "limits", &table));
}

fn time(time: Duration) -> String {
    match time.as_millis() {
        ms if ms % 1000 == 0 => format!("{} s", ms / 1000),
        ms => format!("{ms} ms"),
    }
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0 => "0".to_owned(),
        bytes if bytes % (1 << 20) == 0 => format!("{} MiB", bytes >> 20),
        bytes => format!("{} KiB", bytes >> 10),
    }
}

fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn rows() -> [Row; 13] {
    [
        ("processor time", |l| time(l.cpu)),
        ("time, waiting included", |l| time(l.wall)),
        ("memory: all memories and tables together", |l| {
            bytes(l.memory_max_bytes)
        }),
        ("log and standard output together", |l| {
            bytes(l.log_max_bytes)
        }),
        ("one value handed to the host", |l| {
            bytes(l.output_max_bytes)
        }),
        ("calls of the host", |l| number(l.host_calls_max)),
        ("resources held at a time", |l| number(l.handles_max.into())),
        ("HTTP requests, connections, queries", |l| {
            number(l.http_requests_max.into())
        }),
        ("body of one HTTP request", |l| {
            bytes(l.http_request_body_max_bytes)
        }),
        (
            "body of one HTTP answer; bytes each way of a connection",
            |l| bytes(l.http_body_max_bytes),
        ),
        ("connections open at a time", |l| {
            number(l.connections_max.into())
        }),
        ("random bytes at once", |l| bytes(l.random_max_bytes)),
        ("instructions", |l| {
            l.fuel.map_or("not counted".to_owned(), number)
        }),
    ]
}
