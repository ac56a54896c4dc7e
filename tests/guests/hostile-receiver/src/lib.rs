//! Misbehaves as the request's body says; the check `hostile` does more, but only a receiver answers while a test waits.

use std::hint::black_box;

use shoal_sdk::receiver::{Receiver, Request, Response};
use shoal_sdk::{Context, Failure, log};

struct Hostile;

#[derive(serde::Deserialize)]
struct Settings {}

impl Receiver for Hostile {
    type Settings = Settings;

    fn receive(_: &Context, request: Request, _: Settings) -> Result<Response, Failure> {
        behave(&String::from_utf8_lossy(&request.body))?;
        Ok(Response {
            status: 200,
            content_type: "text/plain".to_owned(),
            retry_after_ms: None,
            message: String::new(),
            body: b"behaved".to_vec(),
        })
    }
}

shoal_sdk::export_receiver!(Hostile);

/// One line of the flood; longer ones are cut by the host.
const FLOOD_LINE_BYTES: usize = 8 << 10;

/// What the hog takes at a time.
const HOG_STEP_BYTES: usize = 1 << 20;

/// Behaves as the word says: `loop`, `memory`, `panic`, `abort` and `flood` never return, `refuse` fails as a plugin
/// should, `well` does nothing.
///
/// # Errors
/// `refuse`, and words that mean nothing.
fn behave(word: &str) -> Result<(), Failure> {
    match word {
        "well" => Ok(()),
        "loop" => compute_forever(),
        "memory" => take_all_memory(),
        "panic" => panic!("this plugin panics because it was asked to"),
        "abort" => std::process::abort(),
        "flood" => write_forever(),
        "refuse" => Err(Failure::rejected(
            "asked-to",
            "this plugin refuses because it was asked to",
        )),
        other => Err(Failure::rejected(
            "bad-word",
            format!("{other:?} is no behaviour"),
        )),
    }
}

fn compute_forever() -> ! {
    let mut count: u64 = 0;
    loop {
        count = black_box(count.wrapping_add(1));
    }
}

fn take_all_memory() -> ! {
    let mut taken = Vec::new();
    loop {
        taken.push(black_box(vec![1_u8; HOG_STEP_BYTES]));
    }
}

fn write_forever() -> ! {
    let line = "x".repeat(FLOOD_LINE_BYTES);
    loop {
        log::info!("{line}");
    }
}
