//! Answers PromQL from the store.
//!
//! A query runs on a blocking thread, one of few, and of one tenant only some of those at a time, so that a tenant
//! with slow queries leaves room for the others. It ends soon after its time is up or its client has gone.

mod source;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use shoal_model::{Labels, TenantId, Timestamp};
use shoal_promql::{
    Answer, EvalError, Expr, ExprKind, Limits, ParseError, SourceError, Value, evaluate, parse,
};
use shoal_store::{Matcher, MetricMetadata, ReadError, Store};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::task::blocking;
use crate::telemetry::{Query, QueryError};
use source::{StoreSource, add_warnings};

/// Queries that run at a time: each may hold 400 MB and a core.
const CONCURRENT_MAX: usize = 8;
/// Of which one tenant may have so many.
const CONCURRENT_OF_TENANT_MAX: usize = 4;
/// The time that a query has, waiting included: two minutes, as in Prometheus.
const TIMEOUT_MAX: Duration = Duration::from_secs(120);
/// Series selectors of one request for labels or series.
const SELECTORS_MAX: usize = 100;

/// Answers queries. Clones share the threads.
#[derive(Clone)]
pub struct Queries {
    store: Store,
    all: Arc<Semaphore>,
    of_tenants: Arc<Mutex<HashMap<TenantId, Arc<Semaphore>>>>,
}

/// The times of a range query.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    /// The first.
    pub start: Timestamp,
    /// None is later.
    pub end: Timestamp,
    /// From one to the next.
    pub step: Duration,
}

/// Which series, labels or values are asked for.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Series selectors such as `up{job="a"}`; any of them suffices. None selects everything.
    pub selectors: Vec<String>,
    /// Series with samples from here…
    pub start: Timestamp,
    /// …to here.
    pub end: Timestamp,
    /// At most so many results.
    pub limit: Option<usize>,
}

/// What a query came to, and remarks on it as Prometheus words them.
#[derive(Debug)]
pub struct Found {
    /// The value.
    pub value: Value,
    /// Whether something that belongs to it could not be read; what, is among the warnings.
    pub is_partial: bool,
    /// What may not be as meant.
    pub warnings: Vec<String>,
    /// What is worth knowing.
    pub infos: Vec<String>,
}

/// What a listing came to.
#[derive(Debug)]
pub struct Listed<T> {
    /// What was found.
    pub found: T,
    /// What may be missing.
    pub warnings: Vec<String>,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The question makes no sense. `BadData` in Prometheus' words.
    #[error("{0}")]
    Bad(String),
    /// It makes sense, but the data or a limit do not let it be answered.
    #[error("{0}")]
    Execution(String),
    /// It took too long.
    #[error(
        "the query did not end within {0:?}: shorten its range, select fewer series, or try again later"
    )]
    Timeout(Duration),
    /// The store cannot be read now.
    #[error("{0}")]
    Unavailable(String),
}

impl From<ParseError> for AskError {
    fn from(error: ParseError) -> AskError {
        AskError::Bad(format!("the query cannot be parsed: {error}"))
    }
}

impl From<EvalError> for AskError {
    fn from(error: EvalError) -> AskError {
        match error {
            EvalError::BadTimes(_)
            | EvalError::NotRangeable { .. }
            | EvalError::TooManySteps { .. } => AskError::Bad(error.to_string()),
            EvalError::Source(SourceError::Unavailable(why)) => AskError::Unavailable(why),
            EvalError::Source(SourceError::TooMuch(_))
            | EvalError::TooManySamples { .. }
            | EvalError::TooManySeries { .. }
            | EvalError::Cancelled
            | EvalError::Invalid { .. } => AskError::Execution(error.to_string()),
        }
    }
}

/// For engines: whether asking again may help.
impl From<AskError> for QueryError {
    fn from(error: AskError) -> QueryError {
        match error {
            AskError::Bad(why) | AskError::Execution(why) => QueryError::Refused(why),
            AskError::Timeout(_) | AskError::Unavailable(_) => {
                QueryError::Unavailable(anyhow::Error::new(error))
            }
        }
    }
}

