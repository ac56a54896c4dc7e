//! The store over a disk that holds syncs back, breaks, or loses what was not synced, and over a catalog that fails.

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Poll;

use async_trait::async_trait;
use shoal_model::labels::Labels;
use shoal_model::telemetry::MetricKind;
use shoal_model::usage::Owner;
use shoal_model::{TenantId, Timestamp};

use super::{FlushError, Recovered, Store};
use crate::append::{AppendError, Committed, Samples};
use crate::catalog::{Catalog, CatalogChange, CatalogError, CatalogState, MemoryCatalog};
use crate::log::simulated::SimulatedFolder;
use crate::options::StoreOptions;
use crate::series::{SeriesMeta, SeriesRef};

const NOW: Timestamp = Timestamp(1_795_478_400_000);
const TENANT: TenantId = TenantId(5);

fn options(folder: &tempfile::TempDir) -> StoreOptions {
    StoreOptions {
        log_file_bytes: 64 << 10,
        log_files_max: 3,
        ..StoreOptions::new(folder.path())
    }
}

async fn open(
    options: StoreOptions,
    catalog: Arc<dyn Catalog>,
    log: &SimulatedFolder,
) -> (Store, Recovered) {
    let log = log.clone();
    Store::open_with(options, catalog, NOW, move || Ok(Arc::new(log)))
        .await
        .expect("the store opens")
}

fn series(store: &Store, number: usize) -> SeriesRef {
    let meta = SeriesMeta {
        kind: MetricKind::Counter,
        unit: "".into(),
        owner: Some(Owner::StandardHost(format!("host-{}", number % 3))),
    };
    let number = number.to_string();
    let labels = Labels::from_pairs([("__name__", "count"), ("number", &number)]);
    store
        .resolve(TENANT, &labels, meta)
        .expect("there is no limit")
}

/// Appends `value` at its own time to each of some series.
async fn append(store: &Store, numbers: &[usize], value: i64) -> Result<Committed, AppendError> {
    let series: Vec<_> = numbers
        .iter()
        .map(|number| series(store, *number))
        .collect();
    let samples = Samples {
        series: &series,
        time_unix_ms: &vec![NOW.0 - 1_000_000 + value; series.len()],
        values: &vec![value as f64; series.len()],
    };
    store.append(TENANT, &samples, NOW).await
}

/// Number of series and value of every sample.
fn stored(store: &Store) -> BTreeSet<(usize, i64)> {
    let selection = store
        .select(TENANT, &[], 0, i64::MAX)
        .expect("nothing is damaged");
    let mut found = BTreeSet::new();
    for series in selection.series {
        let number = series.labels.get("number").expect("all have it");
        for value in series.values {
            found.insert((number.parse().expect("a number"), value as i64));
        }
    }
    found
}

async fn poll_once<F: Future>(future: &mut std::pin::Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[tokio::test]
async fn nothing_is_acknowledged_or_visible_before_it_is_synced() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = SimulatedFolder::default();
    let (store, _) = open(options(&folder), Arc::new(MemoryCatalog::new()), &log).await;
    log.hold_syncs();
    let mut waiting = pin!(append(&store, &[1], 10));
    assert!(poll_once(&mut waiting).await.is_none());
    log.wait_for_sync();
    assert!(poll_once(&mut waiting).await.is_none());
    assert_eq!(stored(&store), BTreeSet::new());
    assert_eq!(store.stats().usage_pending, 0);
    log.let_syncs_go();
    let committed = waiting.await.expect("the disk works");
    assert_eq!((committed.sequence, committed.accepted), (0, 1));
    assert_eq!(stored(&store), BTreeSet::from([(1, 10)]));
    // The host, and its series.
    assert_eq!(store.stats().usage_pending, 2);
}

