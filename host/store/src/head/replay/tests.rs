//! A head replayed from its records beside the head that made them, over random histories; and records that contradict.

use proptest::prelude::*;
use shoal_model::labels::Labels;
use shoal_model::telemetry::MetricKind;
use shoal_model::usage::Owner;
use shoal_model::{TenantId, Timestamp};

use super::*;
use crate::codec::Reader;
use crate::head::index::HeadIndex;
use crate::log::record::{Definition, Record};
use crate::series::{SeriesMeta, SeriesRef};

const BEGUN: Timestamp = Timestamp(1_795_478_400_000);
const HOUR_MS: i64 = 3_600_000;

#[derive(Clone, Debug)]
enum Step {
    /// Samples of series, all with one meta, some time later.
    Append {
        later_ms: i64,
        series: Vec<u8>,
        meta: u8,
    },
    /// The samples so far go into a segment.
    Freeze,
    /// The segment is in the catalog: the log gives up what is in it, series that are idle so long are forgotten.
    Release { idle_ms: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    let runs = (0..40u8, 1..12u8).prop_map(|(from, count)| (from..from + count).collect());
    let scattered = prop::collection::vec(0..50u8, 1..8);
    let append = (0..HOUR_MS, prop_oneof![runs, scattered], 0..4u8);
    prop_oneof![
        6 => append.prop_map(|(later_ms, series, meta)| Step::Append { later_ms, series, meta }),
        1 => Just(Step::Freeze),
        1 => (0..2 * HOUR_MS).prop_map(|idle_ms| Step::Release { idle_ms }),
    ]
}

/// Neighbours share labels, or have one more, or one of another name.
fn labels(number: u8) -> Labels {
    let group = number / 5;
    let mut labels = Labels::from_pairs([
        ("__name__", format!("metric_{}", number % 5)),
        ("job", format!("job-{}", group % 2)),
        ("pod", format!("pod-{group}")),
    ]);
    if number.is_multiple_of(3) {
        labels = labels.with("le", &number.to_string());
    }
    if number.is_multiple_of(7) {
        labels = labels.with("job", "").with("kind", "x");
    }
    labels
}

fn meta(number: u8, variant: u8) -> SeriesMeta {
    let kinds = [MetricKind::Gauge, MetricKind::Counter];
    SeriesMeta {
        kind: kinds[usize::from(variant == 1)],
        unit: Arc::from(["By", "", "s"][usize::from(variant) % 3]),
        owner: match (variant, number % 3) {
            (3, _) => None,
            (_, 0) => Some(Owner::Service("shop".to_owned())),
            (_, host) => Some(Owner::StandardHost(format!("host-{host}-{variant}"))),
        },
    }
}

/// A head as the store drives it, and the log of it.
#[derive(Default)]
struct Live {
    head: TenantHead,
    /// Records not yet released, encoded.
    log: Vec<Vec<u8>>,
    /// Records of the log that are in the frozen part.
    frozen: Option<usize>,
    epoch: u64,
    serial: u64,
    now_ms: i64,
}

impl Live {
    fn take(&mut self, step: &Step) {
        match step {
            Step::Append {
                later_ms,
                series,
                meta,
            } => self.append(*later_ms, series, *meta),
            Step::Freeze => {
                self.head.freeze();
                self.frozen = Some(self.log.len());
                self.epoch += 1;
            }
            Step::Release { idle_ms } => {
                if let Some(frozen) = self.frozen.take() {
                    self.log.drain(..frozen);
                    let idle_since = Timestamp(BEGUN.0 + self.now_ms - idle_ms);
                    self.head.evict(self.epoch, idle_since);
                }
            }
        }
    }

