//! Batches, and what of them is in the store.

use std::collections::BTreeMap;

use shoal_model::telemetry::{MetricKind, Metrics, NumberColumns, SeriesColumns};
use shoal_model::usage::Meter;
use shoal_store::{MemoryCatalog, StoreOptions, TenantLimits};
use tempfile::TempDir;

use super::*;

const NOW: Timestamp = Timestamp(1_795_478_400_000);
const TENANT: TenantId = TenantId(5);

struct Fixture {
    writer: Arc<Writer>,
    catalog: Arc<MemoryCatalog>,
    clock: Clock,
    _folder: TempDir,
}

async fn fixture(change: impl FnOnce(&mut StoreOptions)) -> Fixture {
    let folder = tempfile::tempdir().expect("a folder");
    let mut options = StoreOptions::new(folder.path());
    change(&mut options);
    let catalog = Arc::new(MemoryCatalog::new());
    let opened = Store::open(options, catalog.clone(), NOW).await;
    let (store, _) = opened.expect("opened");
    let clock = Clock::manual(NOW);
    Fixture {
        writer: Writer::new(store, clock.clone(), Arc::default()),
        catalog,
        clock,
        _folder: folder,
    }
}

impl Fixture {
    async fn write(&self, metrics: ValidMetrics) -> Result<Committed, IngestError> {
        self.writer.of_tenant(TENANT).write_metrics(metrics).await
    }

    fn stored(&self) -> BTreeMap<String, Vec<(i64, f64)>> {
        let selection = self.writer.store.select(TENANT, &[], 0, i64::MAX);
        let series = selection.expect("undamaged").series.into_iter();
        series
            .map(|series| {
                let samples = series.times_ms.iter().copied().zip(series.values);
                (series.labels.to_string(), samples.collect())
            })
            .collect()
    }
}

/// Gauges `m` of the host `web-1`, one point each, told apart by the label `n`.
fn gauges(numbers: std::ops::Range<u32>, at: Timestamp, filler: &str) -> ValidMetrics {
    let mut metrics = Metrics::default();
    let mut symbol = |text: &str| {
        metrics.symbol_bytes.extend_from_slice(text.as_bytes());
        metrics.symbol_ends.push(metrics.symbol_bytes.len() as u32);
        metrics.symbol_ends.len() as u32 - 1
    };
    let [name, unit, host, web, n, fill, text] =
        ["m", "", "host.name", "web-1", "n", "filler", filler].map(&mut symbol);
    let values: Vec<u32> = numbers.clone().map(|it| symbol(&it.to_string())).collect();
    let count = values.len();
    metrics.set_pairs = vec![host, web];
    metrics.set_ends = vec![0, 1];
    for value in values {
        metrics.set_pairs.extend([n, value, fill, text]);
        metrics.set_ends.push(metrics.set_pairs.len() as u32 / 2);
    }
    metrics.series = SeriesColumns {
        names: vec![name; count],
        units: vec![unit; count],
        kinds: vec![MetricKind::Gauge as u8; count],
        resources: vec![1; count],
        scopes: vec![0; count],
        attributes: (2..).take(count).collect(),
    };
    metrics.numbers = NumberColumns {
        series: (0..).take(count).collect(),
        parts: vec![0; count],
        quantiles: vec![0.0; count],
        start_unix_nano: vec![0; count],
        time_unix_nano: vec![at.0 as u64 * 1_000_000; count],
        values: numbers.map(f64::from).collect(),
        stale: vec![0; count],
    };
    metrics.validate().expect("a good batch")
}

fn committed(accepted: u64) -> Committed {
    Committed {
        accepted,
        ..Committed::default()
    }
}

#[tokio::test]
async fn what_is_answered_is_stored_with_its_usage() {
    let fixture = fixture(|_| {}).await;
    for _ in 0..2 {
        let answer = fixture.write(gauges(0..3, NOW, "")).await;
        assert_eq!(answer, Ok(committed(3)));
    }
    let stored = fixture.stored();
    assert_eq!(stored.len(), 3);
    assert!(stored.values().flatten().all(|(at, _)| *at == NOW.0));
    fixture
        .writer
        .store
        .flush_usage()
        .await
        .expect("handed over");
    let usage = fixture.catalog.usage(TENANT);
    let count = |meter| {
        usage
            .iter()
            .filter(|element| element.meter == meter)
            .count()
    };
    assert_eq!(
        (count(Meter::HostStandard), count(Meter::MetricStandard)),
        (1, 3)
    );
    let samples = fixture.writer.observe.samples(NOW);
    assert!(samples.iter().any(|sample| {
        sample.labels.to_string().contains("result=\"accepted\"") && sample.value == 6.0
    }));
}

