//! Reads over the head and the segments.
//!
//! The head is read first, the list of segments after it. A flush publishes its segment before the head forgets its
//! copy, so every sample is seen at least once; what is seen twice is merged.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use shoal_model::TenantId;
use shoal_model::labels::Labels;
use shoal_model::telemetry::MetricKind;

use super::shared::{Shared, Tenant};
use crate::catalog::SegmentRecord;
use crate::head::HeadSeries;
use crate::head::columns::sort_last_wins;
use crate::matcher::Matcher;
use crate::postings::matching;
use crate::read::{
    Damages, Found, MetricMetadata, ReadError, SampleBudget, SelectedSeries, Selection,
};
use crate::segment::page::SegmentFile;
use crate::segment::read::TenantReader;
use crate::segment::select::Run;

/// Series whose samples are copied from the head under one lock, so that a large query does not keep commits waiting.
const HEAD_BATCH_SERIES: usize = 256;

/// A range of times, both ends included.
pub(crate) type Range = (i64, i64);

/// A series that is being put together.
struct Merged {
    labels: Labels,
    kind: MetricKind,
    unit: Arc<str>,
    /// In the order of their commits.
    runs: Vec<Run>,
}

impl Shared {
    pub(crate) fn select(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        range: Range,
    ) -> Result<Selection, ReadError> {
        let limits = self.limits(tenant);
        let mut budget = SampleBudget {
            left: limits.select_samples_max,
            max: limits.select_samples_max,
        };
        let head = self.select_head(tenant, matchers, range, &mut budget)?;
        let mut merged: HashMap<u128, Merged> = HashMap::new();
        let damages = self.each_segment(tenant, range, &mut |reader, damages| {
            let numbers = matching(reader, matchers)?;
            let mut damaged = |error| damages.note_damage(error);
            let series = reader.series(&numbers, &mut damaged);
            let runs = reader.samples(&series, range, &mut budget, &mut damaged)?;
            for (series, run) in series.into_iter().zip(runs) {
                let fingerprint = series.labels.fingerprint();
                let described = (series.labels, series.kind, series.unit);
                merge(&mut merged, fingerprint, described, run);
            }
            check_series(merged.len(), limits.select_series_max)
        })?;
        for (series, run) in head {
            let described = (series.labels, series.kind, series.unit);
            merge(&mut merged, series.fingerprint, described, run);
        }
        check_series(merged.len(), limits.select_series_max)?;
        Ok(Selection {
            series: finish(merged),
            damages: damages.into_list(),
        })
    }

    fn select_head(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        range: Range,
        budget: &mut SampleBudget,
    ) -> Result<Vec<(HeadSeries, Run)>, ReadError> {
        let Some(tenant) = self.known_tenant(tenant) else {
            return Ok(Vec::new());
        };
        let found = tenant.head.read().matching(matchers, range);
        let mut selected = Vec::with_capacity(found.len());
        let mut found = found.into_iter().peekable();
        while found.peek().is_some() {
            let head = tenant.head.read();
            for series in found.by_ref().take(HEAD_BATCH_SERIES) {
                let (times_ms, values) = head.read(series.series, range);
                budget.take(values.len())?;
                let times_ms = Arc::from(times_ms);
                selected.push((series, Run { times_ms, values }));
            }
        }
        Ok(selected)
    }

