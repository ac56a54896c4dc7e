//! Secrets that a guest works with and never sees. See `wit/secrets.wit` and docs/decisions/secret-references.md.
//!
//! The settings that a guest is given hold a reference in place of each secret. On the way out ([`outgoing`]) the host
//! puts the secret where a reference stands, if the place and the destination are granted, and refuses a request with a
//! reference anywhere else. What comes back, and what a guest says, is searched for the secret ([`scrub`]).

pub(crate) mod live;
mod needles;
pub(crate) mod outgoing;
mod scrub;
pub(crate) mod veil;

#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use memchr::memmem;
use serde_json::Value;
use sha2::Sha256;
use shoal_model::InstallationId;
use shoal_model::grant::{Capability, Grants, SecretPlace};

use crate::bindings::shoal::plugin::secrets as wit;
use crate::egress::allow::{BadDestination, Opened};
use crate::egress::target::Target;
use crate::secrets::live::Live;
use crate::secrets::scrub::Scrubber;
use crate::settings::{Settings, SettingsSchema};
use crate::state::State;

/// Shortest secret: a shorter one would be found by chance in what a plugin says, and by trying.
pub const SECRET_MIN_BYTES: usize = 6;
/// Longest secret: a private key in PEM. Every form of it is looked for in every answer.
pub const SECRET_MAX_BYTES: usize = 4096;
/// Characters of a reference that are random: 128 bits.
const RANDOM_CHARS: usize = 32;
/// Characters of a setting's name in its reference.
const NAME_MAX_CHARS: usize = 40;

/// From what a process makes references. Nobody outside it can tell one.
pub(crate) struct ReferenceKey([u8; 32]);

impl ReferenceKey {
    /// A new one, for as long as the process lives.
    pub(crate) fn random() -> ReferenceKey {
        let mut key = [0; 32];
        let provider = rustls::crypto::ring::default_provider();
        provider
            .secure_random
            .fill(&mut key)
            .expect("the operating system has randomness");
        ReferenceKey(key)
    }

    /// What stands for a secret: the same for an installation as long as the process lives, whatever version it runs.
    fn token(&self, installation: &InstallationId, setting: &str) -> String {
        let mut mac = hmac(&self.0);
        mac.update(installation.as_str().as_bytes());
        mac.update(&[0]);
        mac.update(setting.as_bytes());
        let random: String = mac
            .finalize()
            .into_bytes()
            .iter()
            .take(RANDOM_CHARS / 2)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let name: String = setting
            .chars()
            .take(NAME_MAX_CHARS)
            .map(|c| if is_plain(c) { c } else { '-' })
            .collect();
        format!("shoal-secret-{name}-{random}")
    }
}

/// A secret cannot be used like this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadSecret {
    pub(crate) setting: String,
    /// What is wrong, without the secret.
    pub(crate) reason: String,
}

/// All secrets of an installation.
#[derive(Default)]
pub(crate) struct Secrets {
    list: Vec<Secret>,
    scrubber: Scrubber,
}

/// One secret and where it may go.
struct Secret {
    setting: String,
    value: String,
    /// What is unguessable in the reference.
    token: String,
    /// What the guest is given.
    reference: String,
    /// Path and query of a secret that is a URL: what its token stands for.
    path: Option<String>,
    uses: Vec<(SecretPlace, Opened)>,
    may_sign: bool,
}

impl Secrets {
    /// The secrets among some settings, with what was granted for them.
    pub(crate) fn new(
        schema: &SettingsSchema,
        settings: &Settings,
        grants: &Grants,
        key: &ReferenceKey,
        installation: &InstallationId,
    ) -> Result<Secrets, BadSecret> {
        let mut list = Vec::new();
        for setting in schema.secrets() {
            let Some(value) = settings.get(setting).and_then(Value::as_str) else {
                continue;
            };
            let token = key.token(installation, setting);
            let is_url = schema.is_url(setting);
            let secret = Secret::new(setting, value, token, is_url).and_then(|secret| {
                secret
                    .granted(grants, settings)
                    .map_err(|BadDestination { what, reason }| format!("{reason} ({what})"))
            });
            list.push(secret.map_err(|reason| BadSecret {
                setting: setting.clone(),
                reason,
            })?);
        }
        Ok(Secrets {
            scrubber: Scrubber::new(list.iter().flat_map(Secret::needles)),
            list,
        })
    }

