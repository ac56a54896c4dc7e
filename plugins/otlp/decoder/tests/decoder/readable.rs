//! Columns as lines that a human can compare.

use std::fmt::Write;

use shoal_otlp_decoder::{Columns, EXPLICIT_BOUNDS};

/// One line a point: `kind name unit resource scope attributes start..time what`, sets in braces.
pub(crate) fn lines(columns: &Columns) -> Vec<String> {
    let numbers = (0..columns.numbers.series.len()).map(|row| number(columns, row));
    let histograms = (0..columns.histograms.series.len()).map(|row| histogram(columns, row));
    numbers.chain(histograms).collect()
}

fn number(columns: &Columns, row: usize) -> String {
    let n = &columns.numbers;
    let part = match n.parts[row] {
        0 => String::new(),
        1 => " sum".to_owned(),
        2 => " count".to_owned(),
        _ => format!(" q{}", n.quantiles[row]),
    };
    format!(
        "{} {}..{}{part} = {}{}",
        stream(columns, n.series[row]),
        n.start_unix_nano[row],
        n.time_unix_nano[row],
        n.values[row],
        stale(n.stale[row])
    )
}

fn histogram(columns: &Columns, row: usize) -> String {
    let h = &columns.histograms;
    let from = |ends: &[u32]| row.checked_sub(1).map_or(0, |last| ends[last] as usize);
    let (positive, negative) = (h.positive_ends[row] as usize, h.negative_ends[row] as usize);
    let buckets = &h.bucket_counts[from(&h.negative_ends)..positive];
    let layout = match h.scales[row] {
        EXPLICIT_BOUNDS => {
            let bounds = &h.bounds[from(&h.bound_ends)..h.bound_ends[row] as usize];
            format!("bounds {bounds:?} buckets {buckets:?}")
        }
        scale => format!(
            "scale {scale} zero {}±{} positive {}+{buckets:?} negative {}+{:?}",
            h.zero_counts[row],
            h.zero_thresholds[row],
            h.positive_offsets[row],
            h.negative_offsets[row],
            &h.bucket_counts[positive..negative],
        ),
    };
    format!(
        "{} {}..{} n {} sum {} min {} max {} {layout}{}",
        stream(columns, h.series[row]),
        h.start_unix_nano[row],
        h.time_unix_nano[row],
        h.counts[row],
        h.sums[row],
        h.mins[row],
        h.maxs[row],
        stale(h.stale[row])
    )
}

fn stale(flag: u8) -> &'static str {
    if flag == 1 { " stale" } else { "" }
}

fn stream(columns: &Columns, row: u32) -> String {
    const KINDS: [&str; 8] = [
        "gauge",
        "counter",
        "updown",
        "delta-counter",
        "delta-updown",
        "histogram",
        "delta-histogram",
        "summary",
    ];
    let (s, row) = (&columns.series, row as usize);
    format!(
        "{} {} {:?} {} {} {}",
        KINDS[usize::from(s.kinds[row])],
        symbol(columns, s.names[row]),
        symbol(columns, s.units[row]),
        set(columns, s.resources[row]),
        set(columns, s.scopes[row]),
        set(columns, s.attributes[row]),
    )
}

fn set(columns: &Columns, set: u32) -> String {
    let start = match set {
        0 => 0,
        _ => columns.set_ends[set as usize - 1] as usize,
    };
    let pairs = &columns.set_pairs[start * 2..columns.set_ends[set as usize] as usize * 2];
    let mut text = "{".to_owned();
    for [name, value] in pairs.as_chunks().0 {
        let separator = if text.len() > 1 { "," } else { "" };
        let (name, value) = (symbol(columns, *name), symbol(columns, *value));
        write!(text, "{separator}{name}={value}").expect("writing to a string cannot fail");
    }
    text + "}"
}

fn symbol(columns: &Columns, symbol: u32) -> &str {
    let start = match symbol {
        0 => 0,
        _ => columns.symbol_ends[symbol as usize - 1] as usize,
    };
    let bytes = &columns.symbol_bytes[start..columns.symbol_ends[symbol as usize] as usize];
    std::str::from_utf8(bytes).expect("symbols are UTF-8")
}