#[tokio::test]
async fn those_who_wait_share_one_sync() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = SimulatedFolder::default();
    let (store, _) = open(options(&folder), Arc::new(MemoryCatalog::new()), &log).await;
    log.hold_syncs();
    let mut first = pin!(append(&store, &[0], 1));
    assert!(poll_once(&mut first).await.is_none());
    log.wait_for_sync();
    let mut second = pin!(append(&store, &[1], 2));
    let mut third = pin!(append(&store, &[2], 3));
    assert!(poll_once(&mut second).await.is_none());
    assert!(poll_once(&mut third).await.is_none());
    log.let_syncs_go();
    let sequence = |committed: Result<Committed, AppendError>| committed.expect("good").sequence;
    assert_eq!(sequence(first.await), 0);
    assert_eq!(sequence(second.await), 1);
    assert_eq!(sequence(third.await), 1);
}

#[tokio::test]
async fn too_much_in_flight_is_refused_and_accepted_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = SimulatedFolder::default();
    let options = StoreOptions {
        in_flight_max_bytes: 4096,
        ..options(&folder)
    };
    let (store, _) = open(options, Arc::new(MemoryCatalog::new()), &log).await;
    log.hold_syncs();
    let mut waiting = Vec::new();
    let refused = loop {
        let mut next = Box::pin(append(&store, &[0], waiting.len() as i64));
        match poll_once(&mut next.as_mut()).await {
            None => waiting.push(next),
            Some(result) => break result,
        }
        assert!(waiting.len() < 100, "nothing is ever refused");
    };
    assert!(matches!(refused, Err(AppendError::Overloaded { .. })));
    log.let_syncs_go();
    for append in waiting {
        append.await.expect("what was queued is committed");
    }
    append(&store, &[0], 99).await.expect("there is room again");
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = SimulatedFolder::default();
    let catalog = Arc::new(MemoryCatalog::new());
    let (store, _) = open(options(&folder), catalog.clone(), &log).await;
    append(&store, &[1], 1).await.expect("the disk works");
    log.fail_sync(0);
    for value in 2..5 {
        let error = append(&store, &[1], value).await.expect_err("it is broken");
        assert!(matches!(error, AppendError::LogFailed { reason } if reason.contains("log-0000")));
    }
    assert_eq!(stored(&store), BTreeSet::from([(1, 1)]));
    drop(store);
    let repaired = log.after_power_cut(|| false);
    let (store, recovered) = open(options(&folder), catalog, &repaired).await;
    assert_eq!((recovered.commits, recovered.samples), (1, 1));
    assert_eq!(stored(&store), BTreeSet::from([(1, 1)]));
}

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        // Source: splitmix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// A power cut in the middle of a group commit, with any of its sectors on the disk: what was acknowledged is there,
/// what was not is there as a whole or not at all, with its usage.
#[tokio::test]
async fn a_power_cut_loses_nothing_acknowledged_and_tears_no_batch() {
    let mut torn = 0;
    for seed in 0..150 {
        let mut numbers = Numbers(seed);
        let folder = tempfile::tempdir().expect("a folder");
        let log = SimulatedFolder::default();
        let catalog = Arc::new(MemoryCatalog::new());
        let (store, _) = open(options(&folder), catalog.clone(), &log).await;
        let mut wanted = BTreeSet::new();
        let batches = 1 + numbers.below(6) as i64;
        let batch = |value: i64, numbers: &mut Numbers| {
            let first = 10 * value as usize;
            let members: Vec<_> = (first..first + 1 + numbers.below(120) as usize).collect();
            members
        };
        for value in 0..batches {
            let members = batch(value, &mut numbers);
            append(&store, &members, value).await.expect("it works");
            wanted.extend(members.into_iter().map(|member| (member, value)));
        }
        log.hold_syncs();
        let last = batch(batches, &mut numbers);
        let mut waiting = Box::pin(append(&store, &last, batches));
        assert!(poll_once(&mut waiting.as_mut()).await.is_none());
        log.wait_for_sync();
        let cut = log.after_power_cut(|| numbers.below(4) > 0);
        log.let_syncs_go();
        drop(waiting);
        drop(store);

        let (store, recovered) = open(options(&folder), catalog.clone(), &cut).await;
        let mut found = stored(&store);
        if found != wanted {
            wanted.extend(last.into_iter().map(|member| (member, batches)));
        } else {
            torn += 1;
        }
        assert_eq!(found, wanted, "seed {seed}");
        assert_eq!(recovered.samples, wanted.len() as u64);
        store.flush_usage().await.expect("the catalog works");
        let members: BTreeSet<u64> = catalog
            .usage(TENANT)
            .iter()
            .map(|element| element.member)
            .filter(|member| *member != 0)
            .collect();
        let series: BTreeSet<usize> = wanted.iter().map(|(number, _)| *number).collect();
        assert_eq!(members.len(), series.len(), "seed {seed}: usage");
        append(&store, &[9999], 99).await.expect("it goes on");
        found.insert((9999, 99));
        assert_eq!(stored(&store), found);
    }
    assert!((10..140).contains(&torn), "{torn} of 150 last batches torn");
}

