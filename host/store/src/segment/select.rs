//! Samples of chosen series: times decoded once for all that share them, values page by page.
//!
//! A page that cannot be read is reported and its samples are missing; everything else is returned.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use shoal_model::TenantId;

use super::Section;
use super::page::SegmentFile;
use super::pages::StreamReader;
use super::read::{SegmentSeries, TenantIndex, TenantReader, Vector};
use super::series::{Column, Place};
use super::stream::Start;
use crate::matcher::Matcher;
use crate::postings::matching;
use crate::read::{Damages, ReadError, SampleBudget, SelectedSeries, Selection};

/// One series' samples of one source; times are shared with other series that have the same.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Run {
    pub(crate) times_ms: Arc<[i64]>,
    pub(crate) values: Vec<f64>,
}

/// Reads a tenant's series of one segment that satisfy all matchers, with their samples in a range, outside of a store.
///
/// # Errors
/// When the segment's tables are damaged.
pub fn read_segment(
    path: &Path,
    tenant: TenantId,
    matchers: &[Matcher],
    range: (i64, i64),
) -> Result<Selection, ReadError> {
    let file = SegmentFile::open(path)?;
    let index = TenantIndex::load(&file, tenant)?;
    let reader = TenantReader::new(&file, &index);
    let mut damages = Damages::default();
    let mut damaged = |error| damages.note_damage(error);
    let series = reader.series(&matching(&reader, matchers)?, &mut damaged);
    let mut budget = SampleBudget {
        left: u64::MAX,
        max: u64::MAX,
    };
    let runs = reader.samples(&series, range, &mut budget, &mut damaged)?;
    let series = series
        .into_iter()
        .zip(runs)
        .map(|(series, run)| SelectedSeries {
            labels: series.labels,
            kind: series.kind,
            unit: series.unit,
            times_ms: run.times_ms,
            values: run.values,
        });
    Ok(Selection {
        series: series.filter(|series| !series.values.is_empty()).collect(),
        damages: damages.into_list(),
    })
}

/// The part of a time vector that lies in a range.
struct Times {
    /// Place of the first of them in the vector.
    begin: u32,
    times_ms: Arc<[i64]>,
    /// Places in the vector whose times cannot be read.
    lost: Lost,
}

/// Places of samples that cannot be read: from, to.
type Lost = Vec<(u32, u32)>;

impl TenantReader<'_> {
    /// The samples of series in a range, one run per series. What is damaged goes to `damaged` and is left out.
    ///
    /// # Errors
    /// `TooManySamples` when they are more than `budget` has.
    pub(crate) fn samples(
        &self,
        series: &[SegmentSeries],
        range: (i64, i64),
        budget: &mut SampleBudget,
        damaged: &mut dyn FnMut(ReadError),
    ) -> Result<Vec<Run>, ReadError> {
        let times = self.times(series, range, damaged);
        let mut runs: Vec<Run> = Vec::with_capacity(series.len());
        let mut wanted = Vec::with_capacity(series.len());
        for (at, series) in series.iter().enumerate() {
            let times = &times[&series.entry.vector];
            budget.take(times.times_ms.len())?;
            runs.push(Run {
                times_ms: times.times_ms.clone(),
                values: Vec::with_capacity(times.times_ms.len()),
            });
            if !times.times_ms.is_empty() {
                wanted.push((at, times));
            }
        }
        wanted.sort_by_key(|(at, _)| series[*at].entry.values.place.key());
        let mut reader = ColumnReader::new(self);
        reader.expect(wanted.iter().map(|(at, times)| {
            let end = times.begin + times.times_ms.len() as u32;
            (&series[*at].entry.values, times.begin, end)
        }));
        for (at, times) in wanted {
            let column = &series[at].entry.values;
            let run = &mut runs[at];
            let end = times.begin + times.times_ms.len() as u32;
            let mut lost = reader.read(column, (times.begin, end), &mut run.values, damaged);
            lost.extend_from_slice(&times.lost);
            if !lost.is_empty() {
                remove(run, times.begin, &lost);
            }
        }
        Ok(runs)
    }

    /// The time vectors of series, each decoded once.
    fn times(
        &self,
        series: &[SegmentSeries],
        range: (i64, i64),
        damaged: &mut dyn FnMut(ReadError),
    ) -> HashMap<u32, Times> {
        let mut wanted: Vec<u32> = series.iter().map(|series| series.entry.vector).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut reader = StreamReader::new(
            self.file,
            &self.index.times,
            (Section::Times.pages_name(), self.index.page_samples),
        );
        let vectors = &self.index.vectors;
        let places = wanted.iter().filter_map(|at| {
            let vector = vectors.get(*at as usize)?;
            let (begin, end) = self.places(vector, range);
            (begin < end).then_some((vector.start, begin, end))
        });
        reader.expect(places);
        let read = |at: u32| {
            let Some(vector) = vectors.get(at as usize) else {
                let section = Section::Vectors.name();
                damaged(
                    self.file
                        .damaged(section, 0, "a time vector is out of range"),
                );
                return (at, Times::none());
            };
            let places = self.places(vector, range);
            (
                at,
                read_times(&mut reader, vector, (places, range), damaged),
            )
        };
        wanted.into_iter().map(read).collect()
    }

    /// Where in a vector the pages begin and end that overlap a range.
    fn places(&self, vector: &Vector, (from_ms, to_ms): (i64, i64)) -> (u32, u32) {
        let page_samples = self.index.page_samples;
        let first = vector.firsts.partition_point(|first| *first <= from_ms);
        let last = vector.firsts.partition_point(|first| *first <= to_ms);
        let begin = first.saturating_sub(1) * page_samples;
        let end = (last * page_samples).min(vector.len as usize);
        (begin as u32, end as u32)
    }
}

