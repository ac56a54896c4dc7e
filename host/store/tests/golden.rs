//! Files of every released version of the segment format, read by this one: a change of the format that would make
//! what is on customers' disks unreadable cannot pass unnoticed.
//!
//! `SHOAL_WRITE_GOLDEN=1 cargo nextest run -p shoal-store golden` writes the file of the present version anew. Do so
//! only before a release has it; afterwards raise the version and add a file.
#![expect(
    clippy::disallowed_methods,
    reason = "whether to write the file anew is for this test alone"
)]

use std::fs;
use std::path::{Path, PathBuf};

use shoal_model::TenantId;
use shoal_model::labels::Labels;
use shoal_store::{STALE_NAN_BITS, SegmentId, read_segment, write_segment};

const TENANT: TenantId = TenantId(7);

/// What the golden files hold: every way in which a column can be stored.
fn series() -> Vec<(Labels, Vec<i64>, Vec<f64>)> {
    let times: Vec<i64> = (0..400).map(|at| 1_795_478_400_000 + 15_000 * at).collect();
    let column = |value: fn(i64) -> f64| (0..400).map(value).collect::<Vec<f64>>();
    let columns = [
        ("constant", column(|_| 0.1)),
        ("integers", column(|at| (at * at % 97) as f64)),
        ("counter", column(|at| (at * 1_000 + at * at % 13) as f64)),
        ("accelerating", column(|at| (at * at * 3) as f64)),
        ("decimals", column(|at| (at * 37 % 101) as f64 / 100.0)),
        ("multiples", column(|at| (at * at % 31) as f64 * 4096.0)),
        // Exact in every language: no rounding that may differ.
        ("floats", column(|at| 1.0 / (at + 3) as f64)),
        (
            "odd",
            column(|at| match at % 100 {
                3 => f64::from_bits(STALE_NAN_BITS),
                4 => -0.0,
                5 => f64::NEG_INFINITY,
                6 => f64::from_bits(0x7ff8_0000_dead_beef),
                7 => f64::from_bits(1),
                at => at as f64,
            }),
        ),
    ];
    let mut series: Vec<_> = columns
        .into_iter()
        .map(|(name, values)| {
            let labels = Labels::from_pairs([("__name__", name), ("host", "a"), ("zone", "é")]);
            (labels, times.clone(), values)
        })
        .collect();
    let short = Labels::from_pairs([("host", "b")]);
    series.push((short, vec![-5, 0, i64::MAX], vec![1.0, 2.5, f64::MAX]));
    series
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

#[track_caller]
fn assert_holds_the_series(path: &Path) {
    let read = read_segment(path, TENANT, &[], (i64::MIN, i64::MAX)).expect("it can be read");
    assert_eq!(read.damages, []);
    let mut wanted = series();
    wanted.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(read.series.len(), wanted.len());
    for (found, (labels, times, values)) in read.series.iter().zip(&wanted) {
        assert_eq!(found.labels, *labels);
        assert_eq!(*found.times_ms, **times, "{labels}");
        let bits = |values: &[f64]| {
            values
                .iter()
                .map(|value| value.to_bits())
                .collect::<Vec<_>>()
        };
        assert_eq!(bits(&found.values), bits(values), "{labels}");
    }
}

#[test]
fn golden_segments_of_all_versions_can_be_read() {
    let mut files = 0;
    for entry in fs::read_dir(folder()).expect("the golden files") {
        assert_holds_the_series(&entry.expect("the folder can be read").path());
        files += 1;
    }
    assert!(files > 0, "there are golden files");
}

#[test]
fn the_golden_segment_of_this_version_is_written_as_it_was() {
    let scratch = tempfile::tempdir().expect("a folder");
    let written = write_segment(scratch.path(), SegmentId(1), TENANT, series()).expect("room");
    let path = scratch.path().join(written.record.file_name);
    assert_holds_the_series(&path);
    let bytes = fs::read(path).expect("it was just written");
    let version = u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes"));
    let golden = folder().join(format!("version-{version}.seg"));
    if std::env::var_os("SHOAL_WRITE_GOLDEN").is_some() {
        fs::write(&golden, &bytes).expect("the repository can be written");
    }
    assert!(
        bytes == fs::read(&golden).expect("the golden file of this version"),
        "the format has changed: raise segment::VERSION, keep reading the old one, and add a golden file; if only \
         `pco` or `miniz_oxide` was updated and the old file can be read, write it anew"
    );
}
