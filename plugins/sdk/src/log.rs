//! Lines for the people who run or wrote the plugin: `shoal_sdk::log::info!("{n} hosts")`.
//!
//! The host keeps at most 64 KiB of lines for one call and 8,192 bytes of each; writing never fails and
//! never blocks. Outside of wasm lines go to the [`crate::double::FakeHost`].

pub use crate::bindings::check::shoal::plugin::log::Level;

/// Writes one line.
pub fn write(level: Level, message: &str) {
    #[cfg(target_arch = "wasm32")]
    crate::bindings::check::shoal::plugin::log::write(level, message);
    #[cfg(not(target_arch = "wasm32"))]
    crate::double::log(level, message);
}

#[doc(inline)]
pub use crate::{
    __log_debug as debug, __log_error as error, __log_info as info, __log_warn as warn,
};

/// Writes a line for the plugin's author; takes what `format!` takes.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_debug {
    ($($text:tt)*) => { $crate::log::write($crate::log::Level::Debug, &::std::format!($($text)*)) };
}

/// Writes a line about the normal course of events; takes what `format!` takes.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_info {
    ($($text:tt)*) => { $crate::log::write($crate::log::Level::Info, &::std::format!($($text)*)) };
}

/// Writes a line about something that the plugin worked around; takes what `format!` takes.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_warn {
    ($($text:tt)*) => { $crate::log::write($crate::log::Level::Warn, &::std::format!($($text)*)) };
}

/// Writes a line about something that made the call fail; takes what `format!` takes.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_error {
    ($($text:tt)*) => { $crate::log::write($crate::log::Level::Error, &::std::format!($($text)*)) };
}
