//! Channels: how people are told.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use crate::bindings::channel::exports::shoal::plugin::channel as wit;
use crate::{Context, Failure};

pub use wit::{Alert, Comparison, Monitor, Notification, Receipt, Severity, Trigger};

/// A plugin that tells people of a change of an alert.
pub trait Channel {
    /// The settings of the manifest's schema.
    type Settings: DeserializeOwned;

    /// Tells one notification, in a fresh instance, at least once; again after [`Failure::Retry`].
    ///
    /// Return a receipt only when the receiver said that it has it.
    ///
    /// # Errors
    /// Decides whether and when the host tries again.
    fn notify(
        ctx: &Context,
        notification: Notification,
        settings: Self::Settings,
    ) -> Result<Receipt, Failure>;
}

/// Exports a type that implements [`Channel`] and embeds `plugin.toml`. Once per crate.
#[macro_export]
macro_rules! export_channel {
    ($plugin:ty) => {
        $crate::export_as!(channel, $plugin);
    };
}

/// What the macro exports: reads the settings, then calls the plugin.
#[doc(hidden)]
pub struct Exported<T>(PhantomData<T>);

impl<T: Channel> wit::Guest for Exported<T> {
    fn notify(
        ctx: Context,
        notification: Notification,
        settings: String,
    ) -> Result<Receipt, Failure> {
        T::notify(&ctx, notification, crate::parse_settings(&settings)?)
    }
}

#[doc(hidden)]
pub fn assert_is_exportable<T: Channel>() {
    let _ = <Exported<T> as wit::Guest>::notify;
}