#[tokio::test]
async fn what_is_over_a_limit_or_out_of_time_is_refused_by_name() {
    let fixture = fixture(|options| {
        options.tenant = TenantLimits {
            active_series_max: 2,
            ..TenantLimits::default()
        };
    })
    .await;
    let answer = fixture.write(gauges(0..4, NOW, "")).await.expect("some");
    assert_eq!((answer.accepted, answer.rejected), (2, 2));
    let reason = &answer.rejections[0].reason;
    assert!(
        reason.contains("\"m\" is over the limit of 2 active series"),
        "{reason}"
    );
    let ahead = NOW + Duration::from_secs(3600);
    let answer = fixture.write(gauges(0..1, ahead, "")).await.expect("none");
    assert_eq!((answer.accepted, answer.rejected), (0, 1));
    let reason = &answer.rejections[0].reason;
    assert!(reason.contains("set the sender's clock"), "{reason}");
    assert_eq!(fixture.stored().len(), 2);
}

#[tokio::test]
async fn a_series_that_was_given_up_is_found_again() {
    let fixture = fixture(|options| options.series_idle = Duration::from_secs(60)).await;
    fixture.write(gauges(0..2, NOW, "")).await.expect("stored");
    fixture.clock.advance(Duration::from_secs(3600));
    let later = fixture.clock.now();
    // Another sender moves the store's time on; the flush gives the first series up.
    fixture
        .write(gauges(9..10, later, ""))
        .await
        .expect("stored");
    fixture.writer.store.flush().await.expect("flushed");
    let stats = fixture.writer.store.stats();
    assert_eq!(stats.tenants[&TENANT].active_series, 1);
    let answer = fixture.write(gauges(0..2, later, "")).await;
    assert_eq!(answer, Ok(committed(2)));
    assert_eq!(fixture.stored().len(), 3);
}

#[tokio::test]
async fn a_batch_larger_than_a_record_of_the_log_is_stored_in_parts() {
    let fixture = fixture(|options| options.log_file_bytes = 256 << 10).await;
    let filler = "x".repeat(1000);
    let answer = fixture.write(gauges(0..1000, NOW, &filler)).await;
    assert_eq!(answer, Ok(committed(1000)));
    assert_eq!(fixture.stored().len(), 1000);
}

#[tokio::test]
async fn a_full_store_says_when_to_come_back() {
    let fixture = fixture(|options| options.in_flight_max_bytes = 1).await;
    let store = fixture.writer.store.clone();
    // One byte in flight is one batch at a time: the second finds it taken.
    let (first, second) = tokio::join!(biased_write(&fixture, 0), biased_write(&fixture, 1));
    let answers = [first, second];
    assert!(answers.contains(&Ok(committed(1))), "{answers:?}");
    let retry_after = Duration::from_secs(1);
    assert!(
        answers.contains(&Err(IngestError::Overloaded { retry_after })),
        "{answers:?}"
    );
    store.shutdown().await.expect("closed");
    let closed = fixture.write(gauges(0..1, NOW, "")).await;
    assert!(
        matches!(closed, Err(IngestError::Unavailable(_))),
        "{closed:?}"
    );
}

async fn biased_write(fixture: &Fixture, number: u32) -> Result<Committed, IngestError> {
    fixture.write(gauges(number..number + 1, NOW, "")).await
}

#[tokio::test]
async fn what_is_remembered_is_bounded_over_all_tenants() {
    let fixture = fixture(|_| {}).await;
    let store = &fixture.writer.store;
    let meta = || SeriesMeta {
        kind: MetricKind::Gauge,
        unit: "".into(),
        owner: None,
    };
    let labels = Labels::from_pairs([("__name__", "m")]);
    let series = store.resolve(TENANT, &labels, meta()).expect("no limit");
    let known = KnownStreams::new(100);
    let (idle, busy) = (TenantId(1), TenantId(2));
    let one = known.of_tenant(idle, NOW);
    let two = known.of_tenant(busy, NOW + Duration::from_secs(1));
    let learned = |from: u128, count: u128| -> Learned<SeriesRef> {
        let keys = from..from + count;
        keys.map(|key| (key, Box::from([series]))).collect()
    };
    known.learn(&one, learned(0, 12));
    known.learn(&two, learned(0, 5));
    assert!(known.weight.load(Relaxed) <= 100);
    assert!(one.streams.read().weight() > 0);
    known.learn(&two, learned(5, 5));
    assert_eq!(one.streams.read().weight(), 0, "the one that was silent");
    assert!(two.streams.read().weight() > 0);
    assert_eq!(known.weight.load(Relaxed), two.streams.read().weight());
}