    /// One secret, in a setting `token`, with nothing granted; and its reference.
    #[cfg(test)]
    pub(crate) fn of_test(value: &str) -> (Secrets, String) {
        let token = ReferenceKey([1; 32]).token(&InstallationId::from_random([7; 10]), "token");
        let list = vec![Secret::veiled("token", value, token.clone())];
        let scrubber = Scrubber::new(list.iter().flat_map(Secret::needles));
        (Secrets { list, scrubber }, token)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The first that was granted no place at all.
    pub(crate) fn useless(&self) -> Option<&str> {
        let mut list = self.list.iter();
        let useless = list.find(|secret| secret.uses.is_empty() && !secret.may_sign)?;
        Some(&useless.setting)
    }

    /// The settings as the guest is given them, JSON.
    pub(crate) fn hide(&self, settings: &Settings) -> String {
        if self.is_empty() {
            return settings.to_json();
        }
        let mut shown = settings.as_map().clone();
        for secret in &self.list {
            shown.insert(secret.setting.clone(), secret.reference.as_str().into());
        }
        Value::Object(shown).to_string()
    }

    /// The first secret whose reference is in some bytes.
    pub(crate) fn mentioned_in(&self, bytes: &[u8]) -> Option<&str> {
        let mut list = self.list.iter();
        let found = list.find(|secret| memmem::find(bytes, secret.token.as_bytes()).is_some());
        found.map(|secret| secret.setting.as_str())
    }

    /// Covers secrets in what comes in over one connection.
    pub(crate) fn live(&self) -> Live {
        Live::new(&self.scrubber)
    }

    /// Hides secrets in what a plugin says.
    pub(crate) fn redact(&self, text: String) -> String {
        self.scrubber.redact(text)
    }
}

impl Secret {
    fn new(setting: &str, value: &str, token: String, is_url: bool) -> Result<Secret, String> {
        let size = value.len();
        if !(SECRET_MIN_BYTES..=SECRET_MAX_BYTES).contains(&size) {
            return Err(format!(
                "has {size} bytes; a secret has {SECRET_MIN_BYTES} to {SECRET_MAX_BYTES}, so that it can be kept out of logs and answers"
            ));
        }
        let mut secret = Secret {
            setting: setting.to_owned(),
            value: value.to_owned(),
            reference: token.clone(),
            token,
            path: None,
            uses: Vec::new(),
            may_sign: false,
        };
        if is_url {
            Target::of_url(value)?;
            let uri: http::Uri = value.parse().map_err(|_| "is not a URL".to_owned())?;
            let (scheme, host) = (uri.scheme_str(), uri.authority());
            let (Some(scheme), Some(host)) = (scheme, host) else {
                return Err("is not a URL with a host".to_owned());
            };
            secret.reference = format!("{scheme}://{host}/{}", secret.token);
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            secret.path = Some(path.to_owned());
        }
        Ok(secret)
    }

    /// For whom nothing is granted; of any size.
    fn veiled(setting: &str, value: &str, token: String) -> Secret {
        let is_url = Target::of_url(value).is_ok();
        let made = Secret::new(setting, value, token.clone(), is_url);
        made.unwrap_or_else(|_| Secret {
            setting: setting.to_owned(),
            value: value.to_owned(),
            reference: token.clone(),
            token,
            path: None,
            uses: Vec::new(),
            may_sign: false,
        })
    }

    fn granted(mut self, grants: &Grants, settings: &Settings) -> Result<Secret, BadDestination> {
        for capability in &grants.0 {
            let Capability::Secret { setting, place, to } = capability else {
                continue;
            };
            if *setting != self.setting {
                continue;
            }
            self.may_sign |= *place == SecretPlace::Hmac;
            if let Some(to) = to {
                self.uses
                    .push((place.clone(), Opened::over_http(to, settings)?));
            }
        }
        Ok(self)
    }

    /// Every form in which it may show up.
    fn needles(&self) -> Vec<Vec<u8>> {
        match &self.path {
            None => needles::of_text(&self.value),
            Some(path) => needles::of_url(&self.value, path),
        }
    }

    fn sign(&self, encoding: wit::KeyEncoding, data: &[u8]) -> Result<Vec<u8>, wit::SecretError> {
        let key = match encoding {
            wit::KeyEncoding::Text => self.value.as_bytes().to_vec(),
            wit::KeyEncoding::Base64 => {
                // No letter of this alphabet is '_', so a prefix cannot be mistaken.
                let text = self.value.rsplit('_').next().unwrap_or_default();
                BASE64.decode(text).map_err(|_| {
                    wit::SecretError::Malformed(format!(
                        "setting {} is not base64, with or without a prefix such as whsec_",
                        self.setting
                    ))
                })?
            }
        };
        let mut mac = hmac(&key);
        mac.update(data);
        Ok(mac.finalize().into_bytes().to_vec())
    }
}

fn hmac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

impl wit::Host for State {
    fn hmac_sha256(
        &mut self,
        reference: String,
        encoding: wit::KeyEncoding,
        data: Vec<u8>,
    ) -> Result<Vec<u8>, wit::SecretError> {
        let mut list = self.provided.secrets.list.iter();
        let signed = match list.find(|secret| secret.reference == reference) {
            None => Err(wit::SecretError::Denied(
                "this is the reference of no secret: give what the settings hold".to_owned(),
            )),
            Some(secret) if !secret.may_sign => Err(wit::SecretError::Denied(format!(
                "`secret {} hmac` is not granted: the manifest asks for it with places = [\"hmac\"]",
                secret.setting
            ))),
            Some(secret) => secret.sign(encoding, &data),
        };
        if let Err(wit::SecretError::Denied(why) | wit::SecretError::Malformed(why)) = &signed {
            self.log().remark(format!("nothing was signed: {why}"));
        }
        signed
    }
}