    /// Reads the segments in which the tenant has samples in the range, the ones that win last. What is damaged is
    /// returned; only limits end the read.
    fn each_segment(
        &self,
        tenant: TenantId,
        range: Range,
        read: &mut dyn FnMut(&TenantReader<'_>, &mut Damages) -> Result<(), ReadError>,
    ) -> Result<Damages, ReadError> {
        let mut damages = Damages::default();
        for (segment, file) in self.open_segments(tenant, range) {
            let outcome = file.and_then(|file| {
                let index = self.indexes.get(segment.id, tenant, &file)?;
                read(&TenantReader::new(&file, &index), &mut damages)
            });
            if let Err(error) = outcome {
                damages.note(error)?;
            }
        }
        Ok(damages)
    }

    /// Opens the segments that overlap the range. Under the lock, so that retention does not delete one in between.
    fn open_segments(
        &self,
        tenant: TenantId,
        (from_ms, to_ms): Range,
    ) -> Vec<(Arc<SegmentRecord>, Result<SegmentFile, ReadError>)> {
        let segments = self.segments.read();
        let wanted = segments.iter().filter(|segment| {
            segment.tenants.iter().any(|part| {
                part.tenant == tenant && part.min_time_ms <= to_ms && part.max_time_ms >= from_ms
            })
        });
        wanted
            .map(|segment| {
                let path = self.segment_folder.join(&segment.file_name);
                (segment.clone(), SegmentFile::open(&path))
            })
            .collect()
    }

    pub(crate) fn series(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        range: Range,
    ) -> Result<Found<Vec<Labels>>, ReadError> {
        let max = self.limits(tenant).select_series_max;
        let mut found: HashMap<u128, Labels> = HashMap::new();
        for series in self.head_series(tenant, matchers, range) {
            found.insert(series.fingerprint, series.labels);
        }
        let damages = self.each_segment(tenant, range, &mut |reader, damages| {
            let numbers = matching(reader, matchers)?;
            for series in reader.series(&numbers, &mut |error| damages.note_damage(error)) {
                found.insert(series.labels.fingerprint(), series.labels);
            }
            check_series(found.len(), max)
        })?;
        check_series(found.len(), max)?;
        let mut sorted: Vec<Labels> = found.into_values().collect();
        sorted.sort();
        Ok(Found {
            found: sorted,
            damages: damages.into_list(),
        })
    }

    fn head_series(&self, tenant: TenantId, matchers: &[Matcher], range: Range) -> Vec<HeadSeries> {
        match self.known_tenant(tenant) {
            Some(tenant) => tenant.head.read().matching(matchers, range),
            None => Vec::new(),
        }
    }

    pub(crate) fn label_names(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        range: Range,
    ) -> Result<Found<Vec<String>>, ReadError> {
        let mut names: BTreeSet<String> = BTreeSet::new();
        let mut add = |labels: &Labels| {
            for label in labels {
                if !names.contains(&*label.name) {
                    names.insert(label.name.to_string());
                }
            }
        };
        if !matchers.is_empty() {
            let series = self.series(tenant, matchers, range)?;
            series.found.iter().for_each(add);
            return Ok(Found {
                found: names.into_iter().collect(),
                damages: series.damages,
            });
        }
        for series in self.head_series(tenant, matchers, range) {
            add(&series.labels);
        }
        let damages = self.each_segment(tenant, range, &mut |reader, _| {
            names.extend(reader.label_names()?);
            Ok(())
        })?;
        Ok(Found {
            found: names.into_iter().collect(),
            damages: damages.into_list(),
        })
    }

    pub(crate) fn label_values(
        &self,
        tenant: TenantId,
        name: &str,
        matchers: &[Matcher],
        range: Range,
    ) -> Result<Found<Vec<String>>, ReadError> {
        let mut values: BTreeSet<String> = BTreeSet::new();
        let mut add = |labels: &Labels| {
            if let Some(value) = labels.get(name)
                && !values.contains(value)
            {
                values.insert(value.to_owned());
            }
        };
        if !matchers.is_empty() {
            let series = self.series(tenant, matchers, range)?;
            series.found.iter().for_each(add);
            return Ok(Found {
                found: values.into_iter().collect(),
                damages: series.damages,
            });
        }
        for series in self.head_series(tenant, matchers, range) {
            add(&series.labels);
        }
        let damages = self.each_segment(tenant, range, &mut |reader, _| {
            reader.each_value(name, |value, _| {
                values.insert(value.to_owned());
                Ok(())
            })
        })?;
        Ok(Found {
            found: values.into_iter().collect(),
            damages: damages.into_list(),
        })
    }

    pub(crate) fn metadata(
        &self,
        tenant: TenantId,
    ) -> Result<Found<BTreeMap<String, MetricMetadata>>, ReadError> {
        // Before the segments are listed, entered after them: what is in the head is newer.
        let head = self
            .known_tenant(tenant)
            .map(|tenant| head_metadata(&tenant));
        let mut metrics = BTreeMap::new();
        let damages = self.each_segment(tenant, (i64::MIN, i64::MAX), &mut |reader, _| {
            metrics.extend(reader.metrics()?);
            Ok(())
        })?;
        metrics.extend(head.unwrap_or_default());
        Ok(Found {
            found: metrics,
            damages: damages.into_list(),
        })
    }
}

fn head_metadata(tenant: &Tenant) -> BTreeMap<String, MetricMetadata> {
    let mut metrics = BTreeMap::new();
    for entry in tenant.head.read().entries() {
        let name = entry.labels.metric_name().unwrap_or_default();
        if !metrics.contains_key(name) {
            let (kind, unit) = (entry.kind, entry.unit.clone());
            metrics.insert(name.to_owned(), MetricMetadata { kind, unit });
        }
    }
    metrics
}

fn check_series(series: usize, max: u64) -> Result<(), ReadError> {
    if series as u64 > max {
        return Err(ReadError::TooManySeries { max });
    }
    Ok(())
}

fn merge(
    merged: &mut HashMap<u128, Merged>,
    fingerprint: u128,
    (labels, kind, unit): (Labels, MetricKind, Arc<str>),
    run: Run,
) {
    if run.values.is_empty() {
        return;
    }
    let series = merged.entry(fingerprint).or_insert_with(|| Merged {
        labels,
        kind,
        unit: unit.clone(),
        runs: Vec::new(),
    });
    (series.kind, series.unit) = (kind, unit);
    series.runs.push(run);
}

fn finish(merged: HashMap<u128, Merged>) -> Vec<SelectedSeries> {
    let mut joined = JoinedTimes::default();
    let mut series: Vec<SelectedSeries> = merged
        .into_values()
        .map(|merged| {
            let run = joined.join(merged.runs);
            SelectedSeries {
                labels: merged.labels,
                kind: merged.kind,
                unit: merged.unit,
                times_ms: run.times_ms,
                values: run.values,
            }
        })
        .collect();
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    series
}

/// Joins the runs of series. Series whose runs share their times share the joined ones.
#[derive(Default)]
pub(crate) struct JoinedTimes {
    /// By the addresses of the parts.
    known: HashMap<Vec<usize>, Joined>,
}

struct Joined {
    times_ms: Arc<[i64]>,
    /// Kept, so that no address is used twice.
    _parts: Vec<Arc<[i64]>>,
}

impl JoinedTimes {
    pub(crate) fn join(&mut self, mut runs: Vec<Run>) -> Run {
        if runs.len() == 1
            && let Some(run) = runs.pop()
        {
            return run;
        }
        let mut values = Vec::with_capacity(runs.iter().map(|run| run.values.len()).sum());
        let mut times = Vec::with_capacity(runs.len());
        for mut run in runs {
            values.append(&mut run.values);
            times.push(run.times_ms);
        }
        let is_in_order = |pair: &[Arc<[i64]>]| pair[0].last() < pair[1].first();
        if times.windows(2).all(is_in_order) {
            let addresses = times.iter().map(|times| times.as_ptr().addr()).collect();
            let joined = self.known.entry(addresses).or_insert_with(|| {
                let joined = times.iter().flat_map(|times| times.iter().copied());
                Joined {
                    times_ms: joined.collect(),
                    _parts: times,
                }
            });
            return Run {
                times_ms: joined.times_ms.clone(),
                values,
            };
        }
        let mut times = times.concat();
        sort_last_wins(&mut times, &mut values);
        Run {
            times_ms: Arc::from(times),
            values,
        }
    }
}