/// A catalog that fails when told to, before or after doing what it was asked.
#[derive(Default)]
struct FailingCatalog {
    inner: MemoryCatalog,
    fails_before: AtomicBool,
    fails_after: AtomicBool,
}

#[async_trait]
impl Catalog for FailingCatalog {
    async fn load(&self) -> Result<CatalogState, CatalogError> {
        self.inner.load().await
    }

    async fn commit(&self, change: CatalogChange) -> Result<(), CatalogError> {
        if self.fails_before.load(Relaxed) {
            return Err(CatalogError::new("no connection"));
        }
        self.inner.apply(change);
        if self.fails_after.load(Relaxed) {
            return Err(CatalogError::new("connection lost"));
        }
        Ok(())
    }
}

#[tokio::test]
async fn the_number_of_a_segment_that_is_gone_is_not_given_out_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = SimulatedFolder::default();
    let catalog = Arc::new(MemoryCatalog::new());
    let mut numbers = Vec::new();
    for value in 0..3 {
        let (store, _) = open(options(&folder), catalog.clone(), &log).await;
        append(&store, &[1], value).await.expect("it works");
        let flushed = store.flush().await.expect("flushed");
        numbers.extend(flushed.segment.map(|segment| segment.id.0));
        let later = NOW + std::time::Duration::from_secs(3600);
        assert_eq!(store.retain(TENANT, later).await.expect("retained"), 1);
        drop(store);
    }
    assert_eq!(numbers, [0, 1, 2]);
}

#[tokio::test]
async fn a_flush_that_fails_goes_on_when_called_again() {
    for is_before in [true, false] {
        let folder = tempfile::tempdir().expect("a folder");
        let log = SimulatedFolder::default();
        let catalog = Arc::new(FailingCatalog::default());
        let (store, _) = open(options(&folder), catalog.clone(), &log).await;
        append(&store, &[1, 2], 1).await.expect("it works");
        let switch = match is_before {
            true => &catalog.fails_before,
            false => &catalog.fails_after,
        };
        switch.store(true, Relaxed);
        for _ in 0..2 {
            assert!(matches!(store.flush().await, Err(FlushError::Catalog(_))));
            assert!(matches!(
                store.flush_usage().await,
                Err(FlushError::Catalog(_))
            ));
        }
        append(&store, &[1], 2).await.expect("it goes on");
        let all = BTreeSet::from([(1, 1), (2, 1), (1, 2)]);
        assert_eq!(stored(&store), all);
        switch.store(false, Relaxed);
        let flushed = store.flush().await.expect("the catalog works again");
        assert_eq!(flushed.segment.map(|segment| segment.samples), Some(1));
        assert_eq!(stored(&store), all);
        assert_eq!(store.stats().head_samples, 0);
        assert_eq!(store.stats().flush_failures_total, 2);
        drop(store);
        let state = catalog.inner.state();
        assert_eq!((state.segments.len(), state.log_position), (2, 2));
        // Two hosts and two series.
        assert_eq!(catalog.inner.usage(TENANT).len(), 4);
        let (store, recovered) = open(options(&folder), catalog, &log).await;
        assert_eq!((recovered.commits, recovered.orphans), (0, 0));
        assert_eq!(stored(&store), all);
    }
}