impl From<ReadError> for AskError {
    fn from(error: ReadError) -> AskError {
        match error {
            ReadError::TooManySamples { .. } | ReadError::TooManySeries { .. } => {
                AskError::Execution(error.to_string())
            }
            ReadError::Damaged(_) | ReadError::Io { .. } => {
                tracing::error!(%error, "telemetry cannot be read");
                AskError::Unavailable(
                    "a part of the data cannot be read; tell the operator".to_owned(),
                )
            }
        }
    }
}

impl Queries {
    /// Answers from `store`.
    pub fn new(store: Store) -> Queries {
        Queries {
            store,
            all: Arc::new(Semaphore::new(CONCURRENT_MAX)),
            of_tenants: Arc::default(),
        }
    }

    /// Evaluates a query at one time.
    ///
    /// # Errors
    /// [`AskError`]; so of all methods here.
    pub async fn instant(
        &self,
        tenant: TenantId,
        text: &str,
        at: Timestamp,
        timeout: Option<Duration>,
    ) -> Result<Found, AskError> {
        let query = shoal_promql::Query::instant(parse(text)?, at.unix_ms());
        self.evaluate(tenant, text, query, timeout).await
    }

    /// Evaluates a query over a range of times.
    pub async fn range(
        &self,
        tenant: TenantId,
        text: &str,
        grid: Grid,
        timeout: Option<Duration>,
    ) -> Result<Found, AskError> {
        let step = i64::try_from(grid.step.as_millis()).unwrap_or(i64::MAX);
        let (start, end) = (grid.start.unix_ms(), grid.end.unix_ms());
        let query = shoal_promql::Query::range(parse(text)?, start, end, step);
        self.evaluate(tenant, text, query, timeout).await
    }

    async fn evaluate(
        &self,
        tenant: TenantId,
        text: &str,
        query: shoal_promql::Query,
        timeout: Option<Duration>,
    ) -> Result<Found, AskError> {
        let (answer, missing) = self
            .on_a_thread(tenant, timeout, move |store, is_over| {
                let source = StoreSource {
                    store,
                    tenant,
                    warnings: RefCell::default(),
                };
                let limits = Limits {
                    is_cancelled: &|| is_over.load(Ordering::Relaxed),
                    ..Limits::default()
                };
                let answer = evaluate(&query, &source, &limits)?;
                Ok((answer, source.warnings.into_inner()))
            })
            .await?;
        let Answer { value, notes } = answer;
        let of = |severity| {
            let wanted = notes.iter().filter(move |note| note.severity == severity);
            wanted.map(|note| note.render(text))
        };
        let warnings = of(shoal_promql::Severity::Warning);
        Ok(Found {
            is_partial: !missing.is_empty(),
            warnings: missing.into_iter().chain(warnings).collect(),
            infos: of(shoal_promql::Severity::Info).collect(),
            value,
        })
    }

    /// The label sets of the selected series, sorted.
    pub async fn series(
        &self,
        tenant: TenantId,
        selection: Selection,
    ) -> Result<Listed<Vec<Labels>>, AskError> {
        self.select(tenant, selection, move |store, matchers, (from, to)| {
            store.series(tenant, matchers, from, to)
        })
        .await
    }

    /// The label names of the selected series, sorted.
    pub async fn label_names(
        &self,
        tenant: TenantId,
        selection: Selection,
    ) -> Result<Listed<Vec<String>>, AskError> {
        self.select(tenant, selection, move |store, matchers, (from, to)| {
            store.label_names(tenant, matchers, from, to)
        })
        .await
    }

    /// The values of a label among the selected series, sorted.
    pub async fn label_values(
        &self,
        tenant: TenantId,
        name: &str,
        selection: Selection,
    ) -> Result<Listed<Vec<String>>, AskError> {
        let name = name.to_owned();
        self.select(tenant, selection, move |store, matchers, (from, to)| {
            store.label_values(tenant, &name, matchers, from, to)
        })
        .await
    }

