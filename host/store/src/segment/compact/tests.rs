//! What is merged reads as its sources did, whatever lies where and however small the batches are.

use std::collections::BTreeMap;

use proptest::prelude::*;
use shoal_model::labels::Labels;
use shoal_model::telemetry::MetricKind;

use super::*;
use crate::matcher::{MatchOp, Matcher};
use crate::segment::SeriesInput;
use crate::segment::select::read_segment;
use crate::segment::stream::Density;

const TENANT: TenantId = TenantId(2);
const ALL: (i64, i64) = (i64::MIN, i64::MAX);

/// Labels, kind and unit, and samples by time.
type Content = BTreeMap<Labels, (MetricKind, String, BTreeMap<i64, u64>)>;

/// A sample: which series, when, and what.
type Sample = (usize, i64, u64);

/// Series whose names and values begin each other, and one without a name.
fn labels(series: usize) -> Labels {
    let value = ["a", "ab", "b", "a\u{ff}"][series / 4 % 4];
    match series % 4 {
        0 => Labels::from_pairs([("__name__", "m"), ("host", value)]),
        1 => Labels::from_pairs([("__name__", value), ("hostname", "a")]),
        2 => Labels::from_pairs([("__name__", "m"), ("hos", value), ("host", "a")]),
        _ => Labels::from_pairs([("host", value), ("hostname", value)]),
    }
}

/// What a batch of samples is as a segment of its own, the last of equal times winning.
fn content(samples: &[Sample], kind: MetricKind) -> Content {
    let mut content = Content::new();
    for (series, time, bits) in samples {
        let unit = || (kind, format!("unit-{}", kind as u8), BTreeMap::new());
        let (_, _, of_series) = content.entry(labels(*series)).or_insert_with(unit);
        of_series.insert(*time, *bits);
    }
    content
}

fn inputs(content: &Content) -> Vec<SeriesInput> {
    let series = content
        .iter()
        .map(|(labels, (kind, unit, samples))| SeriesInput {
            labels: labels.clone(),
            kind: *kind,
            unit: (**unit).into(),
            times_ms: samples.keys().copied().collect(),
            values: samples.values().copied().map(f64::from_bits).collect(),
        });
    series.collect()
}

/// The samples of all in a range, of which later ones win.
fn united(all: &[Content], (from_ms, to_ms): (i64, i64)) -> Content {
    let mut united = Content::new();
    for content in all {
        for (labels, (kind, unit, samples)) in content {
            let within: BTreeMap<i64, u64> = samples
                .range(from_ms..=to_ms)
                .map(|(t, v)| (*t, *v))
                .collect();
            if within.is_empty() {
                continue;
            }
            let into = united
                .entry(labels.clone())
                .or_insert_with(|| (*kind, unit.clone(), BTreeMap::new()));
            (into.0, into.1) = (*kind, unit.clone());
            into.2.extend(within);
        }
    }
    united
}

fn read(path: &Path, matchers: &[Matcher]) -> Content {
    let selection = read_segment(path, TENANT, matchers, ALL).expect("it is whole");
    assert_eq!(selection.damages, []);
    let series: Vec<_> = selection
        .series
        .iter()
        .map(|series| series.labels.clone())
        .collect();
    assert!(
        series.is_sorted(),
        "series lie in the order of their labels"
    );
    let series = selection.series.into_iter().map(|series| {
        let samples = series.times_ms.iter().copied();
        let samples = samples.zip(series.values.iter().map(|value| value.to_bits()));
        let unit = series.unit.to_string();
        (series.labels, (series.kind, unit, samples.collect()))
    });
    series.collect()
}

/// Writes each content as a segment, and returns their files.
fn sources(folder: &Path, contents: &[Content]) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for (id, content) in (0..).zip(contents) {
        let density = Density {
            page_samples: 4,
            level: 4,
        };
        let mut writer = SegmentWriter::create(folder, SegmentId(id), density).expect("room");
        writer.add_tenant(TENANT, inputs(content)).expect("room");
        let written = writer.finish((id, id + 1)).expect("room");
        paths.push(folder.join(written.record.file_name));
    }
    paths
}

/// Merges segments; `None` when there is nothing in the range.
fn merged(folder: &Path, paths: &[PathBuf], range: (i64, i64), max: BatchMax) -> Option<Written> {
    let files: Vec<_> = paths
        .iter()
        .map(|path| SegmentFile::open(path).expect("it is there"))
        .collect();
    let files: Vec<_> = files.iter().collect();
    let mut writer =
        SegmentWriter::create(folder, SegmentId(999), Density::COMPACTED).expect("room");
    merge_tenant(&mut writer, TENANT, &files, range, max).expect("the sources are whole");
    let written = writer.finish((0, paths.len() as u64)).expect("room");
    (!written.record.tenants.is_empty()).then_some(written)
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let value = prop_oneof![
        (0..50u32).prop_map(|value| f64::from(value).to_bits()),
        any::<u64>(),
    ];
    prop::collection::vec((0..16usize, 0..60i64, value), 1..120)
}