impl Times {
    fn none() -> Times {
        Times {
            begin: 0,
            times_ms: Arc::default(),
            lost: Lost::new(),
        }
    }
}

fn read_times(
    reader: &mut StreamReader<'_, i64>,
    vector: &Vector,
    ((begin, end), (from_ms, to_ms)): ((u32, u32), (i64, i64)),
    damaged: &mut dyn FnMut(ReadError),
) -> Times {
    if begin >= end {
        return Times::none();
    }
    let mut times: Vec<i64> = Vec::new();
    let mut lost = Lost::new();
    let mut at = begin;
    for first in &vector.firsts[begin as usize / reader.page_samples()..] {
        if at >= end {
            break;
        }
        let until = reader.page_end(at, end);
        let read = reader.read(vector.start, (at, until), |page| {
            times.extend_from_slice(page)
        });
        if let Err(error) = read {
            damaged(error);
            lost.push((at, until));
            // Keeps the order, so that the others are found.
            times.resize((until - begin) as usize, *first);
        }
        at = until;
    }
    let from = times.partition_point(|time| *time < from_ms);
    let to = times.partition_point(|time| *time <= to_ms).max(from);
    Times {
        begin: begin + from as u32,
        times_ms: Arc::from(&times[from..to]),
        lost,
    }
}

/// Takes samples out of a run that begins at a place.
fn remove(run: &mut Run, begin: u32, lost: &Lost) {
    let is_lost = |at: usize| {
        let at = begin + at as u32;
        lost.iter().any(|(from, to)| (*from..*to).contains(&at))
    };
    let kept: Vec<usize> = (0..run.times_ms.len()).filter(|at| !is_lost(*at)).collect();
    run.times_ms = kept.iter().map(|at| run.times_ms[*at]).collect();
    run.values = kept.iter().map(|at| run.values[*at]).collect();
}

impl Place {
    /// Reading in this order decodes every page once.
    fn key(self) -> (u8, Start) {
        match self {
            Place::Constant(_) => (0, Start::default()),
            Place::Integers { start, .. } => (1, start),
            Place::Floats { start } => (2, start),
        }
    }
}

/// Reads columns of values.
struct ColumnReader<'a> {
    integers: StreamReader<'a, i64>,
    floats: StreamReader<'a, f64>,
}

impl<'a> ColumnReader<'a> {
    fn new(tenant: &TenantReader<'a>) -> ColumnReader<'a> {
        let (file, index) = (tenant.file, tenant.index);
        let name = |section: Section| (section.pages_name(), index.page_samples);
        ColumnReader {
            integers: StreamReader::new(file, &index.integers, name(Section::Integers)),
            floats: StreamReader::new(file, &index.floats, name(Section::Floats)),
        }
    }

    fn expect<'c>(&mut self, columns: impl Iterator<Item = (&'c Column, u32, u32)> + Clone) {
        self.integers.expect(columns.clone().filter_map(
            |(column, begin, end)| match column.place {
                Place::Integers { start, .. } => Some((start, begin, end)),
                _ => None,
            },
        ));
        self.floats.expect(
            columns.filter_map(|(column, begin, end)| match column.place {
                Place::Floats { start } => Some((start, begin, end)),
                _ => None,
            }),
        );
    }

    /// Appends the values at the places `begin..end` of a column; returns those that are lost, which are zeros.
    fn read(
        &mut self,
        column: &Column,
        (begin, end): (u32, u32),
        out: &mut Vec<f64>,
        damaged: &mut dyn FnMut(ReadError),
    ) -> Lost {
        let offset = out.len();
        let mut lost = Lost::new();
        let mut at = begin;
        while at < end {
            let (until, read) = match column.place {
                Place::Constant(bits) => {
                    out.resize(offset + (end - begin) as usize, f64::from_bits(bits));
                    (end, Ok(()))
                }
                Place::Integers { scale, start } => {
                    let until = self.integers.page_end(at, end);
                    let take = |steps: &[i64]| scale.extend_floats(steps, out);
                    (until, self.integers.read(start, (at, until), take))
                }
                Place::Floats { start } => {
                    let until = self.floats.page_end(at, end);
                    let take = |values: &[f64]| out.extend_from_slice(values);
                    (until, self.floats.read(start, (at, until), take))
                }
            };
            if let Err(error) = read {
                damaged(error);
                lost.push((at, until));
                out.resize(offset + (until - begin) as usize, 0.0);
            }
            at = until;
        }
        let from = column.patches.partition_point(|(at, _)| *at < begin);
        for (at, bits) in &column.patches[from..] {
            if *at >= end {
                break;
            }
            out[offset + (at - begin) as usize] = f64::from_bits(*bits);
        }
        lost
    }
}
