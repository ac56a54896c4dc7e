//! The job `rate-statements`: every hour, every tenant's month so far, priced and recorded.
//!
//! In the first hours of a month it also prices the month before, whose last hours close only then. A tenant's failing
//! rule is the tenant's and operator's to mend: it counts as failed, and the next hour tries again.

use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use shoal_model::Timestamp;
use shoal_model::time::Month;

use super::statement::{self, Hours, Recorded};
use crate::app::App;
use crate::db::tenants::Tenant;
use crate::jobs::{Job, TenantCount};

/// After the hour was closed, which a few thousand tenants take this long at most.
const DELAY: Duration = Duration::from_secs(180);
/// How long into a month the one before is priced too: longer than an outage that nobody notices.
const PREVIOUS_FOR: Duration = Duration::from_secs(24 * 3600);

/// Prices months.
pub struct RateStatements;

#[async_trait]
impl Job for RateStatements {
    fn name(&self) -> &'static str {
        "rate-statements"
    }

    fn summary(&self) -> &'static str {
        "Prices the month so far of every tenant that has a billing rule, and records the statement"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(3600)
    }

    fn delay(&self) -> Duration {
        DELAY
    }

    async fn run(&self, app: &App, scheduled: Timestamp) -> Result<Vec<TenantCount>> {
        let mut counts = Vec::new();
        for tenant in app.db.system().tenants().await? {
            if !statement::has_rule(app, tenant.id()) {
                continue;
            }
            for month in months(scheduled) {
                counts.push(rate(app, &tenant, month).await);
            }
        }
        Ok(counts)
    }
}

/// The months that a run prices, the older one first.
fn months(scheduled: Timestamp) -> Vec<Month> {
    let mut months = vec![Month::of(scheduled - PREVIOUS_FOR), Month::of(scheduled)];
    months.dedup();
    months
}

/// One month of one tenant: processed when it is new, skipped when the same was recorded before.
async fn rate(app: &App, tenant: &Tenant, month: Month) -> TenantCount {
    let mut count = TenantCount::none(tenant.id());
    count.expected = 1;
    match record(app, tenant, month).await {
        Ok(Recorded::New) => count.processed = 1,
        Ok(Recorded::Same) => count.skipped = 1,
        Ok(Recorded::Differs) => count.failed = 1,
        Err(error) => {
            count.failed = 1;
            tracing::warn!(
                tenant.id = tenant.id,
                statement.month = %month,
                error = format!("{error:#}"),
                "a month could not be priced; the next run tries again"
            );
        }
    }
    count
}

async fn record(app: &App, tenant: &Tenant, month: Month) -> Result<Recorded> {
    let db = app.db.tenant(tenant.id());
    let rated = statement::rate(app, &db, tenant, month, Hours::Closed).await?;
    Ok(statement::record(app, &db, &rated).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::testing::hour;

    #[test]
    fn the_first_day_of_a_month_prices_the_month_before_too() {
        let shown = |at: i64| -> Vec<String> {
            months(hour(at).start())
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        assert_eq!(shown(0), ["2026-10", "2026-11"]);
        assert_eq!(shown(23), ["2026-10", "2026-11"]);
        assert_eq!(shown(24), ["2026-11"]);
        assert_eq!(shown(720), ["2026-11", "2026-12"]);
    }
}
