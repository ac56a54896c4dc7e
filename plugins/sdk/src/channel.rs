//! Channels: how people are told.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use crate::bindings::channel::exports::shoal::plugin::channel as wit;
use crate::http::Response;
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

/// Characters of a refusal's body that are told: an API's error text fits.
const EXCERPT_MAX_CHARS: usize = 200;

impl Receipt {
    /// What an answer to a delivery over HTTP means, as most receivers mean it.
    ///
    /// # Errors
    /// 401 and 403 are [`Failure::Unauthenticated`]; 408, 425, 429 and 5xx are [`Failure::Retry`], not
    /// earlier than `Retry-After` says; everything else but 2xx is [`Failure::Rejected`]. The message quotes
    /// the beginning of the answer.
    pub fn from_response(response: &Response) -> Result<Receipt, Failure> {
        let status = response.status();
        let message = refusal(response);
        match status {
            200..=299 => Ok(Receipt {
                summary: status.to_string(),
            }),
            401 | 403 => Err(Failure::unauthenticated("peer-refused", message)),
            408 | 425 | 429 | 500..=599 => Err(match response.retry_after() {
                Some(after) => Failure::retry_after("peer-busy", message, after),
                None => Failure::retry("peer-busy", message),
            }),
            _ => Err(Failure::rejected("peer-refused", message)),
        }
    }
}

fn refusal(response: &Response) -> String {
    let status = response.status();
    if let (300..=399, Some(to)) = (status, response.header("location")) {
        return format!("the receiver answered {status}: it has moved to {to:?}; set that address");
    }
    let excerpt: String = response.text().chars().take(EXCERPT_MAX_CHARS).collect();
    match excerpt.trim() {
        "" => format!("the receiver answered {status}"),
        excerpt => format!("the receiver answered {status}: {excerpt}"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let outcome = |status| Receipt::from_response(&Response::new(status));
        for status in [200, 202, 204] {
            assert!(outcome(status).is_ok(), "{status}");
        }
        for status in [408, 425, 429, 500, 503] {
            assert!(
                matches!(outcome(status), Err(Failure::Retry(_))),
                "{status}"
            );
        }
        for status in [401, 403] {
            assert!(
                matches!(outcome(status), Err(Failure::Unauthenticated(_))),
                "{status}"
            );
        }
        for status in [301, 400, 404, 410] {
            assert!(
                matches!(outcome(status), Err(Failure::Rejected(_))),
                "{status}"
            );
        }
    }

    #[test]
    fn a_receiver_says_when_to_come_back() {
        let busy = Response::new(429).with_header("Retry-After", "7");
        let Err(Failure::Retry(retry)) = Receipt::from_response(&busy) else {
            panic!("no retry")
        };
        assert_eq!(retry.after_ms, Some(7000));
    }

    #[test]
    fn a_refusal_quotes_the_answer() {
        let long = Response::new(400).with_body(format!("no such field: {}", "x".repeat(1000)));
        let failure = Receipt::from_response(&long).expect_err("refused");
        assert!(
            failure
                .message()
                .starts_with("the receiver answered 400: no such field: xxx")
        );
        assert!(failure.message().len() < 300);
        let moved = Response::new(301).with_header("location", "https://new.example/");
        let failure = Receipt::from_response(&moved).expect_err("refused");
        assert_eq!(
            failure.message(),
            "the receiver answered 301: it has moved to \"https://new.example/\"; set that address"
        );
    }
}
