//! A billing rule that does nothing: what a call of it takes is what calls take.

use shoal_sdk::Failure;
use shoal_sdk::billing_rule::{BillingRule, Statement, Terms, Usage};

struct Small;

#[derive(serde::Deserialize)]
struct Settings {}

impl BillingRule for Small {
    type Settings = Settings;

    fn rate(_: &Usage, _: &Terms, _: Settings) -> Result<Statement, Failure> {
        Ok(Statement { lines: Vec::new() })
    }
}

shoal_sdk::export_billing_rule!(Small);
