//! The store's catalog of segments: one transaction a flush.
//!
//! A change can be repeated: segments replace those with their number, removals of what is gone do nothing, the
//! log's position never moves back and usage is a set. Rows go in chunks, because a flush of a large
//! tenant brings thousands of usage elements and each statement costs a round trip on PostgreSQL.

use std::collections::HashMap;

use async_trait::async_trait;
use shoal_model::TenantId;
use shoal_store::{
    Catalog, CatalogChange, CatalogError, CatalogState, SegmentId, SegmentRecord, SegmentTenant,
};
use sqlx::AssertSqlSafe;

use super::{Db, DbError, System, Transaction, usage};

/// Rows of one statement: of eight columns at most, so that the 32,766 parameters of SQLite are never reached.
pub(super) const ROWS_MAX: usize = 1000;

/// The catalog in SQL.
#[derive(Clone, Debug)]
pub struct SqlCatalog(System);

impl SqlCatalog {
    /// The catalog in this database. One store at a time may use it.
    pub fn new(db: &Db) -> SqlCatalog {
        SqlCatalog(db.system())
    }

    async fn state(&self) -> Result<CatalogState, DbError> {
        let mut conn = self.0.reader().await?;
        let (position,): (i64,) = sql!(conn, c => sqlx::query_as(
            "SELECT sequence FROM log_position WHERE id = 1",
        ).fetch_one(c).await?);
        let (next_segment,): (i64,) = sql!(conn, c => sqlx::query_as(
            "SELECT next FROM id_counter WHERE name = 'segment'",
        ).fetch_one(c).await?);
        let segments: Vec<SegmentRow> = sql!(conn, c => sqlx::query_as(
            "SELECT id, file_name, min_time_ms, max_time_ms, samples, series, size_bytes, first_sequence, end_sequence
             FROM segment
             ORDER BY id",
        ).fetch_all(c).await?);
        let parts: Vec<PartRow> = sql!(conn, c => sqlx::query_as(
            "SELECT tenant_id, segment_id, min_time_ms, max_time_ms, samples, series
             FROM segment_tenant
             ORDER BY segment_id, tenant_id",
        ).fetch_all(c).await?);
        let mut of_segment: HashMap<i64, Vec<SegmentTenant>> = HashMap::new();
        for part in parts {
            let parts = of_segment.entry(part.segment_id).or_default();
            parts.push(part.read()?);
        }
        let segments = segments.into_iter().map(|row| {
            let tenants = of_segment.remove(&row.id).unwrap_or_default();
            row.read(tenants)
        });
        Ok(CatalogState {
            segments: segments.collect::<Result<_, _>>()?,
            log_position: unsigned("log_position", 1, position)?,
            next_segment: unsigned("id_counter", 0, next_segment)?,
        })
    }

    async fn apply(&self, change: &CatalogChange) -> Result<(), DbError> {
        let mut tx = self.0.begin().await?;
        for segment in &change.add {
            put_segment(&mut tx, segment).await?;
        }
        if let Some(highest) = change.add.iter().map(|segment| segment.id).max() {
            sql!(tx, c => sqlx::query(
                "UPDATE id_counter SET next = $1 WHERE name = 'segment' AND next < $1",
            ).bind(highest.0 as i64 + 1).execute(c).await?.rows_affected());
        }
        for ids in change.remove.chunks(ROWS_MAX) {
            remove_segments(&mut tx, ids).await?;
        }
        for parts in change.remove_tenants.chunks(ROWS_MAX) {
            remove_parts(&mut tx, parts).await?;
        }
        if let Some(position) = change.log_position {
            sql!(tx, c => sqlx::query(
                "UPDATE log_position SET sequence = $1 WHERE id = 1 AND sequence < $1",
            ).bind(position as i64).execute(c).await?.rows_affected());
        }
        usage::unite_all(&mut tx, &change.usage).await?;
        tx.commit().await
    }
}

#[async_trait]
impl Catalog for SqlCatalog {
    async fn load(&self) -> Result<CatalogState, CatalogError> {
        self.state().await.map_err(CatalogError::new)
    }

