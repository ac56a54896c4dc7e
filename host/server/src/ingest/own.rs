//! Writes samples that Shoal itself makes, by the same commit as any client's.

use async_trait::async_trait;
use shoal_model::TenantId;
use shoal_store::{AppendError, Samples, SeriesMeta, Store};

use crate::clock::Clock;
use crate::telemetry::{OwnSample, WriteError, WriteSamples};

/// The way of Shoal's own samples into the store.
pub struct OwnSamples {
    store: Store,
    clock: Clock,
}

/// Samples of series that the store knows.
#[derive(Default)]
struct Columns {
    series: Vec<shoal_store::SeriesRef>,
    time_unix_ms: Vec<i64>,
    values: Vec<f64>,
}

impl OwnSamples {
    /// Writes into `store`, by `clock`.
    pub fn new(store: Store, clock: Clock) -> OwnSamples {
        OwnSamples { store, clock }
    }

    /// Finds the samples' series. Also returns the first reason why one is refused, with how many are.
    fn resolve(&self, tenant: TenantId, samples: &[OwnSample]) -> (Columns, usize, Option<String>) {
        let wanted = samples.iter().map(|sample| {
            let meta = SeriesMeta {
                kind: sample.kind,
                unit: "".into(),
                owner: sample.owner.clone(),
            };
            (sample.labels.clone(), meta)
        });
        let (mut columns, mut refused, mut reason) = (Columns::default(), 0, None);
        let found = self.store.resolve_all(tenant, wanted);
        for (sample, found) in samples.iter().zip(found) {
            match found {
                Ok(series) => {
                    columns.series.push(series);
                    columns.time_unix_ms.push(sample.at.0);
                    columns.values.push(sample.value);
                }
                Err(reached) => {
                    refused += 1;
                    reason.get_or_insert_with(|| reached.to_string());
                }
            }
        }
        (columns, refused, reason)
    }
}

#[async_trait]
impl WriteSamples for OwnSamples {
    /// Those of a batch that can be written are, even when others are refused.
    async fn write(&self, tenant: TenantId, samples: Vec<OwnSample>) -> Result<(), WriteError> {
        let (columns, mut refused, mut reason) = self.resolve(tenant, &samples);
        let columns = Samples {
            series: &columns.series,
            time_unix_ms: &columns.time_unix_ms,
            values: &columns.values,
        };
        let appended = self.store.append(tenant, &columns, self.clock.now()).await;
        let committed = appended.map_err(|error| match error {
            AppendError::TooLarge { .. } => WriteError::Refused(error.to_string()),
            error => WriteError::Unavailable(error.into()),
        })?;
        let late = committed.rejected.total() as usize;
        if late > 0 {
            refused += late;
            reason.get_or_insert_with(|| "its time is too far from now".to_owned());
        }
        match reason {
            None => Ok(()),
            Some(reason) => Err(WriteError::Refused(format!(
                "{refused} of {} samples were not written: {reason}",
                samples.len()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use shoal_model::telemetry::MetricKind;
    use shoal_model::usage::{Meter, Owner};
    use shoal_model::{Labels, Timestamp};
    use shoal_store::{MemoryCatalog, StoreOptions, TenantLimits};

    use super::*;

    const NOW: Timestamp = Timestamp(1_795_478_400_000);
    const TENANT: TenantId = TenantId(3);

    fn sample(name: &str, owner: Option<Owner>, at: Timestamp) -> OwnSample {
        OwnSample {
            labels: Labels::from_pairs([("__name__", name)]),
            kind: MetricKind::Gauge,
            owner,
            at,
            value: 1.5,
        }
    }

    #[tokio::test]
    async fn own_samples_are_stored_and_cost_only_who_owns_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let catalog = Arc::new(MemoryCatalog::new());
        let options = StoreOptions::new(folder.path());
        let opened = Store::open(options, catalog.clone(), NOW).await;
        let (store, _) = opened.expect("opened");
        let own = OwnSamples::new(store.clone(), Clock::manual(NOW));
        let service = Some(Owner::Service("checks".to_owned()));
        let batch = vec![sample("free", None, NOW), sample("paid", service, NOW)];
        own.write(TENANT, batch).await.expect("written");
        let stored = store.select(TENANT, &[], 0, i64::MAX).expect("undamaged");
        assert_eq!(stored.series.len(), 2);
        assert_eq!(stored.series[0].values, [1.5]);
        store.flush_usage().await.expect("handed over");
        let usage: Vec<_> = catalog.usage(TENANT).into_iter().collect();
        assert_eq!(usage.len(), 1);
        assert_eq!(
            (usage[0].meter, usage[0].subject.as_str()),
            (Meter::MetricService, "checks")
        );

        store.set_limits(
            TENANT,
            TenantLimits {
                active_series_max: 2,
                ..TenantLimits::default()
            },
        );
        let late = NOW - Duration::from_secs(1000 * 86_400);
        let batch = vec![
            sample("new", None, NOW),
            sample("free", None, late),
            sample("free", None, NOW + Duration::from_secs(1)),
        ];
        let refused = own.write(TENANT, batch).await.expect_err("two are refused");
        let WriteError::Refused(text) = refused else {
            panic!("{refused}");
        };
        assert!(
            text.starts_with("2 of 3 samples were not written: \"new\""),
            "{text}"
        );
        let stored = store.select(TENANT, &[], 0, i64::MAX).expect("undamaged");
        assert_eq!(stored.series[0].times_ms.len(), 2, "the third is written");
    }
}
