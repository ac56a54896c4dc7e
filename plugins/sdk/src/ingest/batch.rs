//! Making a batch of numbers without knowing its columns.

use std::collections::HashMap;

use super::{AttributeSets, Histograms, Metrics, Numbers, Series, Symbols};

/// What a stream of numbers measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// A value that goes up and down.
    Gauge = 0,
    /// A running total that only grows.
    Counter = 1,
}

/// A batch that grows point by point. Strings and attribute sets are kept once.
///
/// ```
/// use shoal_sdk::ingest::{Batch, Stream};
///
/// let mut batch = Batch::new();
/// batch.resource(&[("host.name", "web-1")]);
/// batch.point("load", Stream::Gauge, &[("minutes", "1")], 1_767_225_600_000_000_000, 0.5);
/// assert_eq!(batch.finish().numbers.values, [0.5]);
/// ```
#[derive(Debug, Default)]
pub struct Batch {
    symbols: HashMap<String, u32>,
    sets: HashMap<Vec<u32>, u32>,
    bytes: Vec<u8>,
    ends: Vec<u32>,
    set_pairs: Vec<u32>,
    set_ends: Vec<u32>,
    resource: Option<u32>,
    /// Name, kind, resource and attributes of each point's stream.
    streams: Vec<[u32; 4]>,
    times: Vec<u64>,
    values: Vec<f64>,
}

impl Batch {
    /// A batch without points.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Whose the points are that are added from now on: attributes of a host, a service or a container.
    pub fn resource(&mut self, attributes: &[(&str, &str)]) {
        self.resource = Some(self.set(attributes));
    }

    /// Adds a number. The time is in nanoseconds since the Unix epoch.
    pub fn point(
        &mut self,
        name: &str,
        stream: Stream,
        attributes: &[(&str, &str)],
        time_unix_nano: u64,
        value: f64,
    ) {
        let name = self.symbol(name);
        let resource = match self.resource {
            Some(resource) => resource,
            None => self.set(&[]),
        };
        let attributes = self.set(attributes);
        self.streams
            .push([name, stream as u32, resource, attributes]);
        self.times.push(time_unix_nano);
        self.values.push(value);
    }

    /// The columns, for [`write_metrics`](super::write_metrics).
    pub fn finish(mut self) -> Metrics {
        let (none, no_unit) = (self.set(&[]), self.symbol(""));
        let points = self.values.len();
        let column = |at: usize| self.streams.iter().map(|stream| stream[at]).collect();
        Metrics {
            series: Series {
                names: column(0),
                units: vec![no_unit; points],
                kinds: self.streams.iter().map(|stream| stream[1] as u8).collect(),
                resources: column(2),
                scopes: vec![none; points],
                attributes: column(3),
            },
            numbers: Numbers {
                series: (0..points as u32).collect(),
                parts: vec![0; points],
                quantiles: vec![0.0; points],
                start_unix_nano: vec![0; points],
                time_unix_nano: self.times,
                values: self.values,
                stale: vec![0; points],
            },
            symbols: Symbols {
                bytes: self.bytes,
                ends: self.ends,
            },
            sets: AttributeSets {
                pairs: self.set_pairs,
                ends: self.set_ends,
            },
            histograms: no_histograms(),
        }
    }

    fn symbol(&mut self, text: &str) -> u32 {
        if let Some(symbol) = self.symbols.get(text) {
            return *symbol;
        }
        let symbol = self.ends.len() as u32;
        self.bytes.extend_from_slice(text.as_bytes());
        self.ends.push(self.bytes.len() as u32);
        self.symbols.insert(text.to_owned(), symbol);
        symbol
    }

    fn set(&mut self, attributes: &[(&str, &str)]) -> u32 {
        let pairs: Vec<u32> = attributes
            .iter()
            .flat_map(|(name, value)| [*name, *value])
            .map(|text| self.symbol(text))
            .collect();
        if let Some(set) = self.sets.get(&pairs) {
            return *set;
        }
        let set = self.set_ends.len() as u32;
        self.set_pairs.extend_from_slice(&pairs);
        self.set_ends.push(self.set_pairs.len() as u32 / 2);
        self.sets.insert(pairs, set);
        set
    }
}

fn no_histograms() -> Histograms {
    Histograms {
        series: Vec::new(),
        start_unix_nano: Vec::new(),
        time_unix_nano: Vec::new(),
        counts: Vec::new(),
        sums: Vec::new(),
        mins: Vec::new(),
        maxs: Vec::new(),
        scales: Vec::new(),
        zero_counts: Vec::new(),
        zero_thresholds: Vec::new(),
        positive_offsets: Vec::new(),
        positive_ends: Vec::new(),
        negative_offsets: Vec::new(),
        negative_ends: Vec::new(),
        bound_ends: Vec::new(),
        stale: Vec::new(),
        bucket_counts: Vec::new(),
        bounds: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_sets_are_kept_once() {
        let mut batch = Batch::new();
        for value in [1.0, 2.0] {
            batch.point("load", Stream::Counter, &[("host", "load")], 5, value);
        }
        let batch = batch.finish();
        assert_eq!(batch.symbols.bytes, b"loadhost");
        assert_eq!(batch.sets.ends, [0, 1]);
        assert_eq!(batch.series.kinds, [1, 1]);
        assert_eq!(batch.series.attributes, [1, 1]);
        assert_eq!(batch.numbers.values, [1.0, 2.0]);
    }
}
