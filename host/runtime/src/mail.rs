//! Mail through the operator's relay. See `wit/mail.wit`.
//!
//! Nothing that a guest writes becomes a header but the subject, and that without line breaks. Addresses are plain and
//! granted; who speaks SMTP is the server.

use std::collections::BTreeSet;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use shoal_model::grant::{Capability, Grants, Recipient};

use crate::bindings::shoal::plugin::mail as wit;
use crate::call::cut;
use crate::settings::Settings;
use crate::state::State;

/// Recipients of one message: a team, not a mailing list.
pub const RECIPIENTS_MAX: usize = 50;
/// Longest address. Source: RFC 5321, 4.5.3.1.3, without the angle brackets.
const ADDRESS_MAX_BYTES: usize = 254;
/// Longest local part. Source: RFC 5321, 4.5.3.1.1.
const LOCAL_MAX_BYTES: usize = 64;
/// Longest subject: what people see of one, four times over.
const SUBJECT_MAX_BYTES: usize = 400;
/// Longest text, and longest HTML.
const BODY_MAX_BYTES: usize = 256 << 10;
/// Messages of one call; a plugin that tells fifty people one by one needs no more.
const MAILS_MAX: u32 = 100;
/// What is kept of a relay's answer.
const ANSWER_MAX_BYTES: usize = 512;

/// A message that may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Plain addresses, 1 to [`RECIPIENTS_MAX`], each granted.
    pub to: Vec<String>,
    /// One line.
    pub subject: String,
    /// The text.
    pub text: String,
    /// The same as HTML.
    pub html: Option<String>,
    /// Names the message: the same for every attempt to send it, for the left side of a Message-ID.
    pub key: String,
}

/// The operator's way of sending mail. Implemented by the server, and by tools and tests.
#[async_trait]
pub trait MailRelay: Send + Sync {
    /// Hands a message over for all its recipients; returns what the relay answered.
    ///
    /// # Errors
    /// Nobody gets it.
    async fn send(&self, mail: Mail) -> Result<String, MailError>;
}

/// Why a message was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// The relay refuses it for good.
    #[error("{0}")]
    Rejected(String),
    /// It may pass.
    #[error("{0}")]
    Retry(String),
}

/// Takes mail and sends none: for tools and tests.
#[derive(Default)]
pub struct MemoryRelay(Mutex<Vec<Mail>>);

impl MemoryRelay {
    /// What was handed over, in order.
    pub fn taken(&self) -> Vec<Mail> {
        self.0.lock().clone()
    }
}

#[async_trait]
impl MailRelay for MemoryRelay {
    async fn send(&self, mail: Mail) -> Result<String, MailError> {
        self.0.lock().push(mail);
        Ok("taken and kept in memory".to_owned())
    }
}

/// To whom an installation may send mail; in small letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recipients {
    addresses: BTreeSet<String>,
    /// `@example.com`: everybody there.
    domains: BTreeSet<String>,
}

impl Recipients {
    /// The recipients of all grants, with settings looked up.
    ///
    /// # Errors
    /// The name of a setting that holds something else than an address, and why it is none.
    pub(crate) fn new(
        grants: &Grants,
        settings: &Settings,
    ) -> Result<Recipients, (String, String)> {
        let mut recipients = Recipients::default();
        for capability in &grants.0 {
            match capability {
                Capability::Mail(Recipient::Address(address)) => {
                    match address.strip_prefix('*') {
                        Some(domain) => recipients.domains.insert(domain.to_owned()),
                        None => recipients.addresses.insert(address.clone()),
                    };
                }
                Capability::Mail(Recipient::Setting(name)) => {
                    for address in addresses(settings.get(name)) {
                        check_address(address).map_err(|why| (name.clone(), why))?;
                        recipients.addresses.insert(address.to_ascii_lowercase());
                    }
                }
                _ => {}
            }
        }
        Ok(recipients)
    }

    fn allow(&self, address: &str) -> bool {
        let address = address.to_ascii_lowercase();
        let domain = address.rfind('@').map(|at| &address[at..]);
        self.addresses.contains(&address) || domain.is_some_and(|d| self.domains.contains(d))
    }
}

