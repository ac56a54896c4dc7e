//! Checks: how a target is probed.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use crate::bindings::check::exports::shoal::plugin::check as wit;
use crate::{Context, Failure};

pub use wit::{Measurement, Outcome, Status};

/// A plugin that probes the target its settings name.
pub trait Check {
    /// The settings of the manifest's schema.
    type Settings: DeserializeOwned;

    /// Probes once, in a fresh instance.
    ///
    /// # Errors
    /// Only when the check itself could not run; a target that is down is an [`Outcome`]. The alert stays
    /// as it is then.
    fn run(ctx: &Context, settings: Self::Settings) -> Result<Outcome, Failure>;
}

impl Outcome {
    /// As it should be.
    pub fn ok(summary: impl Into<String>) -> Outcome {
        Outcome::new(Status::Ok, summary)
    }

    /// Any status, without measurements.
    pub fn new(status: Status, summary: impl Into<String>) -> Outcome {
        Outcome {
            status,
            summary: summary.into(),
            measurements: Vec::new(),
        }
    }

    /// Adds a number without labels; the host keeps at most 100.
    pub fn measure(mut self, name: &str, value: f64) -> Outcome {
        self.measurements.push(Measurement {
            name: name.to_owned(),
            value,
            labels: Vec::new(),
        });
        self
    }

    /// The value measured under `name`, for tests.
    pub fn value(&self, name: &str) -> Option<f64> {
        let found = self.measurements.iter().find(|m| m.name == name)?;
        Some(found.value)
    }
}

/// Exports a type that implements [`Check`] and embeds `plugin.toml`. Once per crate.
#[macro_export]
macro_rules! export_check {
    ($plugin:ty) => {
        $crate::export_as!(check, $plugin);
    };
}

/// What the macro exports: reads the settings, then calls the plugin.
#[doc(hidden)]
pub struct Exported<T>(PhantomData<T>);

impl<T: Check> wit::Guest for Exported<T> {
    fn run(ctx: Context, settings: String) -> Result<Outcome, Failure> {
        T::run(&ctx, crate::parse_settings(&settings)?)
    }
}

#[doc(hidden)]
pub fn assert_is_exportable<T: Check>() {
    let _ = <Exported<T> as wit::Guest>::run;
}