    async fn commit(&self, change: CatalogChange) -> Result<(), CatalogError> {
        self.apply(&change).await.map_err(CatalogError::new)
    }
}

#[derive(sqlx::FromRow)]
struct SegmentRow {
    id: i64,
    file_name: String,
    min_time_ms: i64,
    max_time_ms: i64,
    samples: i64,
    series: i64,
    size_bytes: i64,
    first_sequence: i64,
    end_sequence: i64,
}

#[derive(sqlx::FromRow)]
struct PartRow {
    tenant_id: i64,
    segment_id: i64,
    min_time_ms: i64,
    max_time_ms: i64,
    samples: i64,
    series: i64,
}

impl SegmentRow {
    fn read(self, tenants: Vec<SegmentTenant>) -> Result<SegmentRecord, DbError> {
        let number = |number| unsigned("segment", self.id, number);
        Ok(SegmentRecord {
            id: SegmentId(number(self.id)?),
            min_time_ms: self.min_time_ms,
            max_time_ms: self.max_time_ms,
            samples: number(self.samples)?,
            series: number(self.series)?,
            bytes: number(self.size_bytes)?,
            first_sequence: number(self.first_sequence)?,
            end_sequence: number(self.end_sequence)?,
            file_name: self.file_name,
            tenants,
        })
    }
}

impl PartRow {
    fn read(&self) -> Result<SegmentTenant, DbError> {
        let number = |number| unsigned("segment_tenant", self.segment_id, number);
        Ok(SegmentTenant {
            tenant: TenantId(self.tenant_id),
            min_time_ms: self.min_time_ms,
            max_time_ms: self.max_time_ms,
            samples: number(self.samples)?,
            series: number(self.series)?,
        })
    }
}

fn unsigned(table: &'static str, key: i64, number: i64) -> Result<u64, DbError> {
    u64::try_from(number).map_err(|_| DbError::corrupt(table, key, format!("{number} is negative")))
}

async fn put_segment(tx: &mut Transaction, segment: &SegmentRecord) -> Result<(), DbError> {
    let id = segment.id.0 as i64;
    sql!(tx, c => sqlx::query(
        "INSERT INTO segment (id, file_name, min_time_ms, max_time_ms, samples, series, size_bytes, first_sequence, end_sequence)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (id) DO UPDATE SET
             file_name = EXCLUDED.file_name,
             min_time_ms = EXCLUDED.min_time_ms,
             max_time_ms = EXCLUDED.max_time_ms,
             samples = EXCLUDED.samples,
             series = EXCLUDED.series,
             size_bytes = EXCLUDED.size_bytes,
             first_sequence = EXCLUDED.first_sequence,
             end_sequence = EXCLUDED.end_sequence",
    )
    .bind(id)
    .bind(&segment.file_name)
    .bind(segment.min_time_ms)
    .bind(segment.max_time_ms)
    .bind(segment.samples as i64)
    .bind(segment.series as i64)
    .bind(segment.bytes as i64)
    .bind(segment.first_sequence as i64)
    .bind(segment.end_sequence as i64)
    .execute(c).await?.rows_affected());
    sql!(tx, c => sqlx::query("DELETE FROM segment_tenant WHERE segment_id = $1")
        .bind(id).execute(c).await?.rows_affected());
    for parts in segment.tenants.chunks(ROWS_MAX) {
        let text = format!(
            "INSERT INTO segment_tenant (tenant_id, segment_id, min_time_ms, max_time_ms, samples, series) VALUES {}",
            rows(parts.len(), 6)
        );
        sql!(tx, c => {
            let mut query = sqlx::query(AssertSqlSafe(text)).persistent(parts.len() == ROWS_MAX);
            for part in parts {
                query = query
                    .bind(part.tenant.0)
                    .bind(id)
                    .bind(part.min_time_ms)
                    .bind(part.max_time_ms)
                    .bind(part.samples as i64)
                    .bind(part.series as i64);
            }
            query.execute(c).await?.rows_affected()
        });
    }
    Ok(())
}