    /// Kind and unit of every metric, or of one.
    pub async fn metadata(
        &self,
        tenant: TenantId,
        only: Option<String>,
        limit: Option<usize>,
    ) -> Result<Listed<BTreeMap<String, MetricMetadata>>, AskError> {
        self.on_a_thread(tenant, None, move |store, _| {
            let all = store.metadata(tenant)?;
            let wanted = all
                .found
                .into_iter()
                .filter(|(name, _)| only.as_ref().is_none_or(|only| only == name));
            let mut warnings = Vec::new();
            add_warnings(&all.damages, &mut warnings);
            Ok(Listed {
                found: wanted.take(limit.unwrap_or(usize::MAX)).collect(),
                warnings,
            })
        })
        .await
    }

    /// Reads what any of the selectors selects: sorted, each once.
    async fn select<T: Ord + Send + 'static>(
        &self,
        tenant: TenantId,
        selection: Selection,
        read: impl Fn(&Store, &[Matcher], (i64, i64)) -> Result<shoal_store::Found<Vec<T>>, ReadError>
        + Send
        + 'static,
    ) -> Result<Listed<Vec<T>>, AskError> {
        if selection.selectors.len() > SELECTORS_MAX {
            return Err(AskError::Bad(format!(
                "{} selectors, at most {SELECTORS_MAX} are allowed",
                selection.selectors.len()
            )));
        }
        let mut selectors: Vec<Vec<Matcher>> = selection
            .selectors
            .iter()
            .map(|text| selector(text))
            .collect::<Result<_, _>>()?;
        if selectors.is_empty() {
            selectors.push(Vec::new());
        }
        let range = (selection.start.unix_ms(), selection.end.unix_ms());
        self.on_a_thread(tenant, None, move |store, _| {
            let mut found = Vec::new();
            let mut warnings = Vec::new();
            for matchers in &selectors {
                let these = read(store, matchers, range)?;
                found.extend(these.found);
                add_warnings(&these.damages, &mut warnings);
            }
            if selectors.len() > 1 {
                found.sort();
                found.dedup();
            }
            found.truncate(selection.limit.unwrap_or(usize::MAX));
            Ok(Listed { found, warnings })
        })
        .await
    }

    /// Runs work on a blocking thread when there is room for it, for as long as it may take.
    async fn on_a_thread<T: Send + 'static>(
        &self,
        tenant: TenantId,
        timeout: Option<Duration>,
        work: impl FnOnce(&Store, &AtomicBool) -> Result<T, AskError> + Send + 'static,
    ) -> Result<T, AskError> {
        let timeout = timeout.unwrap_or(TIMEOUT_MAX).min(TIMEOUT_MAX);
        let over = SetOnDrop(Arc::default());
        let (store, is_over) = (self.store.clone(), over.0.clone());
        let run = async {
            let room = self.room(tenant).await;
            blocking(move || {
                // Held by the thread, not by the caller: who goes away does not make room before the thread ends.
                let _room = room;
                work(&store, &is_over)
            })
            .await
        };
        match tokio::time::timeout(timeout, run).await {
            Ok(result) => result,
            Err(_) => Err(AskError::Timeout(timeout)),
        }
    }

    async fn room(&self, tenant: TenantId) -> [Option<OwnedSemaphorePermit>; 2] {
        let of_tenant = {
            let mut of_tenants = self.of_tenants.lock();
            // Only tenants that ask now stand here: the others' semaphores are held by nobody else.
            of_tenants.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
            of_tenants
                .entry(tenant)
                .or_insert_with(|| Arc::new(Semaphore::new(CONCURRENT_OF_TENANT_MAX)))
                .clone()
        };
        let of_tenant = of_tenant.acquire_owned().await.ok();
        [of_tenant, self.all.clone().acquire_owned().await.ok()]
    }
}

/// Tells the thread that nobody waits for it any more.
struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Reads a duration as PromQL writes it, such as `1h30m`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let ExprKind::Number(number) = parse(text).ok()?.kind else {
        return None;
    };
    Duration::try_from_secs_f64(number.value).ok()
}

