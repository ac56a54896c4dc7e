//! The decoder's columns as the contract's, and back: vectors are moved, nothing is copied.

use shoal_otlp_decoder::{Columns, HistogramColumns, NumberColumns, SeriesColumns};
use shoal_sdk::ingest::{AttributeSets, Histograms, Metrics, Numbers, Series, Symbols};

pub(crate) fn into_batch(columns: Columns) -> Metrics {
    let (s, n, h) = (columns.series, columns.numbers, columns.histograms);
    Metrics {
        symbols: Symbols {
            bytes: columns.symbol_bytes,
            ends: columns.symbol_ends,
        },
        sets: AttributeSets {
            pairs: columns.set_pairs,
            ends: columns.set_ends,
        },
        series: Series {
            names: s.names,
            units: s.units,
            kinds: s.kinds,
            resources: s.resources,
            scopes: s.scopes,
            attributes: s.attributes,
        },
        numbers: Numbers {
            series: n.series,
            parts: n.parts,
            quantiles: n.quantiles,
            start_unix_nano: n.start_unix_nano,
            time_unix_nano: n.time_unix_nano,
            values: n.values,
            stale: n.stale,
        },
        histograms: Histograms {
            series: h.series,
            start_unix_nano: h.start_unix_nano,
            time_unix_nano: h.time_unix_nano,
            counts: h.counts,
            sums: h.sums,
            mins: h.mins,
            maxs: h.maxs,
            scales: h.scales,
            zero_counts: h.zero_counts,
            zero_thresholds: h.zero_thresholds,
            positive_offsets: h.positive_offsets,
            positive_ends: h.positive_ends,
            negative_offsets: h.negative_offsets,
            negative_ends: h.negative_ends,
            bound_ends: h.bound_ends,
            stale: h.stale,
            bucket_counts: h.bucket_counts,
            bounds: h.bounds,
        },
    }
}

pub(crate) fn from_batch(batch: Metrics) -> Columns {
    let (s, n, h) = (batch.series, batch.numbers, batch.histograms);
    Columns {
        symbol_bytes: batch.symbols.bytes,
        symbol_ends: batch.symbols.ends,
        set_pairs: batch.sets.pairs,
        set_ends: batch.sets.ends,
        series: SeriesColumns {
            names: s.names,
            units: s.units,
            kinds: s.kinds,
            resources: s.resources,
            scopes: s.scopes,
            attributes: s.attributes,
        },
        numbers: NumberColumns {
            series: n.series,
            parts: n.parts,
            quantiles: n.quantiles,
            start_unix_nano: n.start_unix_nano,
            time_unix_nano: n.time_unix_nano,
            values: n.values,
            stale: n.stale,
        },
        histograms: HistogramColumns {
            series: h.series,
            start_unix_nano: h.start_unix_nano,
            time_unix_nano: h.time_unix_nano,
            counts: h.counts,
            sums: h.sums,
            mins: h.mins,
            maxs: h.maxs,
            scales: h.scales,
            zero_counts: h.zero_counts,
            zero_thresholds: h.zero_thresholds,
            positive_offsets: h.positive_offsets,
            positive_ends: h.positive_ends,
            negative_offsets: h.negative_offsets,
            negative_ends: h.negative_ends,
            bound_ends: h.bound_ends,
            stale: h.stale,
            bucket_counts: h.bucket_counts,
            bounds: h.bounds,
        },
    }
}