#[tokio::test]
async fn a_full_log_refuses_until_it_can_be_flushed() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = SimulatedFolder::default();
    let catalog = Arc::new(FailingCatalog::default());
    catalog.fails_before.store(true, Relaxed);
    let (store, _) = open(options(&folder), catalog.clone(), &log).await;
    let many: Vec<usize> = (0..100).collect();
    let mut value = 0;
    let refused = loop {
        match append(&store, &many, value).await {
            Ok(_) => value += 1,
            Err(error) => break error,
        }
        assert!(value < 1000, "the log is not bounded");
    };
    assert!(matches!(refused, AppendError::Overloaded { .. }));
    assert_eq!(stored(&store).len(), 100 * value as usize);
    catalog.fails_before.store(false, Relaxed);
    store.flush().await.expect("the catalog works again");
    append(&store, &many, value).await.expect("there is room");
    assert_eq!(stored(&store).len(), 100 * (value as usize + 1));
}

#[tokio::test]
async fn a_flush_whose_caller_goes_away_is_finished() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = SimulatedFolder::default();
    let catalog = Arc::new(MemoryCatalog::new());
    let (store, _) = open(options(&folder), catalog.clone(), &log).await;
    append(&store, &[1], 1).await.expect("it works");
    {
        let mut flush = pin!(store.flush());
        assert!(poll_once(&mut flush).await.is_none());
    }
    append(&store, &[1], 2).await.expect("it works");
    store.flush().await.expect("it works");
    let samples: u64 = catalog.state().segments.iter().map(|s| s.samples).sum();
    assert_eq!(samples, 2);
    assert_eq!(stored(&store), BTreeSet::from([(1, 1), (1, 2)]));
}

#[tokio::test]
async fn a_damaged_or_missing_segment_is_named_and_everything_else_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = SimulatedFolder::default();
    let catalog = Arc::new(MemoryCatalog::new());
    let (store, _) = open(options(&folder), catalog.clone(), &log).await;
    for value in [10, 20] {
        append(&store, &[1, 2], value)
            .await
            .expect("the disk works");
        store.flush().await.expect("the disk works");
    }
    append(&store, &[1], 30).await.expect("the disk works");
    let path = |at: usize| {
        let name = &catalog.state().segments[at].file_name;
        folder.path().join("segments").join(name)
    };
    let mut bytes = std::fs::read(path(0)).expect("the segment");
    // Beyond the beginning lies the page of times.
    bytes[14] ^= 1;
    std::fs::write(path(0), bytes).expect("a disk with room");
    let all = |store: &Store| store.select(TENANT, &[], 0, i64::MAX).expect("no limit");
    let rest = BTreeSet::from([(1, 20), (2, 20), (1, 30)]);
    assert_eq!(stored(&store), rest);
    let damages = all(&store).damages;
    assert_eq!(damages.len(), 1, "{damages:?}");
    assert_eq!((damages[0].section, damages[0].offset), ("times", 12));
    assert!(damages[0].checksums.is_some());
    assert!(!damages[0].without_folder().contains('/'));
    let checked = crate::verify(folder.path(), &catalog.state()).expect("it can be read");
    assert!(checked.is_log_in_use);
    assert_eq!(checked.damages, damages);

    std::fs::remove_file(path(0)).expect("it is there");
    assert_eq!(stored(&store), rest);
    assert_eq!(all(&store).damages[0].section, "file");
    let names = store
        .label_names(TENANT, &[], 0, i64::MAX)
        .expect("no limit");
    assert_eq!(names.found, ["__name__", "number"]);
    assert_eq!(names.damages.len(), 1);
    store.shutdown().await.expect("the disk works");
    drop(store);
    let (store, recovered) = open(options(&folder), catalog.clone(), &log).await;
    assert_eq!((recovered.segments, recovered.damaged_segments), (2, 1));
    assert_eq!(stored(&store), rest);
}
