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
use crate::catalog::SegmentId;
use crate::head::HeadSeries;
use crate::head::columns::sort_last_wins;
use crate::matcher::Matcher;
use crate::postings::matching;
use crate::read::{MetricMetadata, ReadError, SelectedSeries, Selection};
use crate::segment::page::SegmentFile;
use crate::segment::read::{Run, SampleBudget, TenantReader};

/// Series whose samples are copied from the head under one lock, so that a large query does not keep commits waiting.
const HEAD_BATCH_SERIES: usize = 256;

/// A range of times, both ends included.
pub(crate) type Range = (i64, i64);

/// A series that is being put together.
struct Merged {
    labels: Labels,
    kind: MetricKind,
    unit: Arc<str>,
    times_ms: Vec<i64>,
    values: Vec<f64>,
}

impl Merged {
    /// Appends a later commit's samples.
    fn append(&mut self, (mut times, mut values): Run) {
        if self.times_ms.is_empty() {
            (self.times_ms, self.values) = (times, values);
        } else {
            self.times_ms.append(&mut times);
            self.values.append(&mut values);
        }
    }
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
        let mut head = self.select_head(tenant, matchers, range, &mut budget)?;
        let mut merged: HashMap<u128, Merged> = HashMap::new();
        for (id, file) in self.open_segments(tenant, range)? {
            let index = self.indexes.get(id, tenant, &file)?;
            let reader = TenantReader {
                file: &file,
                index: &index,
            };
            let series = reader.series(&matching(&reader, matchers)?)?;
            let runs = reader.samples(&series, range, &mut budget)?;
            for (series, run) in series.into_iter().zip(runs) {
                merge(
                    &mut merged,
                    series.labels.fingerprint(),
                    (series.labels, series.kind, series.unit),
                    run,
                );
            }
            check_series(merged.len(), limits.select_series_max)?;
        }
        for (series, run) in head.drain(..) {
            merge(
                &mut merged,
                series.fingerprint,
                (series.labels, series.kind, series.unit),
                run,
            );
        }
        check_series(merged.len(), limits.select_series_max)?;
        Ok(finish(merged))
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
                let run = head.read(series.series, range);
                budget.take(run.0.len())?;
                selected.push((series, run));
            }
        }
        Ok(selected)
    }

    /// Opens the segments in which the tenant has samples in the range, the ones that win last. Under the lock, so
    /// that retention does not delete one in between.
    fn open_segments(
        &self,
        tenant: TenantId,
        (from_ms, to_ms): Range,
    ) -> Result<Vec<(SegmentId, SegmentFile)>, ReadError> {
        let segments = self.segments.read();
        let wanted = segments.iter().filter(|segment| {
            segment.tenants.iter().any(|part| {
                part.tenant == tenant && part.min_time_ms <= to_ms && part.max_time_ms >= from_ms
            })
        });
        wanted
            .map(|segment| {
                let path = self.segment_folder.join(&segment.file_name);
                Ok((segment.id, SegmentFile::open(&path)?))
            })
            .collect()
    }

    pub(crate) fn series(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        range: Range,
    ) -> Result<Vec<Labels>, ReadError> {
        let max = self.limits(tenant).select_series_max;
        let mut found: HashMap<u128, Labels> = HashMap::new();
        for series in self.head_series(tenant, matchers, range) {
            found.insert(series.fingerprint, series.labels);
        }
        for (id, file) in self.open_segments(tenant, range)? {
            let index = self.indexes.get(id, tenant, &file)?;
            let reader = TenantReader {
                file: &file,
                index: &index,
            };
            for series in reader.series(&matching(&reader, matchers)?)? {
                found.insert(series.labels.fingerprint(), series.labels);
            }
            check_series(found.len(), max)?;
        }
        check_series(found.len(), max)?;
        let mut sorted: Vec<Labels> = found.into_values().collect();
        sorted.sort();
        Ok(sorted)
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
    ) -> Result<Vec<String>, ReadError> {
        let mut names: BTreeSet<String> = BTreeSet::new();
        let mut add = |labels: &Labels| {
            for label in labels {
                if !names.contains(&*label.name) {
                    names.insert(label.name.to_string());
                }
            }
        };
        if !matchers.is_empty() {
            self.series(tenant, matchers, range)?.iter().for_each(add);
            return Ok(names.into_iter().collect());
        }
        for series in self.head_series(tenant, matchers, range) {
            add(&series.labels);
        }
        for (id, file) in self.open_segments(tenant, range)? {
            let index = self.indexes.get(id, tenant, &file)?;
            let reader = TenantReader {
                file: &file,
                index: &index,
            };
            names.extend(reader.label_names()?);
        }
        Ok(names.into_iter().collect())
    }

    pub(crate) fn label_values(
        &self,
        tenant: TenantId,
        name: &str,
        matchers: &[Matcher],
        range: Range,
    ) -> Result<Vec<String>, ReadError> {
        let mut values: BTreeSet<String> = BTreeSet::new();
        let mut add = |labels: &Labels| {
            if let Some(value) = labels.get(name)
                && !values.contains(value)
            {
                values.insert(value.to_owned());
            }
        };
        if !matchers.is_empty() {
            self.series(tenant, matchers, range)?.iter().for_each(add);
            return Ok(values.into_iter().collect());
        }
        for series in self.head_series(tenant, matchers, range) {
            add(&series.labels);
        }
        for (id, file) in self.open_segments(tenant, range)? {
            let index = self.indexes.get(id, tenant, &file)?;
            let reader = TenantReader {
                file: &file,
                index: &index,
            };
            reader.each_value(name, &mut |value, _| {
                values.insert(value.to_owned());
                Ok(())
            })?;
        }
        Ok(values.into_iter().collect())
    }

    pub(crate) fn metadata(
        &self,
        tenant: TenantId,
    ) -> Result<BTreeMap<String, MetricMetadata>, ReadError> {
        // Before the segments are listed, entered after them: what is in the head is newer.
        let head = self
            .known_tenant(tenant)
            .map(|tenant| head_metadata(&tenant));
        let mut metrics = BTreeMap::new();
        for (id, file) in self.open_segments(tenant, (i64::MIN, i64::MAX))? {
            let index = self.indexes.get(id, tenant, &file)?;
            let reader = TenantReader {
                file: &file,
                index: &index,
            };
            metrics.extend(reader.metrics()?);
        }
        metrics.extend(head.unwrap_or_default());
        Ok(metrics)
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
    if run.0.is_empty() {
        return;
    }
    let series = merged.entry(fingerprint).or_insert_with(|| Merged {
        labels,
        kind,
        unit: unit.clone(),
        times_ms: Vec::new(),
        values: Vec::new(),
    });
    (series.kind, series.unit) = (kind, unit);
    series.append(run);
}

fn finish(merged: HashMap<u128, Merged>) -> Selection {
    let mut series: Vec<SelectedSeries> = merged
        .into_values()
        .map(|mut merged| {
            sort_last_wins(&mut merged.times_ms, &mut merged.values);
            SelectedSeries {
                labels: merged.labels,
                kind: merged.kind,
                unit: merged.unit,
                times_ms: merged.times_ms,
                values: merged.values,
            }
        })
        .collect();
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    Selection { series }
}
