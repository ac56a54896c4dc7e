//! Receivers: how telemetry comes in.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use crate::bindings::receiver::exports::shoal::plugin::receiver as wit;
use crate::{Context, Failure};

pub use wit::{Request, Response, Transport};

/// A plugin that serves requests and hands what it decoded to [`crate::ingest`].
pub trait Receiver {
    /// The settings of the manifest's schema.
    type Settings: DeserializeOwned;

    /// Serves one request, already authenticated and decompressed by the host.
    ///
    /// The instance may serve further requests of the same tenant; keep nothing that must survive.
    ///
    /// # Errors
    /// Becomes an error in the client's protocol: `rejected` 400 / INVALID_ARGUMENT, `retry` 503 /
    /// UNAVAILABLE with the delay, `unauthenticated` 401 / UNAUTHENTICATED.
    fn receive(
        ctx: &Context,
        request: Request,
        settings: Self::Settings,
    ) -> Result<Response, Failure>;
}

/// Exports a type that implements [`Receiver`] and embeds `plugin.toml`. Once per crate.
#[macro_export]
macro_rules! export_receiver {
    ($plugin:ty) => {
        $crate::export_as!(receiver, $plugin);
    };
}

/// What the macro exports: reads the settings, then calls the plugin.
#[doc(hidden)]
pub struct Exported<T>(PhantomData<T>);

impl<T: Receiver> wit::Guest for Exported<T> {
    fn receive(ctx: Context, request: Request, settings: String) -> Result<Response, Failure> {
        T::receive(&ctx, request, crate::parse_settings(&settings)?)
    }
}

#[doc(hidden)]
pub fn assert_is_exportable<T: Receiver>() {
    let _ = <Exported<T> as wit::Guest>::receive;
}
