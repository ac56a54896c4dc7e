//! A process that appends and flushes is killed (SIGKILL) at some moment, hundreds of times on the same folder: whatever
//! it said to be committed can be read, with its usage, and the store always opens.
//!
//! The process is this very test binary, told by its environment to run [`writer`].
#![expect(
    clippy::disallowed_methods,
    reason = "the test reads what its own parent set"
)]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use async_trait::async_trait;
use shoal_model::labels::Labels;
use shoal_model::telemetry::MetricKind;
use shoal_model::time::Hour;
use shoal_model::usage::{Owner, Usage};
use shoal_model::{TenantId, Timestamp};
use shoal_store::{
    AppendError, Catalog, CatalogChange, CatalogError, CatalogState, MemoryCatalog, Samples,
    SegmentId, SegmentRecord, SegmentTenant, SeriesMeta, Store, StoreOptions,
};

const NOW: Timestamp = Timestamp(1_795_478_400_000);
const TENANT: TenantId = TenantId(5);
/// How often the process is killed.
const KILLS: u64 = 200;
/// Commits that it says before it is killed, at most; the kill itself comes a little later.
const COMMITS_MAX: u64 = 40;
/// Those who append at the same time.
const WRITERS: i64 = 3;
const FOLDER: &str = "SHOAL_STORE_KILL_FOLDER";
const FIRST: &str = "SHOAL_STORE_KILL_FIRST";

/// A catalog in a text file, replaced as a whole.
struct FileCatalog {
    path: PathBuf,
    content: MemoryCatalog,
}

impl FileCatalog {
    fn open(folder: &Path) -> Arc<FileCatalog> {
        let path = folder.join("catalog");
        let content = MemoryCatalog::new();
        if let Ok(text) = std::fs::read_to_string(&path) {
            content.apply(read(&text));
        }
        Arc::new(FileCatalog { path, content })
    }

    fn write(&self) -> std::io::Result<()> {
        let state = self.content.state();
        let mut text = format!("position {}\n", state.log_position);
        for s in &state.segments {
            let part = &s.tenants[0];
            text += &format!(
                "segment {} {} {} {} {} {} {} {} {} {}\n",
                s.id.0,
                s.file_name,
                s.min_time_ms,
                s.max_time_ms,
                s.samples,
                s.series,
                s.bytes,
                s.first_sequence,
                s.end_sequence,
                part.tenant
            );
        }
        for u in self.content.usage(TENANT) {
            text += &format!(
                "usage {} {} {} {}\n",
                u.hour.0, u.meter, u.subject, u.member
            );
        }
        let new = self.path.with_extension("new");
        let mut file = std::fs::File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)
    }
}

fn read(text: &str) -> CatalogChange {
    let mut change = CatalogChange::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| -> i64 { words[at].parse().expect("it was written as a number") };
        match words[0] {
            "position" => change.log_position = Some(number(1) as u64),
            "segment" => change.add.push(SegmentRecord {
                id: SegmentId(number(1) as u64),
                file_name: words[2].to_owned(),
                min_time_ms: number(3),
                max_time_ms: number(4),
                samples: number(5) as u64,
                series: number(6) as u64,
                bytes: number(7) as u64,
                first_sequence: number(8) as u64,
                end_sequence: number(9) as u64,
                tenants: vec![SegmentTenant {
                    tenant: TENANT,
                    min_time_ms: number(3),
                    max_time_ms: number(4),
                    samples: number(5) as u64,
                    series: number(6) as u64,
                }],
            }),
            _ => change.usage.push((
                TENANT,
                Usage {
                    hour: Hour(number(1)),
                    meter: words[2].parse().expect("a meter"),
                    subject: words[3].to_owned(),
                    member: words[4].parse().expect("it was written as a number"),
                },
            )),
        }
    }
    change
}

#[async_trait]
impl Catalog for FileCatalog {
    async fn load(&self) -> Result<CatalogState, CatalogError> {
        Ok(self.content.state())
    }

    async fn commit(&self, change: CatalogChange) -> Result<(), CatalogError> {
        self.content.apply(change);
        self.write().map_err(CatalogError::new)
    }
}

async fn open(folder: &Path) -> (Store, Arc<FileCatalog>) {
    let catalog = FileCatalog::open(folder);
    let options = StoreOptions {
        // Small, so that files are changed and given back within one life.
        log_file_bytes: 64 << 10,
        log_files_max: 4,
        ..StoreOptions::new(folder.join("store"))
    };
    let opened = Store::open(options, catalog.clone(), NOW).await;
    let (store, _) = opened.unwrap_or_else(|error| panic!("the store does not open: {error}"));
    (store, catalog)
}