/// The addresses in a setting: one, or a list.
fn addresses(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Only what needs no quoting anywhere: neither names, comments, quoted local parts nor addresses of hosts.
fn check_address(address: &str) -> Result<(), String> {
    let is_local = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~.-".contains(&b);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let is_good = address.len() <= ADDRESS_MAX_BYTES
        && address.split_once('@').is_some_and(|(local, domain)| {
            (1..=LOCAL_MAX_BYTES).contains(&local.len())
                && local.bytes().all(is_local)
                && local.split('.').all(|part| !part.is_empty())
                && domain.split('.').all(is_label)
        });
    if is_good {
        return Ok(());
    }
    let shown = cut(address.to_owned(), 100);
    Err(format!(
        "{shown:?} is not an address such as ops@example.com"
    ))
}

fn check(message: &wit::Message) -> Result<(), String> {
    let wit::Message {
        to,
        subject,
        text,
        html,
    } = message;
    if to.is_empty() || to.len() > RECIPIENTS_MAX {
        return Err(format!(
            "a message has 1 to {RECIPIENTS_MAX} recipients; this one has {}",
            to.len()
        ));
    }
    to.iter().try_for_each(|address| check_address(address))?;
    if subject.len() > SUBJECT_MAX_BYTES {
        return Err(format!(
            "a subject has at most {SUBJECT_MAX_BYTES} bytes; this one has {}",
            subject.len()
        ));
    }
    if subject.chars().any(char::is_control) {
        return Err("the subject holds a line break or another control character".to_owned());
    }
    for (what, body) in [("text", Some(text)), ("HTML", html.as_ref())] {
        let body = body.map_or("", String::as_str);
        if body.len() > BODY_MAX_BYTES {
            return Err(format!(
                "the {what} has {} bytes, and at most {BODY_MAX_BYTES} are allowed",
                body.len()
            ));
        }
        if body.contains('\0') {
            return Err(format!("the {what} holds a NUL character"));
        }
    }
    Ok(())
}

impl State {
    /// What keeps a message from being sent.
    fn mail_denied(&mut self, message: &wit::Message) -> Result<(), wit::MailError> {
        let provided = &mut self.provided;
        check(message).map_err(wit::MailError::Invalid)?;
        if let Some(address) = message.to.iter().find(|to| !provided.recipients.allow(to)) {
            return Err(wit::MailError::Denied(format!(
                "{address} is not in the grant of this installation: ask whoever grants it"
            )));
        }
        let parts = [&message.subject, &message.text].into_iter();
        if let Some(setting) = parts
            .chain(&message.html)
            .find_map(|part| provided.secrets.mentioned_in(part.as_bytes()))
        {
            return Err(wit::MailError::Denied(format!(
                "the message holds the reference of secret {setting}, and no secret goes out by mail"
            )));
        }
        if provided.mails >= MAILS_MAX {
            return Err(wit::MailError::Denied(format!(
                "{MAILS_MAX} messages are the most that one call may send"
            )));
        }
        provided.mails += 1;
        Ok(())
    }
}

impl wit::Host for State {
    async fn send(&mut self, message: wit::Message) -> Result<String, wit::MailError> {
        if let Err(refused) = self.mail_denied(&message) {
            let (wit::MailError::Denied(why) | wit::MailError::Invalid(why)) = &refused else {
                return Err(refused);
            };
            self.log().remark(format!("a message was refused: {why}"));
            return Err(refused);
        }
        let Some(relay) = self.provided.services.mail.clone() else {
            let why = "mail can only be sent while a call is served";
            return Err(wit::MailError::Retry(why.to_owned()));
        };
        let mail = Mail {
            key: key(&self.provided.work, self.provided.mails),
            to: message.to,
            subject: message.subject,
            text: message.text,
            html: message.html,
        };
        let sent = self.meter.uncounted(relay.send(mail)).await;
        sent.map(|answer| cut(answer, ANSWER_MAX_BYTES))
            .map_err(|error| {
                self.log()
                    .remark(format!("a message was not sent: {error}"));
                match error {
                    MailError::Rejected(why) => wit::MailError::Rejected(why),
                    MailError::Retry(why) => wit::MailError::Retry(why),
                }
            })
    }
}

/// The same for the same message of the same work, and telling nothing of either.
fn key(work: &str, number: u32) -> String {
    let mut hash = Sha256::new();
    hash.update(b"shoal-mail-v1\0");
    hash.update(number.to_le_bytes());
    hash.update(work.as_bytes());
    let hash = hash.finalize();
    hash[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::SettingsSchema;
    use serde_json::{Map, json};

    fn recipients(grants: &[&str], to: Value) -> Result<Recipients, (String, String)> {
        let schema = SettingsSchema::parse(json!({
            "type": "object",
            "properties": {"to": {"type": "array", "items": {"type": "string"}}},
        }));
        let settings = schema
            .map(|schema| schema.validate(Map::from_iter([("to".to_owned(), to)])))
            .expect("a schema")
            .expect("settings");
        let grants: Grants = grants
            .iter()
            .map(|text| text.parse().expect(text))
            .collect();
        Recipients::new(&grants, &settings)
    }

    #[test]
    fn only_who_is_granted_gets_mail() {
        let to = json!(["Ann@Home.example"]);
        let grants = [
            "mail ops@example.com",
            "mail *@example.org",
            "mail setting:to",
        ];
        let allowed = recipients(&grants, to.clone()).expect("addresses");
        for (address, is_allowed) in [
            ("ops@example.com", true),
            ("OPS@example.com", true),
            ("ann@home.example", true),
            ("anybody@example.org", true),
            ("dev@example.com", false),
            ("a@sub.example.org", false),
            ("a@evilexample.org", false),
            ("example.org", false),
        ] {
            assert_eq!(allowed.allow(address), is_allowed, "{address}");
        }
        let none = recipients(&["kv"], to).expect("no addresses");
        assert!(!none.allow("ann@home.example"));
        let bad = recipients(&["mail setting:to"], json!(["a@b\r\nBcc: c@d"]));
        assert_eq!(bad.expect_err("refused").0, "to");
    }

    fn message(to: &str, subject: &str, text: &str) -> wit::Message {
        wit::Message {
            to: vec![to.to_owned()],
            subject: subject.to_owned(),
            text: text.to_owned(),
            html: None,
        }
    }

    #[test]
    fn nothing_becomes_a_header_that_is_none() {
        assert_eq!(
            check(&message("a@b.example", "ünïcode", "text\r\n.\r\n")),
            Ok(())
        );
        for to in [
            "a@b\r\nBcc: c@d.example",
            "a@b.example\n",
            "Ann <a@b.example>",
            "a@b.example, c@d.example",
            "a@b.example>",
            "\"a b\"@b.example",
            "a@[127.0.0.1]",
            "a@b@c",
            "a..b@c.example",
            "@b.example",
            "a@",
            "a@é.example",
            "",
        ] {
            let refused = check(&message(to, "s", "t")).expect_err(to);
            assert!(refused.contains("is not an address"), "{refused}");
        }
        for subject in ["a\r\nBcc: c@d.example", "a\nb", "a\rb", "a\0b", "a\u{85}b"] {
            assert!(
                check(&message("a@b.example", subject, "t")).is_err(),
                "{subject:?}"
            );
        }
        assert!(check(&message("a@b.example", "s", "a\0b")).is_err());
    }

    #[test]
    fn a_message_has_bounds() {
        let many = |count: usize| wit::Message {
            to: vec!["a@b.example".to_owned(); count],
            ..message("", "s", "t")
        };
        assert!(check(&many(0)).is_err());
        assert_eq!(check(&many(RECIPIENTS_MAX)), Ok(()));
        assert!(check(&many(RECIPIENTS_MAX + 1)).is_err());
        let long = "x".repeat(BODY_MAX_BYTES + 1);
        assert!(check(&message("a@b.example", "s", &long)).is_err());
        assert!(check(&message("a@b.example", &long[..SUBJECT_MAX_BYTES + 1], "t")).is_err());
    }

    #[test]
    fn an_attempt_that_is_repeated_has_the_same_key() {
        assert_eq!(key("ntf_1-3", 1), key("ntf_1-3", 1));
        assert_ne!(key("ntf_1-3", 1), key("ntf_1-3", 2));
        assert_ne!(key("ntf_1-3", 1), key("ntf_1-4", 1));
    }
}
