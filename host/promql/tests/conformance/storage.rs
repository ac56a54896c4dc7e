//! The series that a file has loaded.

use std::cell::Cell;
use std::collections::BTreeMap;

use shoal_model::labels::{Labels, METRIC_NAME};
use shoal_promql::{Matcher, SeriesData, SeriesSource, SourceError};

use crate::script::{Described, Sample};

#[derive(Default)]
pub(crate) struct Storage {
    series: BTreeMap<Labels, BTreeMap<i64, Sample>>,
    /// Whether a selection since the last look met native histograms.
    has_met_native: Cell<bool>,
}

impl Storage {
    pub(crate) fn load(&mut self, gap_ms: i64, with_native: bool, loaded: &[Described]) {
        for one in loaded {
            self.put(one.labels.clone(), gap_ms, &one.samples);
            if with_native {
                self.put_native(one, gap_ms);
            }
        }
    }

    fn put(&mut self, labels: Labels, gap_ms: i64, samples: &[Sample]) {
        let stored = self.series.entry(labels).or_default();
        for (index, sample) in samples.iter().enumerate() {
            if *sample != Sample::Absent {
                stored.insert(index as i64 * gap_ms, *sample);
            }
        }
    }

    /// Classic buckets are loaded as a native histogram too.
    fn put_native(&mut self, one: &Described, gap_ms: i64) {
        let name = one.labels.metric_name().unwrap_or_default();
        let endings = ["_bucket", "_sum", "_count"];
        let Some(base) = endings.iter().find_map(|ending| name.strip_suffix(ending)) else {
            return;
        };
        let labels = one.labels.with("le", "").with(METRIC_NAME, base);
        let samples: Vec<Sample> = one
            .samples
            .iter()
            .map(|sample| match sample {
                Sample::Absent => Sample::Absent,
                _ => Sample::Histogram,
            })
            .collect();
        self.put(labels, gap_ms, &samples);
    }

    pub(crate) fn take_met_native(&self) -> bool {
        self.has_met_native.replace(false)
    }
}

impl SeriesSource for Storage {
    fn select(
        &self,
        matchers: &[Matcher],
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<SeriesData>, SourceError> {
        let mut found = Vec::new();
        for (labels, samples) in &self.series {
            let is_match =
                |matcher: &Matcher| matcher.matches(labels.get(&matcher.name).unwrap_or_default());
            if from_ms > to_ms || !matchers.iter().all(is_match) {
                continue;
            }
            let mut data = SeriesData {
                labels: labels.clone(),
                ..SeriesData::default()
            };
            for (time_ms, sample) in samples.range(from_ms..=to_ms) {
                match sample {
                    Sample::Float(value) => {
                        data.times_ms.push(*time_ms);
                        data.values.push(*value);
                    }
                    _ => self.has_met_native.set(true),
                }
            }
            found.push(data);
        }
        Ok(found)
    }
}