fn labels(number: i64) -> Labels {
    Labels::from_pairs([("__name__", "count"), ("number", &number.to_string())])
}

/// Which series are in a batch.
fn members(batch: i64) -> std::ops::Range<i64> {
    let first = batch % 50;
    first..first + 1 + batch % 7
}

/// The process that is killed: appends batches of its own numbers and says which are committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer() {
    let (Ok(folder), Ok(first)) = (std::env::var(FOLDER), std::env::var(FIRST)) else {
        return;
    };
    let (store, _) = open(Path::new(&folder)).await;
    let first: i64 = first.parse().expect("the test gives a number");
    let flusher = {
        let store = store.clone();
        tokio::spawn(async move {
            while store.flush().await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
    };
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(store.clone(), first + writer)))
        .collect();
    for writer in writers {
        writer.await.expect("it goes on until it is killed");
    }
    flusher.abort();
}

async fn write(store: Store, first: i64) {
    // Far more than it lives for; a bound, in case nobody kills it.
    for batch in (first..first + 100_000).step_by(WRITERS as usize) {
        let meta = || SeriesMeta {
            kind: MetricKind::Counter,
            unit: "".into(),
            owner: Some(Owner::StandardHost("host".to_owned())),
        };
        let series: Vec<_> = members(batch)
            .map(|member| store.resolve(TENANT, &labels(member), meta()))
            .collect::<Result<_, _>>()
            .expect("there is no limit");
        let samples = Samples {
            series: &series,
            time_unix_ms: &vec![NOW.0 - 10_000_000 + batch; series.len()],
            values: &vec![batch as f64; series.len()],
        };
        match store.append(TENANT, &samples, NOW).await {
            Ok(_) => writeln!(std::io::stdout(), "committed {batch}").expect("the test reads it"),
            Err(AppendError::Overloaded { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Starts the writer, kills it after so many commits, and returns all that it said.
fn killed(folder: &Path, first: i64, after: u64) -> Vec<i64> {
    let mut process = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "writer", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this binary starts");
    let output = process.stdout.take().expect("it is piped");
    let mut committed = Vec::new();
    let mut is_killed = false;
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        // The test runner's own words may come before the first.
        if let Some((_, batch)) = line.split_once("committed ")
            && let Ok(batch) = batch.parse()
        {
            committed.push(batch);
        }
        if !is_killed && committed.len() as u64 >= after {
            process.kill().expect("it runs until it is killed");
            is_killed = true;
        }
    }
    process.wait().expect("it is ours");
    assert!(
        is_killed,
        "it ended by itself after {} commits",
        committed.len()
    );
    committed
}

/// Numbers that look random and are the same in every run.
fn mix(number: u64) -> u64 {
    // Source: splitmix64.
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_loses_nothing_it_said_was_committed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut committed = BTreeSet::new();
    for kill in 0..KILLS {
        let first = kill as i64 * 10_000;
        committed.extend(killed(folder.path(), first, mix(kill) % COMMITS_MAX));
        let (store, catalog) = open(folder.path()).await;
        check(&store, &committed, kill);
        store.flush_usage().await.expect("the file can be written");
        let usage = catalog.content.usage(TENANT);
        let counted: BTreeSet<u64> = usage.iter().map(|element| element.member).collect();
        for member in committed.iter().flat_map(|batch| members(*batch)) {
            let fingerprint = labels(member).fingerprint() as u64;
            assert!(
                counted.contains(&fingerprint),
                "kill {kill}: usage of {member}"
            );
        }
        store.shutdown().await.expect("the file can be written");
    }
    assert!(
        committed.len() as u64 > KILLS * 5,
        "{} commits",
        committed.len()
    );
}

/// Every batch that was committed is there as a whole, and no other is there in part.
#[track_caller]
fn check(store: &Store, committed: &BTreeSet<i64>, kill: u64) {
    let selection = store.select(TENANT, &[], 0, i64::MAX).expect("undamaged");
    let mut found = BTreeSet::new();
    for series in &selection.series {
        let number = series.labels.get("number").expect("all have it");
        let number: i64 = number.parse().expect("a number");
        for (time, value) in series.times_ms.iter().zip(&series.values) {
            let batch = *value as i64;
            assert_eq!(*time, NOW.0 - 10_000_000 + batch, "kill {kill}");
            found.insert((batch, number));
        }
    }
    let batches: BTreeSet<i64> = found.iter().map(|(batch, _)| *batch).collect();
    for batch in batches.union(committed) {
        for member in members(*batch) {
            assert!(
                found.contains(&(*batch, member)),
                "kill {kill}: batch {batch} is torn or lost"
            );
        }
    }
}
