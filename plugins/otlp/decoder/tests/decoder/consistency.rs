//! The rules of `wit/telemetry.wit`, checked without mercy.

use shoal_otlp_decoder::{Columns, EXPLICIT_BOUNDS};

/// Panics unless every index, offset, length and text keeps the contract.
#[track_caller]
pub(crate) fn check(columns: &Columns) {
    let symbols = columns.symbol_ends.len();
    let sets = columns.set_ends.len();
    check_ends(&columns.symbol_ends, columns.symbol_bytes.len());
    let text = std::str::from_utf8(&columns.symbol_bytes).expect("symbols are UTF-8");
    for end in &columns.symbol_ends {
        assert!(text.is_char_boundary(*end as usize), "a character is cut");
    }
    assert_eq!(columns.set_pairs.len() % 2, 0);
    check_below(&columns.set_pairs, symbols);
    check_ends(&columns.set_ends, columns.set_pairs.len() / 2);
    check_series(columns, symbols, sets);
    check_numbers(columns);
    check_histograms(columns);
}

fn check_series(columns: &Columns, symbols: usize, sets: usize) {
    let s = &columns.series;
    let rows = s.names.len();
    for (column, bound) in [
        (&s.names, symbols),
        (&s.units, symbols),
        (&s.resources, sets),
        (&s.scopes, sets),
        (&s.attributes, sets),
    ] {
        assert_eq!(column.len(), rows);
        check_below(column, bound);
    }
    assert_eq!(s.kinds.len(), rows);
    assert!(s.kinds.iter().all(|kind| *kind <= 7));
    for name in &s.names {
        let end = columns.symbol_ends[*name as usize];
        let start = match name {
            0 => 0,
            _ => columns.symbol_ends[*name as usize - 1],
        };
        assert!(start < end, "a series has no name");
    }
}

fn check_numbers(columns: &Columns) {
    let (n, kinds) = (&columns.numbers, &columns.series.kinds);
    let rows = n.series.len();
    assert_eq!(n.parts.len(), rows);
    assert_eq!(n.quantiles.len(), rows);
    assert_eq!(n.start_unix_nano.len(), rows);
    assert_eq!(n.time_unix_nano.len(), rows);
    assert_eq!(n.values.len(), rows);
    assert_eq!(n.stale.len(), rows);
    check_below(&n.series, kinds.len());
    for row in 0..rows {
        let kind = kinds[n.series[row] as usize];
        assert!(!matches!(kind, 5 | 6), "a number of a histogram");
        assert_eq!(n.parts[row] != 0, kind == 7, "parts belong to summaries");
        assert!(n.parts[row] <= 3 && n.stale[row] <= 1);
        assert!((0.0..=1.0).contains(&n.quantiles[row]));
        assert!(n.time_unix_nano[row] > 0);
    }
}

fn check_histograms(columns: &Columns) {
    let (h, kinds) = (&columns.histograms, &columns.series.kinds);
    let rows = h.series.len();
    for length in [
        h.start_unix_nano.len(),
        h.time_unix_nano.len(),
        h.counts.len(),
        h.sums.len(),
        h.mins.len(),
        h.maxs.len(),
        h.scales.len(),
        h.zero_counts.len(),
        h.zero_thresholds.len(),
        h.positive_offsets.len(),
        h.positive_ends.len(),
        h.negative_offsets.len(),
        h.negative_ends.len(),
        h.bound_ends.len(),
        h.stale.len(),
    ] {
        assert_eq!(length, rows);
    }
    check_below(&h.series, kinds.len());
    check_ends(&h.bound_ends, h.bounds.len());
    check_ends(&h.negative_ends, h.bucket_counts.len());
    let (mut bucket, mut bound) = (0, 0);
    for row in 0..rows {
        assert!(matches!(kinds[h.series[row] as usize], 5 | 6));
        let (positive, negative) = (h.positive_ends[row] as usize, h.negative_ends[row] as usize);
        assert!(bucket <= positive && positive <= negative);
        let bounds = &h.bounds[bound..h.bound_ends[row] as usize];
        match h.scales[row] {
            EXPLICIT_BOUNDS => {
                let buckets = positive - bucket;
                assert!(buckets == bounds.len() + 1 || buckets + bounds.len() == 0);
                assert!(bounds.is_sorted_by(|a, b| a < b));
                assert_eq!(positive, negative);
            }
            scale => assert!((-10..=20).contains(&scale) && bounds.is_empty()),
        }
        (bucket, bound) = (negative, h.bound_ends[row] as usize);
    }
}

#[track_caller]
fn check_below(values: &[u32], bound: usize) {
    assert!(values.iter().all(|value| (*value as usize) < bound));
}

#[track_caller]
fn check_ends(ends: &[u32], length: usize) {
    assert!(ends.is_sorted());
    assert_eq!(ends.last().map_or(0, |end| *end as usize), length);
}