async fn remove_segments(tx: &mut Transaction, ids: &[SegmentId]) -> Result<(), DbError> {
    let text = format!("DELETE FROM segment WHERE id IN {}", rows(1, ids.len()));
    sql!(tx, c => {
        let mut query = sqlx::query(AssertSqlSafe(text)).persistent(false);
        for id in ids {
            query = query.bind(id.0 as i64);
        }
        query.execute(c).await?.rows_affected()
    });
    Ok(())
}

async fn remove_parts(
    tx: &mut Transaction,
    parts: &[(SegmentId, TenantId)],
) -> Result<(), DbError> {
    let text = format!(
        "DELETE FROM segment_tenant WHERE (tenant_id, segment_id) IN (VALUES {})",
        rows(parts.len(), 2)
    );
    sql!(tx, c => {
        let mut query = sqlx::query(AssertSqlSafe(text)).persistent(false);
        for (segment, tenant) in parts {
            query = query.bind(tenant.0).bind(segment.0 as i64);
        }
        query.execute(c).await?.rows_affected()
    });
    Ok(())
}

/// The parameters of some rows: `($1, $2), ($3, $4)`.
pub(super) fn rows(rows: usize, columns: usize) -> String {
    let mut text = String::with_capacity(rows * columns * 7);
    for row in 0..rows {
        for column in 0..columns {
            let before = match (row, column) {
                (0, 0) => "(",
                (_, 0) => "), (",
                (_, _) => ", ",
            };
            text.push_str(before);
            text.push('$');
            text.push_str(&(row * columns + column + 1).to_string());
        }
    }
    text.push(')');
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use shoal_model::labels::Labels;
    use shoal_model::telemetry::MetricKind;
    use shoal_model::time::Hour;
    use shoal_model::usage::{Meter, Owner, Usage};
    use shoal_model::{TenantId, Timestamp};
    use shoal_store::{Samples, SeriesMeta, Store, StoreOptions};

    use super::*;
    use crate::db::testing::each_database;

    const NOW: Timestamp = Timestamp(1_795_478_400_000);

    async fn tenants(db: &Db) -> [TenantId; 2] {
        let mut made = Vec::new();
        for key in ["one", "two"] {
            let tenant = db.system().create_tenant(key, key, NOW).await;
            made.push(tenant.expect("it is new").id());
        }
        [made[0], made[1]]
    }

    fn segment(id: u64, tenants: &[TenantId]) -> SegmentRecord {
        let part = |tenant: &TenantId| SegmentTenant {
            tenant: *tenant,
            min_time_ms: -5,
            max_time_ms: 5,
            samples: 7,
            series: 3,
        };
        SegmentRecord {
            id: SegmentId(id),
            file_name: format!("{id}.segment"),
            min_time_ms: -5,
            max_time_ms: 5,
            samples: 14,
            series: 6,
            bytes: 1000,
            first_sequence: id * 10,
            end_sequence: id * 10 + 10,
            tenants: tenants.iter().map(part).collect(),
        }
    }

    fn element(member: u64) -> Usage {
        Usage {
            hour: Hour(498_744),
            meter: Meter::MetricStandard,
            subject: "web-1".to_owned(),
            member,
        }
    }

    async fn usage_rows(db: &Db) -> i64 {
        let mut conn = db.reader().await.expect("a connection");
        sql!(conn, c => sqlx::query_scalar("SELECT COUNT(*) FROM usage_member")
            .fetch_one(c).await.expect("a count"))
    }

    #[test]
    fn parameters_are_numbered_by_row_and_column() {
        assert_eq!(rows(2, 2), "($1, $2), ($3, $4)");
        assert_eq!(rows(1, 3), "($1, $2, $3)");
    }

    #[tokio::test]
    async fn a_change_done_twice_is_a_change_done_once() {
        each_database(|db| async move {
            let [one, two] = tenants(&db).await;
            let catalog = SqlCatalog::new(&db);
            // More elements than one statement takes, and one of them twice.
            let elements = (0..2 * ROWS_MAX as u64 + 1).chain([7]);
            let first = CatalogChange {
                add: vec![segment(0, &[one, two]), segment(1, &[one])],
                usage: elements.map(|member| (one, element(member))).collect(),
                log_position: Some(20),
                ..CatalogChange::default()
            };
            for _ in 0..2 {
                catalog.commit(first.clone()).await.expect("committed");
            }
            let state = catalog.load().await.expect("loaded");
            assert_eq!(state.segments, first.add);
            assert_eq!((state.log_position, state.next_segment), (20, 2));
            assert_eq!(usage_rows(&db).await, 2 * ROWS_MAX as i64 + 1);

            let second = CatalogChange {
                remove: vec![SegmentId(1), SegmentId(99)],
                remove_tenants: vec![(SegmentId(0), one), (SegmentId(99), two)],
                log_position: Some(10),
                ..CatalogChange::default()
            };
            for _ in 0..2 {
                catalog.commit(second.clone()).await.expect("committed");
            }
            let state = catalog.load().await.expect("loaded");
            assert_eq!(state.segments, [segment(0, &[two])]);
            assert_eq!(state.log_position, 20, "it never moves back");
            assert_eq!(state.next_segment, 2, "a number is never given out again");
        })
        .await;
    }

    #[tokio::test]
    async fn a_change_that_fails_leaves_nothing_behind() {
        each_database(|db| async move {
            let [one, _] = tenants(&db).await;
            let catalog = SqlCatalog::new(&db);
            let change = CatalogChange {
                add: vec![segment(0, &[one])],
                usage: vec![(TenantId(99), element(1))],
                log_position: Some(5),
                ..CatalogChange::default()
            };
            assert!(catalog.commit(change).await.is_err(), "no such tenant");
            assert_eq!(
                catalog.load().await.expect("loaded"),
                CatalogState::default()
            );
        })
        .await;
    }

    async fn append(store: &Store, tenant: TenantId, host: &str, at: Timestamp) {
        let meta = SeriesMeta {
            kind: MetricKind::Gauge,
            unit: "".into(),
            owner: Some(Owner::StandardHost(host.to_owned())),
        };
        let labels = Labels::from_pairs([("__name__", "load"), ("host", host)]);
        let series = store.resolve(tenant, &labels, meta).expect("no limit");
        let samples = Samples {
            series: &[series],
            time_unix_ms: &[at.0],
            values: &[at.0 as f64],
        };
        store.append(tenant, &samples, at).await.expect("durable");
    }

    fn times(store: &Store, tenant: TenantId) -> Vec<i64> {
        let selection = store.select(tenant, &[], 0, i64::MAX).expect("undamaged");
        let times = selection.series.iter().flat_map(|s| s.times_ms.iter());
        times.copied().collect()
    }

    #[tokio::test]
    async fn a_store_lives_on_it() {
        each_database(|db| async move {
            let [one, two] = tenants(&db).await;
            let folder = tempfile::tempdir().expect("a folder");
            let open = || {
                let catalog = Arc::new(SqlCatalog::new(&db));
                Store::open(StoreOptions::new(folder.path()), catalog, NOW)
            };
            let (store, _) = open().await.expect("opened");
            let later = NOW + Duration::from_secs(3600);
            append(&store, one, "web-1", NOW).await;
            append(&store, two, "web-1", NOW).await;
            store.flush().await.expect("flushed");
            append(&store, one, "web-1", later).await;
            store.flush().await.expect("flushed");
            // Stays in the log.
            append(&store, one, "web-2", later).await;
            store.shutdown().await.expect("closed");
            drop(store);

            let (store, recovered) = open().await.expect("opened again");
            assert_eq!((recovered.segments, recovered.commits), (2, 1));
            assert_eq!(times(&store, one), [NOW.0, later.0, later.0]);
            // Each host and its series, in each hour that it was seen in.
            assert_eq!(usage_rows(&db).await, 8);

            assert_eq!(store.retain(one, later).await.expect("retained"), 1);
            assert_eq!(times(&store, one), [later.0, later.0]);
            assert_eq!(times(&store, two), [NOW.0]);
            assert_eq!(store.retain(two, later).await.expect("retained"), 1);
            store.shutdown().await.expect("closed");
            drop(store);
            let (store, recovered) = open().await.expect("opened a third time");
            assert_eq!((recovered.segments, recovered.orphans), (1, 0));
            assert_eq!(times(&store, one), [later.0, later.0]);
            assert_eq!(usage_rows(&db).await, 8);
        })
        .await;
    }
}