fn kind() -> impl Strategy<Value = MetricKind> {
    prop_oneof![Just(MetricKind::Gauge), Just(MetricKind::Counter)]
}

proptest! {
    #[test]
    fn a_merge_reads_as_its_sources_did(
        batches in prop::collection::vec((samples(), kind()), 1..6),
        (from_ms, to_ms) in prop_oneof![Just(ALL), (-5..60i64, 0..40i64).prop_map(|(at, len)| (at, at + len))],
        (batch_samples, parts) in (1..200u64, 1..40usize),
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let contents: Vec<_> =
            batches.iter().map(|(samples, kind)| content(samples, *kind)).collect();
        let paths = sources(folder.path(), &contents);
        let max = BatchMax { samples: batch_samples, parts };
        let written = merged(folder.path(), &paths, (from_ms, to_ms), max);
        let wanted = united(&contents, (from_ms, to_ms));
        let Some(written) = written else {
            prop_assert!(wanted.is_empty());
            return Ok(());
        };
        let record = written.record;
        let path = folder.path().join(&record.file_name);
        let times = || wanted.values().flat_map(|(_, _, samples)| samples.keys().copied());
        prop_assert_eq!(record.samples, times().count() as u64);
        prop_assert_eq!(record.series, wanted.len() as u64);
        prop_assert_eq!(Some(record.min_time_ms), times().min());
        prop_assert_eq!(Some(record.max_time_ms), times().max());
        prop_assert_eq!(&read(&path, &[]), &wanted);
        for (name, value) in [("__name__", "m"), ("host", "a"), ("hos", "ab"), ("hostname", "b")] {
            let matcher = Matcher::new(name, MatchOp::Equal, value).expect("it is good");
            let mut matching = wanted.clone();
            matching.retain(|labels, _| labels.get(name) == Some(value));
            prop_assert_eq!(read(&path, &[matcher]), matching);
        }
        let mut checked = crate::segment::verify::Checked::default();
        crate::segment::verify::check_segment(&path, &mut checked);
        prop_assert_eq!((checked.samples, checked.damages), (record.samples, Vec::new()));
    }
}

#[test]
fn only_labels_of_series_that_are_left_are_known() {
    let folder = tempfile::tempdir().expect("a folder");
    let contents = [content(&[(0, 10, 1), (4, 50, 2)], MetricKind::Gauge)];
    let paths = sources(folder.path(), &contents);
    let written = merged(folder.path(), &paths, (40, 60), BatchMax::DEFAULT).expect("one sample");
    let file = SegmentFile::open(&folder.path().join(written.record.file_name)).expect("there");
    let index = TenantIndex::load(&file, TENANT).expect("whole");
    let mut values = Vec::new();
    let reader = TenantReader::new(&file, &index);
    let read = reader.each_value("host", |value, _| {
        values.push(value.to_owned());
        Ok(())
    });
    read.expect("whole");
    assert_eq!(values, ["ab"]);
}

#[test]
fn equal_time_vectors_of_different_batches_are_stored_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let samples = (0..16).flat_map(|series| (0..50).map(move |time| (series, time, time as u64)));
    let contents = [content(&samples.collect::<Vec<_>>(), MetricKind::Gauge)];
    let paths = sources(folder.path(), &contents);
    let max = BatchMax {
        samples: 1,
        parts: 1,
    };
    let written = merged(folder.path(), &paths, ALL, max).expect("samples");
    let file = SegmentFile::open(&folder.path().join(written.record.file_name)).expect("there");
    let index = TenantIndex::load(&file, TENANT).expect("whole");
    assert_eq!((index.series, index.vectors.len()), (16, 1));
}

#[test]
fn a_damaged_source_is_refused_and_every_tenant_stays_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let contents = [
        content(&[(0, 1, 10), (0, 2, 11)], MetricKind::Gauge),
        content(&[(0, 2, 20), (1, 5, 21)], MetricKind::Gauge),
    ];
    let mut paths = Vec::new();
    for (id, content) in (0..).zip(&contents) {
        let mut writer =
            SegmentWriter::create(folder.path(), SegmentId(id), Density::YOUNG).expect("room");
        for tenant in [TENANT, TenantId(7)] {
            writer.add_tenant(tenant, inputs(content)).expect("room");
        }
        let written = writer.finish((id, id + 1)).expect("room");
        paths.push(folder.path().join(written.record.file_name));
    }
    let written = compact_segments(folder.path(), SegmentId(9), &paths, (0, 2)).expect("whole");
    assert_eq!((written.record.samples, written.record.series), (6, 4));
    assert_eq!(written.record.tenants.len(), 2);
    let path = folder.path().join(&written.record.file_name);
    assert_eq!(read(&path, &[]), united(&contents, ALL));

    let mut bytes = std::fs::read(&paths[0]).expect("it is there");
    // Beyond the beginning lies the page of times.
    bytes[14] ^= 1;
    std::fs::write(&paths[0], bytes).expect("room");
    let refused = compact_segments(folder.path(), SegmentId(10), &paths, (0, 2));
    assert!(matches!(
        refused,
        Err(CompactError::Read(ReadError::Damaged(_)))
    ));
}