/// The matchers of a series selector such as `up{job="a"}`.
fn selector(text: &str) -> Result<Vec<Matcher>, AskError> {
    let shown: String = text.chars().take(200).collect();
    let no_selector = |expr: &Expr| {
        AskError::Bad(format!(
            "{shown:?} is a {}, not a series selector such as up{{job=\"a\"}}",
            expr.value_type().as_str()
        ))
    };
    let expr = parse(text)?;
    match &expr.kind {
        ExprKind::Selector(selector) => source::matchers(&selector.conditions())
            .map_err(|error| AskError::Bad(error.to_string())),
        _ => Err(no_selector(&expr)),
    }
}

#[async_trait]
impl Query for Queries {
    async fn instant(
        &self,
        tenant: TenantId,
        promql: &str,
        at: Timestamp,
    ) -> Result<Vec<(Labels, f64)>, QueryError> {
        let found = Queries::instant(self, tenant, promql, at, None).await?;
        // People can judge a part by its warnings. To a monitor, a series that cannot be read would be one that is gone.
        if found.is_partial {
            let missing = anyhow::Error::msg(found.warnings.join("; "));
            return Err(QueryError::Unavailable(missing));
        }
        match found.value {
            Value::Scalar(point) => Ok(vec![(Labels::default(), point.value)]),
            Value::Vector(samples) => Ok(samples
                .into_iter()
                .map(|sample| (sample.labels, sample.point.value))
                .collect()),
            Value::Matrix(_) | Value::String(_) => Err(QueryError::Refused(
                "the query has to give an instant vector or a scalar".to_owned(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use shoal_model::telemetry::MetricKind;
    use shoal_store::{MemoryCatalog, Samples, SeriesMeta, StoreOptions};

    use super::*;

    const TENANT: TenantId = TenantId(1);
    const NOW: Timestamp = Timestamp(1_795_478_400_000);

    #[tokio::test]
    async fn what_is_damaged_is_left_out_and_the_answer_says_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let catalog = Arc::new(MemoryCatalog::new());
        let options = StoreOptions::new(folder.path());
        let opened = Store::open(options, catalog.clone(), NOW).await;
        let (store, _) = opened.expect("it opens");
        for (name, value) in [("kept", 1.0), ("lost", 2.0)] {
            let meta = SeriesMeta {
                kind: MetricKind::Gauge,
                unit: "".into(),
                owner: None,
            };
            let labels = Labels::from_pairs([("__name__", name)]);
            let series = store.resolve(TENANT, &labels, meta).expect("no limit");
            let samples = Samples {
                series: &[series],
                time_unix_ms: &[NOW.0],
                values: &[value],
            };
            let committed = store.append(TENANT, &samples, NOW).await;
            committed.expect("the disk works");
            store.flush().await.expect("the disk works");
        }
        let segments = catalog.state().segments;
        let path = folder.path().join("segments").join(&segments[1].file_name);
        std::fs::remove_file(path).expect("it is there");

        let queries = Queries::new(store);
        let found = queries.instant(TENANT, "{__name__=~\".+\"}", NOW, None);
        let found = found.await.expect("a part of it can be read");
        match found.value {
            Value::Vector(samples) => assert_eq!(samples.len(), 1),
            other => panic!("{other:?}"),
        }
        assert_eq!(found.warnings.len(), 1, "{:?}", found.warnings);
        let whole = Query::instant(&queries, TENANT, "{__name__=~\".+\"}", NOW).await;
        match whole.expect_err("a monitor judges nothing by a part") {
            QueryError::Unavailable(why) => assert_eq!(why.to_string(), found.warnings[0]),
            QueryError::Refused(why) => panic!("{why}"),
        }
        assert!(found.warnings[0].starts_with("samples are missing from this result: 00"));
        let selection = Selection {
            selectors: Vec::new(),
            start: NOW,
            end: NOW,
            limit: None,
        };
        let names = queries.label_values(TENANT, "__name__", selection).await;
        let names = names.expect("a part of it can be read");
        assert_eq!(names.found, ["kept"]);
        assert_eq!(names.warnings, found.warnings);
    }

    #[test]
    fn durations_are_those_of_promql() {
        assert_eq!(parse_duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        for wrong in ["", "-1h", "1h + 1h", "up", "1 h"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }
}
