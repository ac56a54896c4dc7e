//! Runs one hostile case or file in this process and prints what became of it as one line of JSON.
//!
//! `cargo xtask hostile` starts it once for each, so that a crash of the host is seen as one: `hostile list`,
//! `hostile case NAME`, `hostile file PATH`; and `hostile fill DIR COUNT` for a folder of files to run: every case, noise,
//! and so many damaged copies of the plugins that are built. `hostile rate PATH COUNT` runs a billing rule so often, under load, and prints the
//! hash of each answer and its instructions.
#![expect(clippy::print_stdout, reason = "a program of its own")]
#![expect(clippy::unwrap_used, reason = "shared with tests")]
#![expect(
    clippy::disallowed_methods,
    reason = "it measures, and owns what it starts"
)]
#![allow(dead_code, reason = "shared with tests, which use the rest")]

#[path = "../tests/runtime/hostile.rs"]
mod hostile;
#[path = "../tests/runtime/support.rs"]
mod support;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use hostile::measure::{self, Measured, Outcome};
use hostile::{all, file, fill, repeat};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads");
    let line = match words.as_slice() {
        ["list"] => json!(all().map(|(name, _)| name).collect::<Vec<_>>()),
        ["case", name] => match all().find(|(known, _)| known == name) {
            Some((_, case)) => runtime.block_on(run_case(case())),
            None => return usage(),
        },
        ["file", path] => runtime.block_on(run_file(Path::new(path))),
        ["rate", path, count] => match count.parse() {
            Ok(count) => json!(runtime.block_on(repeat::under_load(Path::new(path), count))),
            Err(_) => return usage(),
        },
        ["fill", folder, count] => match count.parse() {
            Ok(count) => json!(fill::fill(Path::new(folder), count)),
            Err(_) => return usage(),
        },
        _ => return usage(),
    };
    println!("{line}");
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    println!("usage: hostile list | case NAME | file PATH | fill DIR COUNT | rate PATH COUNT");
    ExitCode::FAILURE
}

async fn run_case(case: hostile::case::Case) -> Value {
    let file = case.attack.component_and_server().await;
    let measured = measure::measure(&case.attack, file, case.time_factor()).await;
    let mut shown = shown(&measured, measure::problem(&case, &measured));
    shown["tries"] = case.tries.into();
    shown["stopped_by"] = case.stopped_by.into();
    shown
}

async fn run_file(path: &Path) -> Value {
    match file::read(path) {
        Ok(bytes) => {
            let measured = file::run(bytes).await;
            let hung = measured.outcome.code == "hung";
            let problem = hung.then(|| measured.outcome.text.clone());
            shown(&measured, problem.or_else(|| measured.harm()))
        }
        Err(reason) => {
            let Outcome { code, text } = file::unread(reason);
            json!({ "outcome": code, "text": text })
        }
    }
}

fn shown(measured: &Measured, problem: Option<String>) -> Value {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    json!({
        "outcome": measured.outcome.code,
        "text": measured.outcome.text,
        "wall_ms": ms(measured.wall),
        "cpu_ms": ms(measured.cpu),
        "peak_mib": measured.peak_bytes >> 20,
        "neighbour_calls": measured.neighbour.len(),
        "neighbour_p99_ms": ms(measured.neighbour_p99()),
        "problem": problem,
    })
}
