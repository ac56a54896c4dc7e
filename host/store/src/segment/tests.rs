//! Segments by themselves: everything comes back bit by bit, and no damage goes unnoticed.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use shoal_model::TenantId;
use shoal_model::labels::Labels;
use shoal_model::telemetry::MetricKind;

use super::SeriesInput;
use super::page::{ChecksumUse, SegmentFile};
use super::read::{SegmentSeries, TenantIndex, TenantReader};
use super::select::Run;
use super::stream::Density;
use super::verify::{Checked, check_file};
use super::write::SegmentWriter;
use crate::append::STALE_NAN_BITS;
use crate::catalog::{SegmentId, SegmentRecord};
use crate::matcher::Matcher;
use crate::postings::matching;
use crate::read::{Damage, Damages, MetricMetadata, ReadError, SampleBudget};

const ALL_TIMES: (i64, i64) = (i64::MIN, i64::MAX);

pub(super) fn input(
    name: &str,
    instance: usize,
    samples: impl Iterator<Item = (i64, f64)>,
) -> SeriesInput {
    let (times_ms, values) = samples.unzip();
    SeriesInput {
        labels: Labels::from_pairs([
            ("__name__", name),
            ("instance", &format!("host-{instance}")),
        ]),
        kind: MetricKind::Gauge,
        unit: "By".into(),
        times_ms,
        values,
    }
}

pub(super) fn write(folder: &Path, tenants: &[(TenantId, Vec<SeriesInput>)]) -> SegmentRecord {
    write_densely(folder, tenants, Density::YOUNG)
}

fn write_densely(
    folder: &Path,
    tenants: &[(TenantId, Vec<SeriesInput>)],
    density: Density,
) -> SegmentRecord {
    let mut writer =
        SegmentWriter::create(folder, SegmentId(7), density).expect("a folder to write in");
    for (tenant, series) in tenants {
        writer
            .add_tenant(*tenant, series.clone())
            .expect("a disk with room");
    }
    writer.finish((3, 9)).expect("a disk with room").record
}

fn in_memory(bytes: &[u8]) -> SegmentFile {
    SegmentFile::in_memory("it", bytes.to_vec(), ChecksumUse::Check)
}

/// Everything that can be read of a tenant.
#[derive(Debug, PartialEq)]
struct Everything {
    series: Vec<(Labels, MetricKind, String)>,
    samples: Vec<(Vec<i64>, Vec<u64>)>,
    metrics: Vec<(String, MetricMetadata)>,
    label_names: Vec<String>,
    series_by_label: Vec<u32>,
}

/// Reads it; what was damaged, beside what was not.
fn read_all(file: &SegmentFile, tenant: TenantId) -> Result<(Everything, Vec<Damage>), ReadError> {
    let index = TenantIndex::load(file, tenant)?;
    let reader = TenantReader::new(file, &index);
    let mut damages = Damages::default();
    let mut damaged = |error| damages.note_damage(error);
    let all = matching(&reader, &[])?;
    let series = reader.series(&all, &mut damaged);
    let runs = reader.samples(&series, ALL_TIMES, &mut budget(), &mut damaged)?;
    let mut series_by_label = Vec::new();
    for name in reader.label_names()? {
        let any = Matcher::new(&*name, crate::matcher::MatchOp::Regex, ".+").expect("it is good");
        series_by_label.extend(matching(&reader, &[any])?);
    }
    let everything = Everything {
        series: series.iter().map(described).collect(),
        samples: runs.into_iter().map(bits).collect(),
        metrics: reader.metrics()?,
        label_names: reader.label_names()?,
        series_by_label,
    };
    Ok((everything, damages.into_list()))
}

fn described(series: &SegmentSeries) -> (Labels, MetricKind, String) {
    (series.labels.clone(), series.kind, series.unit.to_string())
}

fn bits(run: Run) -> (Vec<i64>, Vec<u64>) {
    let values = run.values.into_iter().map(f64::to_bits);
    (run.times_ms.to_vec(), values.collect())
}

fn budget() -> SampleBudget {
    SampleBudget {
        left: 1 << 40,
        max: 1 << 40,
    }
}

