//! The operator's mail relay: one message, one SMTP conversation.
//!
//! TLS comes before anything else is said, unless the operator says otherwise. The password is in no log and no
//! message. What the relay refuses for good is the message's fault, but a relay that refuses this server is the operator's to
//! mend, and the message waits.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::{Error, response::Response};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use percent_encoding::percent_decode_str;
use shoal_runtime::{Mail, MailError, MailRelay};

use crate::clock::Clock;
use crate::config::{MailConfig, MailTls};

/// Longest wait for one answer of the relay; the call that sends has ten seconds in all.
const ANSWER_MAX: Duration = Duration::from_secs(8);
/// Largest password file; a password is a line.
const PASSWORD_MAX_BYTES: u64 = 4096;

/// Answers that say "not you", whatever the message is: authentication is needed, too weak, wrong, or asks for TLS.
const ABOUT_US: [u16; 4] = [530, 534, 535, 538];

/// Sends through the relay of `[mail]`.
pub struct SmtpRelay {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    /// `host:port`, for people.
    name: String,
    from: Mailbox,
    clock: Clock,
}

impl SmtpRelay {
    /// The relay that the operator set; `None` when there is none.
    ///
    /// # Errors
    /// A key of `[mail]` that makes no sense, by name, or a password file that cannot be read.
    pub fn open(config: &MailConfig, clock: Clock) -> Result<Option<SmtpRelay>> {
        let (relay, from) = match (&config.relay, &config.from) {
            (None, None) => return Ok(None),
            (Some(relay), Some(from)) => (relay, from),
            (Some(_), None) => bail!("[mail] relay is set and [mail] from is not: say who writes"),
            (None, Some(_)) => bail!("[mail] from is set and [mail] relay is not: say who sends"),
        };
        let relay = Relay::parse(relay).context("[mail] relay")?;
        let from: Mailbox = from.parse().with_context(|| {
            format!("[mail] from: {from:?} is not an address such as Shoal <shoal@example.com>")
        })?;
        let domain = from.email.domain().to_owned();
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&relay.host)
            .port(relay.port)
            .tls(relay.tls(config.tls)?)
            .timeout(Some(ANSWER_MAX))
            .hello_name(ClientId::Domain(domain));
        if let Some(user) = &relay.user {
            let password = password(config)?;
            transport = transport.credentials(Credentials::new(user.clone(), password));
        }
        Ok(Some(SmtpRelay {
            transport: transport.build(),
            name: format!("{}:{}", relay.host, relay.port),
            from,
            clock,
        }))
    }

    fn message(&self, mail: Mail) -> Result<Message, String> {
        let now = Duration::from_millis(u64::try_from(self.clock.now().unix_ms()).unwrap_or(0));
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(mail.subject)
            .date(SystemTime::UNIX_EPOCH + now)
            .message_id(Some(format!("<{}@{}>", mail.key, self.from.email.domain())))
            // So that nobody's "I am on holiday" answers.
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ));
        for to in mail.to {
            let address = to
                .parse()
                .map_err(|_| format!("{to:?} is not an address"))?;
            message = message.to(Mailbox::new(None, address));
        }
        let message = match mail.html {
            Some(html) => message.multipart(MultiPart::alternative_plain_html(mail.text, html)),
            None => message.singlepart(SinglePart::plain(mail.text)),
        };
        message.map_err(|error| error.to_string())
    }

    /// Whose fault it is.
    fn refused(&self, error: &Error) -> MailError {
        let status = error.status().map(u16::from);
        let why = format!("the relay {}: {error}", self.name);
        let is_about_us = status.is_some_and(|status| ABOUT_US.contains(&status));
        if error.is_permanent() && !is_about_us {
            return MailError::Rejected(why);
        }
        if status.is_none() || is_about_us {
            tracing::warn!(relay = self.name, %error, "mail cannot be sent; look at [mail] in the configuration");
        }
        MailError::Retry(why)
    }
}

#[async_trait]
impl MailRelay for SmtpRelay {
    async fn send(&self, mail: Mail) -> Result<String, MailError> {
        let message = self.message(mail).map_err(MailError::Rejected)?;
        let answer = self.transport.send(message).await;
        answer.map(said).map_err(|error| self.refused(&error))
    }
}

fn said(answer: Response) -> String {
    let line = answer.first_line().unwrap_or_default();
    format!("{} {line}", answer.code())
}

/// `smtp://user@host:587`, read.
#[derive(Debug, PartialEq, Eq)]
struct Relay {
    is_smtps: bool,
    user: Option<String>,
    host: String,
    port: u16,
}

impl Relay {
    fn parse(url: &str) -> Result<Relay> {
        let wanted = "give smtp://host, smtp://user@host:587 or smtps://user@host:465";
        let Ok(uri) = url.parse::<http::Uri>() else {
            // Not shown: it may hold a password.
            bail!("is not a URL; {wanted}");
        };
        let is_smtps = match uri.scheme_str() {
            Some("smtp") => false,
            Some("smtps") => true,
            _ => bail!("is neither smtp:// nor smtps://; {wanted}"),
        };
        let Some(authority) = uri.authority() else {
            bail!("names no host; {wanted}");
        };
        let user = authority.as_str().rsplit_once('@').map(|(user, _)| user);
        if user.is_some_and(|user| user.contains(':')) {
            bail!(
                "holds a password, which belongs in [mail] password_file or SHOAL_MAIL_PASSWORD; {wanted}"
            );
        }
        let user = user.map(|user| percent_decode_str(user).decode_utf8_lossy().into_owned());
        Ok(Relay {
            is_smtps,
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(match (is_smtps, &user) {
                (true, _) => 465,
                (false, Some(_)) => 587,
                (false, None) => 25,
            }),
            user,
        })
    }

    fn tls(&self, wanted: MailTls) -> Result<Tls> {
        let parameters = || {
            let trusted = TlsParameters::new(self.host.clone());
            trusted.with_context(|| format!("no TLS with {:?}", self.host))
        };
        Ok(match (self.is_smtps, wanted) {
            (true, MailTls::Required) => Tls::Wrapper(parameters()?),
            (true, MailTls::None) => {
                bail!("[mail] tls is \"none\" and relay begins with smtps://: choose one")
            }
            (false, MailTls::Required) => Tls::Required(parameters()?),
            (false, MailTls::None) if self.user.is_some() && !self.is_this_machine() => bail!(
                "[mail] tls is \"none\", and the password of {:?} would cross the network readable",
                self.host
            ),
            (false, MailTls::None) => Tls::None,
        })
    }

    fn is_this_machine(&self) -> bool {
        let ip = self.host.parse::<IpAddr>();
        self.host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    }
}

fn password(config: &MailConfig) -> Result<String> {
    use std::io::Read as _;
    if let Some(password) = &config.password {
        return Ok(password.reveal().to_owned());
    }
    let Some(path) = &config.password_file else {
        bail!(
            "[mail] relay names a user: give the password in [mail] password_file or SHOAL_MAIL_PASSWORD"
        );
    };
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(PASSWORD_MAX_BYTES).read_to_string(&mut text))
        .with_context(|| format!("cannot read [mail] password_file {}", path.display()))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        bail!("[mail] password_file {} is empty", path.display());
    }
    Ok(password.to_owned())
}

#[cfg(test)]
mod tests;
