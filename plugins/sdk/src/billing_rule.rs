//! Billing rules: how usage becomes a statement.
//!
//! They run in a deterministic engine: the clock stands at the end of the period and the same input
//! always gives the same output.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use crate::Failure;
use crate::bindings::billing_rule::exports::shoal::plugin::billing_rule as wit;
use crate::decimal::{Decimal, OutOfRange};

pub use wit::{Line, MeterUsage, Period, Statement, SubjectUsage, Usage};

/// What was agreed, beside the settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// ISO 4217 code, such as `JPY`.
    pub currency: String,
    /// Digits after the point that an amount may have: 0 for JPY, 2 for USD.
    pub currency_digits: u8,
}

/// A plugin that prices the usage of one tenant and month.
pub trait BillingRule {
    /// The settings of the manifest's schema: prices and allowances.
    type Settings: DeserializeOwned;

    /// Prices usage, in a fresh instance, as often as anybody looks.
    ///
    /// # Errors
    /// The statement stays as it was and the operator is told.
    fn rate(usage: &Usage, terms: &Terms, settings: Self::Settings) -> Result<Statement, Failure>;
}

impl Line {
    /// A line whose amount is `quantity` times `unit_price`, rounded half up to the currency's digits.
    ///
    /// # Errors
    /// [`OutOfRange`].
    pub fn new(
        description: impl Into<String>,
        meter: &str,
        quantity: Decimal,
        unit_price: Decimal,
        terms: &Terms,
    ) -> Result<Line, OutOfRange> {
        Ok(Line {
            description: description.into(),
            meter: meter.to_owned(),
            quantity: quantity.into(),
            unit_price: unit_price.into(),
            amount: quantity.multiply(unit_price, terms.currency_digits)?.into(),
        })
    }
}

/// Exports a type that implements [`BillingRule`] and embeds `plugin.toml`. Once per crate.
#[macro_export]
macro_rules! export_billing_rule {
    ($plugin:ty) => {
        $crate::export_as!(billing_rule, $plugin);
    };
}

/// What the macro exports: reads the settings, then calls the plugin.
#[doc(hidden)]
pub struct Exported<T>(PhantomData<T>);

impl<T: BillingRule> wit::Guest for Exported<T> {
    fn rate(usage: Usage, terms: wit::Terms) -> Result<Statement, Failure> {
        let settings = crate::parse_settings(&terms.settings)?;
        let terms = Terms {
            currency: terms.currency,
            currency_digits: terms.currency_digits,
        };
        T::rate(&usage, &terms, settings)
    }
}

#[doc(hidden)]
pub fn assert_is_exportable<T: BillingRule>() {
    let _ = <Exported<T> as wit::Guest>::rate;
}