/// A bit of everything: shared and own times, constants, counters, decimals, floats, stale markers.
fn samples_of_every_sort() -> Vec<SeriesInput> {
    let times = |n: usize| (0..n).map(|at| 1_700_000_000_000 + 15_000 * at as i64);
    let stale = f64::from_bits(STALE_NAN_BITS);
    let mut series = Vec::new();
    for instance in 0..3 {
        let n = 30 + instance;
        let at = |f: fn(usize) -> f64| times(n).zip((0..n).map(f));
        series.push(input("constant", instance, at(|_| 0.1)));
        series.push(input("counter", instance, at(|at| 17.0 * at as f64)));
        series.push(input(
            "decimal",
            instance,
            at(|at| (at * 37 % 101) as f64 / 100.0),
        ));
        series.push(input("float", instance, at(|at| (at as f64).sqrt())));
    }
    let ending = times(20).zip((0..20).map(|at| if at < 19 { f64::from(at) } else { stale }));
    series.push(input("ending", 0, ending));
    series
}

/// Whether all samples that were read were written: of the same series, at the same time, with the same bits.
fn is_part_of(read: &Everything, written: &Everything) -> bool {
    let of = |everything: &Everything| -> Vec<_> {
        let series = everything.series.iter().cloned();
        series.zip(everything.samples.iter().cloned()).collect()
    };
    let written: std::collections::HashMap<_, _> = of(written)
        .into_iter()
        .map(|((labels, _, _), samples)| (labels, samples))
        .collect();
    of(read)
        .into_iter()
        .all(|((labels, _, _), (times, values))| {
            written.get(&labels).is_some_and(|(all_times, all_values)| {
                times.iter().zip(&values).all(|(time, value)| {
                    let at = all_times.binary_search(time);
                    at.is_ok_and(|at| all_values[at] == *value)
                })
            })
        })
}

#[test]
fn every_flipped_byte_is_noticed_its_place_named_and_the_rest_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let tenants = [TenantId(1), TenantId(2)];
    let record = write(
        folder.path(),
        &tenants.map(|tenant| (tenant, samples_of_every_sort())),
    );
    let good = fs::read(folder.path().join(&record.file_name)).expect("the segment");
    let read = |bytes: &[u8], tenant| read_all(&in_memory(bytes), tenant);
    let wanted = tenants.map(|tenant| read(&good, tenant).expect("it is whole").0);
    let mut partial = 0;
    for at in 0..good.len() {
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (at % 8);
        let mut damages = Vec::new();
        for (tenant, wanted) in tenants.iter().zip(&wanted) {
            match read(&flipped, *tenant) {
                Ok((found, damaged)) if damaged.is_empty() => {
                    assert!(found == *wanted, "byte {at} changed what is read");
                }
                Ok((found, damaged)) => {
                    assert!(is_part_of(&found, wanted), "byte {at} changed what is read");
                    damages.extend(damaged);
                    partial += 1;
                }
                Err(error) => damages.push(error.into_damage().expect("no limit")),
            }
        }
        assert!(!damages.is_empty(), "byte {at} was not noticed");
        for damage in damages {
            assert!(
                damage.offset <= at as u64,
                "byte {at} was noticed as {damage}"
            );
        }
    }
    assert!(
        partial > good.len() / 4,
        "the rest was read {partial} times"
    );
}

/// What a checksum would catch, and what no checksum can: bytes that were written wrongly.
#[test]
fn no_flipped_byte_panics_even_when_its_checksum_is_right() {
    let folder = tempfile::tempdir().expect("a folder");
    let record = write(folder.path(), &[(TenantId(1), samples_of_every_sort())]);
    let good = fs::read(folder.path().join(&record.file_name)).expect("the segment");
    for at in 0..good.len() {
        for flip in [1, 0x80, 0xff] {
            let mut flipped = good.clone();
            flipped[at] ^= flip;
            let mut checked = Checked::default();
            let file = SegmentFile::in_memory("it", flipped, ChecksumUse::Ignore);
            check_file(&file, &mut checked);
            assert!(checked.samples <= 2 * record.samples + 1024, "byte {at}");
        }
    }
}

#[test]
fn a_segment_cut_short_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let record = write(folder.path(), &[(TenantId(1), samples_of_every_sort())]);
    let good = fs::read(folder.path().join(&record.file_name)).expect("the segment");
    for len in 0..good.len() {
        let file = in_memory(&good[..len]);
        assert!(matches!(
            read_all(&file, TenantId(1)),
            Err(ReadError::Damaged(_))
        ));
    }
}