    fn append(&mut self, later_ms: i64, series: &[u8], variant: u8) {
        self.now_ms += later_ms;
        let received = Timestamp(BEGUN.0 + self.now_ms);
        let mut record = Record {
            tenant: TenantId(1),
            received,
            definitions: Vec::new(),
            usage: Vec::new(),
            slots: Vec::new(),
            times_ms: Vec::new(),
            values: Vec::new(),
        };
        for number in series {
            self.serial += 1;
            let (labels, meta) = (labels(*number), meta(*number, variant));
            let fingerprint = labels.fingerprint();
            let head = &mut self.head;
            let found = head.define(&labels, fingerprint, meta, self.serial, received);
            assert!(head.touch(found, self.epoch, received));
            record.slots.push(found.slot);
            record
                .times_ms
                .push(received.0 - i64::from(*number) * 7_000);
            record.values.push(self.serial as f64);
        }
        let additions = self
            .head
            .additions(&record.slots, self.epoch, received.hour());
        record.definitions = additions.definitions;
        record.usage = additions.usage;
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        self.log.push(bytes);
        self.head.apply(&record, &additions.counted, self.epoch);
    }
}

fn replayed(log: &[Vec<u8>]) -> TenantHead {
    let mut replay = HeadReplay::default();
    let serials = AtomicU64::new(1);
    for bytes in log {
        let record = LoggedRecord::decode(&mut Reader::new(bytes)).expect("a whole record");
        replay.replay(&record, 0, &serials).expect("a good log");
    }
    replay.finish()
}

/// The slots that the records of a log have samples of.
fn slots(log: &[Vec<u8>]) -> std::collections::BTreeSet<u32> {
    let records = log
        .iter()
        .map(|bytes| LoggedRecord::decode(&mut Reader::new(bytes)).expect("a whole record"));
    records.flat_map(|record| record.slots).collect()
}

/// What a series is, and its samples.
fn described(head: &TenantHead, slot: u32) -> impl PartialEq + std::fmt::Debug + use<> {
    let entry = head.entry(slot).expect("the slot is occupied");
    let series = SeriesRef {
        slot,
        serial: entry.serial,
    };
    (
        (entry.fingerprint, entry.labels.clone(), entry.kind),
        (entry.unit.clone(), entry.owner.owner.clone()),
        (entry.counted_hour, entry.owner.counted_hour.load(Relaxed)),
        entry.last_received.load(Relaxed),
        head.read(series, (i64::MIN, i64::MAX)),
    )
}

proptest! {
    #[test]
    fn a_replayed_head_is_the_head_that_took_the_records(
        history in prop::collection::vec(step(), 1..40),
    ) {
        let mut live = Live::default();
        for step in &history {
            live.take(step);
            let head = replayed(&live.log);
            let slots = slots(&live.log);
            let mut one_by_one = HeadIndex::default();
            for slot in &slots {
                prop_assert_eq!(described(&head, *slot), described(&live.head, *slot));
                let labels = &head.entry(*slot).expect("just described").labels;
                one_by_one.insert(*slot, labels);
            }
            prop_assert_eq!(head.series_count(), slots.len());
            prop_assert_eq!(&head.index, &one_by_one);
            let free: Vec<u32> = (0..head.entries.len() as u32).filter(|slot| !slots.contains(slot)).collect();
            prop_assert_eq!(&head.free, &free);
        }
    }
}

fn record(definitions: &[(u32, u8)], slots: &[u32]) -> Vec<u8> {
    let define = |(slot, number): &(u32, u8)| Definition {
        slot: *slot,
        labels: labels(*number),
        kind: MetricKind::Gauge,
        unit: "".into(),
        owner: None,
    };
    let record = Record {
        tenant: TenantId(1),
        received: BEGUN,
        definitions: definitions.iter().map(define).collect(),
        usage: Vec::new(),
        slots: slots.to_vec(),
        times_ms: vec![BEGUN.0; slots.len()],
        values: vec![1.0; slots.len()],
    };
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes
}

#[test]
fn a_series_without_samples_may_be_replaced_and_come_back_elsewhere() {
    let head = replayed(&[
        record(&[(0, 10), (1, 11), (2, 12)], &[0]),
        record(&[(1, 20), (4, 11)], &[1]),
        record(&[(2, 11)], &[2]),
    ]);
    let found = head.entries().map(|entry| entry.labels.clone());
    assert_eq!(
        found.collect::<Vec<_>>(),
        [labels(10), labels(20), labels(11)]
    );
    assert_eq!(head.free, [3, 4]);
    let mut one_by_one = HeadIndex::default();
    for (slot, number) in [(0, 10), (1, 20), (2, 11)] {
        one_by_one.insert(slot, &labels(number));
    }
    assert_eq!(head.index, one_by_one);
}

#[test]
fn a_record_that_contradicts_those_before_it_is_malformed() {
    let outcome = |second: &[u8]| {
        let mut replay = HeadReplay::default();
        let first = record(&[(0, 10), (1, 11)], &[0]);
        [&first, second].map(|bytes| {
            let record = LoggedRecord::decode(&mut Reader::new(bytes)).expect("a whole record");
            replay.replay(&record, 0, &AtomicU64::new(1))
        })[1]
    };
    let in_use = Malformed("a series is replaced while it has samples");
    assert_eq!(outcome(&record(&[(1, 12)], &[1])), Ok(()));
    assert_eq!(outcome(&record(&[(0, 12)], &[0])), Err(in_use));
    assert_eq!(outcome(&record(&[(1, 10)], &[1])), Err(in_use));
    let undefined = Malformed("a sample's series is not defined");
    for slot in [2, u32::MAX] {
        assert_eq!(outcome(&record(&[], &[slot])), Err(undefined));
    }
    let out_of_range = Malformed("a series is out of range");
    assert_eq!(outcome(&record(&[(SLOTS_MAX, 12)], &[])), Err(out_of_range));
}
