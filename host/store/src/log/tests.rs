//! The log by itself: what comes back after damage and power cuts.

use std::sync::Arc;

use super::simulated::SimulatedFolder;
use super::{Log, WriteError, frame};
use crate::store::OpenError;

const FILE_BYTES: u64 = 32 << 10;

type Replayed = Vec<(u64, Vec<u8>)>;

fn open(
    folder: &SimulatedFolder,
    files_max: usize,
    position: u64,
) -> Result<(Log, Replayed), OpenError> {
    let mut replayed = Vec::new();
    let (log, count) = Log::open(
        Arc::new(folder.clone()),
        FILE_BYTES,
        files_max,
        position,
        |sequence, payload| {
            replayed.push((sequence, payload.to_vec()));
            Ok(())
        },
    )?;
    assert_eq!(count, replayed.len() as u64);
    Ok((log, replayed))
}

fn write(log: &mut Log, payload: &[u8]) -> Result<u64, WriteError> {
    let mut buffer = Vec::new();
    frame::begin(&mut buffer);
    buffer.extend_from_slice(payload);
    log.write(&mut buffer)
}

fn payload(number: u64) -> Vec<u8> {
    vec![number as u8; 100 + 3000 * (number as usize % 3)]
}

#[test]
fn frames_come_back_in_order_over_many_files_and_openings() {
    let folder = SimulatedFolder::default();
    let mut position = 0;
    let mut next = 0;
    for round in 0..20 {
        let (mut log, replayed) = open(&folder, 3, position).expect("a good log");
        let wanted: Replayed = (position..next).map(|n| (n, payload(n))).collect();
        assert_eq!(replayed, wanted, "round {round}");
        for _ in 0..5 {
            assert_eq!(write(&mut log, &payload(next)), Ok(next));
            next += 1;
        }
        position = next - 3;
        log.release(position);
    }
    assert!(folder.contents().len() <= 3);
}

#[test]
fn a_full_log_refuses_until_space_is_released() {
    let folder = SimulatedFolder::default();
    let (mut log, _) = open(&folder, 2, 0).expect("a new log");
    let mut written = 0;
    while write(&mut log, &payload(1)).is_ok() {
        written += 1;
        assert!(written < 1000, "the log is not bounded");
    }
    assert_eq!(write(&mut log, &payload(1)), Err(WriteError::Full));
    assert!(log.wants_flush());
    log.release(written);
    assert_eq!(write(&mut log, &payload(1)), Ok(written));
    assert!(!log.wants_flush());
}

/// Whatever byte changes: either the log says where it is damaged, or it ends before its last frame, or the byte meant
/// nothing.
#[test]
fn a_flipped_byte_is_an_error_or_the_torn_tail() {
    let folder = SimulatedFolder::default();
    let (mut log, _) = open(&folder, 4, 0).expect("a new log");
    let count = 8;
    for number in 0..count {
        write(&mut log, &payload(number)).expect("there is room");
    }
    let all: Replayed = (0..count).map(|n| (n, payload(n))).collect();
    let last = &all[..all.len() - 1];
    let (mut errors, mut torn) = (0, 0);
    for (name, content) in folder.contents() {
        for at in 0..content.len() {
            // Most of a file is empty pages and repeated payload: every byte of headers, a sample of the rest.
            if at % 4096 > 64 && at % 61 != 0 {
                continue;
            }
            match open(&folder.with_flip(&name, at), 4, 0) {
                Ok((_, replayed)) if replayed == all => {}
                Ok((_, replayed)) => {
                    assert_eq!(replayed, last, "{name} at {at}");
                    torn += 1;
                }
                Err(OpenError::DamagedLog { file, .. }) => {
                    assert!(file.starts_with("simulated"));
                    errors += 1;
                }
                Err(error) => panic!("{name} at {at}: {error}"),
            }
        }
    }
    assert!(errors > 200 && torn > 20, "{errors} errors, {torn} torn");
}

#[test]
fn a_failed_sync_ends_the_log() {
    let folder = SimulatedFolder::default();
    let (mut log, _) = open(&folder, 2, 0).expect("a new log");
    write(&mut log, b"good").expect("a good disk");
    folder.fail_sync(0);
    for _ in 0..3 {
        assert!(matches!(
            write(&mut log, b"lost"),
            Err(WriteError::Failed(reason)) if reason.contains("log-0000")
        ));
    }
}

/// A frame that is in the page cache but was never synced must be synced before the next one is acknowledged.
#[test]
fn what_recovery_replays_is_durable_afterwards() {
    let folder = SimulatedFolder::default();
    let (mut log, _) = open(&folder, 2, 0).expect("a new log");
    write(&mut log, b"good").expect("a good disk");
    folder.fail_sync(0);
    write(&mut log, b"cached").expect_err("the sync fails");
    let repaired = folder.after_power_cut(|| true);
    let (_, replayed) = open(&repaired, 2, 0).expect("a good log");
    assert_eq!(replayed.len(), 2);
    let cut = repaired.after_power_cut(|| false);
    let (_, again) = open(&cut, 2, 0).expect("a good log");
    assert_eq!(again, replayed);
}

#[test]
fn a_log_of_which_a_part_is_missing_is_refused() {
    let folder = SimulatedFolder::default();
    let (mut log, _) = open(&folder, 4, 0).expect("a new log");
    for number in 0..4 {
        write(&mut log, &payload(number)).expect("there is room");
    }
    log.release(4);
    // The catalog is older than the log's files: what it wants was overwritten.
    for number in 4..40 {
        write(&mut log, &payload(number)).expect("there is room");
        log.release(number);
    }
    assert!(matches!(
        open(&folder, 4, 0),
        Err(OpenError::DamagedLog { .. })
    ));
    assert!(open(&folder, 4, 39).is_ok());
}