#[test]
fn the_record_of_a_segment_describes_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let record = write(
        folder.path(),
        &[
            (
                TenantId(1),
                vec![input("a", 0, [(5, 1.0), (9, 2.0)].into_iter())],
            ),
            (TenantId(4), vec![input("a", 0, [(7, 1.0)].into_iter())]),
        ],
    );
    assert_eq!((record.first_sequence, record.end_sequence), (3, 9));
    assert_eq!((record.min_time_ms, record.max_time_ms), (5, 9));
    assert_eq!((record.samples, record.series), (3, 2));
    assert_eq!(record.tenants.len(), 2);
    assert_eq!(record.tenants[1].tenant, TenantId(4));
    assert_eq!(record.tenants[1].min_time_ms, 7);
    let len = fs::metadata(folder.path().join(&record.file_name))
        .expect("the file")
        .len();
    assert_eq!(record.bytes, len);
    let file = SegmentFile::open(&folder.path().join(&record.file_name)).expect("it is there");
    match read_all(&file, TenantId(9)) {
        Err(ReadError::Damaged(damage)) => assert_eq!(damage.section, "directory"),
        other => panic!("a tenant that is not there: {other:?}"),
    }
}

/// Series that alone would need tables of their own share chunks, and equal times are stored once.
#[test]
fn many_short_series_take_few_bytes_a_sample() {
    let folder = tempfile::tempdir().expect("a folder");
    let samples = |instance: usize| {
        (0..120).map(move |at| {
            let time = 1_700_000_000_000 + 15_000 * at as i64;
            (time, (at * (instance % 50) + instance * 1000) as f64)
        })
    };
    let series = (0..2000).map(|instance| input("counter", instance, samples(instance)));
    let record = write(folder.path(), &[(TenantId(1), series.collect())]);
    let bytes_per_sample = record.bytes as f64 / record.samples as f64;
    assert!(bytes_per_sample < 1.0, "{bytes_per_sample} bytes a sample");
}

/// Values of the sorts that choose between codings.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        (0i32..1000).prop_map(f64::from),
        (0i32..100_000).prop_map(|n| f64::from(n) / 100.0),
        any::<u64>().prop_map(f64::from_bits),
        Just(f64::from_bits(STALE_NAN_BITS)),
        Just(-0.0),
        Just(9_007_199_254_740_993.0),
    ]
}

fn series_values() -> impl Strategy<Value = Vec<f64>> {
    prop_oneof![
        (value(), 1usize..50).prop_map(|(value, n)| vec![value; n]),
        prop::collection::vec((0i32..50).prop_map(f64::from), 1..3000),
        prop::collection::vec(value(), 1..200),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_values_come_back_bit_by_bit(
        all in prop::collection::vec((series_values(), 1i64..100_000), 1..20),
        from in -10i64..3_000_000,
        len in 0i64..3_000_000,
        page_samples in prop_oneof![Just(360), Just(1024), 1usize..9],
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut series = Vec::new();
        for (instance, (values, step)) in all.iter().enumerate() {
            let times = (0..).map(|at| at * step);
            series.push(input("any", instance, times.zip(values.iter().copied())));
        }
        let density = Density { page_samples, level: 4 };
        let record = write_densely(folder.path(), &[(TenantId(1), series.clone())], density);
        let file = SegmentFile::open(&folder.path().join(&record.file_name)).expect("it is there");
        let index = TenantIndex::load(&file, TenantId(1)).expect("it is whole");
        let reader = TenantReader::new(&file, &index);
        let range = (from, from + len);
        let mut damaged = |error| panic!("{error}");
        let found = reader.series(&matching(&reader, &[]).expect("whole"), &mut damaged);
        let runs = reader
            .samples(&found, range, &mut budget(), &mut damaged)
            .expect("no limit");
        prop_assert_eq!(found.len(), series.len());
        for (found, run) in found.iter().zip(runs) {
            let input = series.iter().find(|input| input.labels == found.labels).expect("written");
            let wanted: (Vec<i64>, Vec<u64>) = input.times_ms.iter().zip(&input.values)
                .filter(|(time, _)| (range.0..=range.1).contains(*time))
                .map(|(time, value)| (*time, value.to_bits()))
                .unzip();
            prop_assert_eq!(bits(run), wanted);
        }
    }
}
