//! Merges the series of several segments in the order of their labels, a batch at a time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use shoal_model::labels::Labels;
use shoal_model::telemetry::MetricKind;

use super::symbols::Symbols;
use super::{CompactError, Source};
use crate::read::{ReadError, SampleBudget};
use crate::segment::read::SegmentSeries;
use crate::segment::select::Run;
use crate::segment::series::SeriesEntry;
use crate::segment::write::{NumberedSeries, TenantWriter};
use crate::store::query::JoinedTimes;

/// How much is in memory at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchMax {
    /// Samples, but for those of the last series.
    pub(super) samples: u64,
    /// Series, counted in each source.
    pub(super) parts: usize,
}

impl BatchMax {
    /// 16 MB of samples, and as much again while they are encoded; about 200 bytes of each series. Fewer make the
    /// segment larger, because series that are alike lie side by side within a batch only.
    pub(super) const DEFAULT: BatchMax = BatchMax {
        samples: 1 << 20,
        parts: 1 << 17,
    };
}

/// Labels of a series, by rank.
type Key = Vec<u32>;

/// A series that is being put together.
struct Merged {
    key: Key,
    /// The sources that have it, ascending.
    parts: Vec<(usize, SeriesEntry)>,
}

/// Where the merge is in one source.
struct Cursor {
    next_page: usize,
    entries: std::vec::IntoIter<SeriesEntry>,
    /// The series that is waiting in the heap.
    waiting: Option<SeriesEntry>,
}

/// All series of the sources, by labels.
pub(super) struct Merge<'a> {
    sources: &'a [Source<'a>],
    symbols: &'a Symbols,
    max: BatchMax,
    cursors: Vec<Cursor>,
    heap: BinaryHeap<Reverse<(Key, usize)>>,
}

impl<'a> Merge<'a> {
    pub(super) fn new(
        sources: &'a [Source<'a>],
        symbols: &'a Symbols,
        max: BatchMax,
    ) -> Result<Merge<'a>, ReadError> {
        let cursor = |_| Cursor {
            next_page: 0,
            entries: Vec::new().into_iter(),
            waiting: None,
        };
        let mut merge = Merge {
            cursors: sources.iter().map(cursor).collect(),
            heap: BinaryHeap::new(),
            sources,
            symbols,
            max,
        };
        for source in 0..sources.len() {
            merge.advance(source)?;
        }
        Ok(merge)
    }

    /// Puts the next series of a source that has samples in the range into the heap.
    fn advance(&mut self, source: usize) -> Result<(), ReadError> {
        let Source { reader, samples } = &self.sources[source];
        let cursor = &mut self.cursors[source];
        loop {
            let Some(entry) = cursor.entries.next() else {
                if cursor.next_page == reader.index.table.len() {
                    return Ok(());
                }
                cursor.entries = reader.entries(cursor.next_page)?.into_iter();
                cursor.next_page += 1;
                continue;
            };
            if samples
                .get(entry.vector as usize)
                .is_none_or(|samples| *samples == 0)
            {
                continue;
            }
            let ranks = &self.symbols.ranks[source];
            let key = entry.labels.iter().map(|label| ranks[*label as usize]);
            self.heap.push(Reverse((key.collect(), source)));
            cursor.waiting = Some(entry);
            return Ok(());
        }
    }

    /// The next series, as many as a batch takes; none at the end.
    fn next_batch(&mut self) -> Result<Vec<Merged>, ReadError> {
        let mut batch: Vec<Merged> = Vec::new();
        let (mut samples, mut parts) = (0, 0);
        while let Some(Reverse((key, source))) = self.heap.pop() {
            let is_other = batch.last().is_none_or(|last| last.key != key);
            if is_other && (samples >= self.max.samples || parts >= self.max.parts) {
                self.heap.push(Reverse((key, source)));
                break;
            }
            let Some(entry) = self.cursors[source].waiting.take() else {
                continue;
            };
            self.advance(source)?;
            samples += u64::from(self.sources[source].samples[entry.vector as usize]);
            parts += 1;
            match batch.last_mut() {
                Some(last) if !is_other => last.parts.push((source, entry)),
                _ => batch.push(Merged {
                    key,
                    parts: vec![(source, entry)],
                }),
            }
        }
        Ok(batch)
    }

    /// Writes all series with their samples in a range.
    pub(super) fn write(
        mut self,
        range: (i64, i64),
        writer: &mut TenantWriter<'_>,
    ) -> Result<(), CompactError> {
        loop {
            let batch = self.next_batch()?;
            if batch.is_empty() {
                return Ok(());
            }
            let runs = self.read(&batch, range)?;
            let mut joined = JoinedTimes::default();
            let runs: Vec<Run> = runs.into_iter().map(|runs| joined.join(runs)).collect();
            let mut times = Vec::with_capacity(runs.len());
            let mut values = Vec::with_capacity(runs.len());
            for run in runs {
                times.push(run.times_ms);
                values.push(run.values);
            }
            let series = batch.iter().zip(times.iter().zip(values));
            let series = series.map(|(series, (times_ms, values))| {
                let (labels, metric, meta) = self.numbers(series);
                NumberedSeries {
                    labels,
                    metric,
                    meta,
                    times_ms,
                    values,
                }
            });
            writer.add(series.collect()).map_err(CompactError::Write)?;
        }
    }

    /// Numbers of labels, of the metric's name, and of kind and unit, in which the last source wins.
    fn numbers(&self, series: &Merged) -> (Vec<u32>, Option<u32>, u32) {
        let number = |rank: &u32| self.symbols.numbers[*rank as usize];
        let names = &self.symbols.metric_names;
        let name = series.key.iter().find(|rank| names.contains(rank));
        let meta = series.parts.last().map_or(0, |(source, entry)| {
            self.symbols.metas[*source][entry.meta as usize]
        });
        (
            series.key.iter().map(number).collect(),
            name.map(number),
            meta,
        )
    }

    /// The samples of each series, by source.
    fn read(&self, batch: &[Merged], range: (i64, i64)) -> Result<Vec<Vec<Run>>, ReadError> {
        let mut wanted: Vec<(Vec<usize>, Vec<SegmentSeries>)> = Vec::new();
        wanted.resize_with(self.sources.len(), Default::default);
        for (at, series) in batch.iter().enumerate() {
            for (source, entry) in &series.parts {
                let (places, series) = &mut wanted[*source];
                places.push(at);
                series.push(nameless(entry));
            }
        }
        let mut runs: Vec<Vec<Run>> = vec![Vec::new(); batch.len()];
        for (source, (places, series)) in self.sources.iter().zip(wanted) {
            let mut damage = None;
            let mut damaged = |error| {
                damage.get_or_insert(error);
            };
            let mut budget = SampleBudget {
                left: u64::MAX,
                max: u64::MAX,
            };
            let reader = &source.reader;
            let read = reader.samples(&series, range, &mut budget, &mut damaged)?;
            if let Some(error) = damage {
                return Err(error);
            }
            for (at, run) in places.into_iter().zip(read) {
                runs[at].push(run);
            }
        }
        Ok(runs)
    }
}

/// What reading samples needs of a series: its entry.
fn nameless(entry: &SeriesEntry) -> SegmentSeries {
    SegmentSeries {
        labels: Labels::default(),
        kind: MetricKind::Gauge,
        unit: Default::default(),
        entry: entry.clone(),
    }
}
