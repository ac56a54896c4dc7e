//! What an operator can set, where it comes from, and what it is when nobody sets it.
//!
//! A flag wins over an environment variable (`SHOAL_…`), that over the file given with `--config`, that over
//! the default. A key that the file should not have is an error, because a typo must not pass for a default.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::limits::LimitsByKind;

/// The settings of one process, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where Shoal keeps its files.
    pub data: PathBuf,
    /// `sqlite:<path>` or `postgres://…`.
    pub database_url: String,
    /// Where everything but OTLP is served.
    pub http: SocketAddr,
    /// Where OTLP over HTTP and other receivers are served.
    pub otlp_http: SocketAddr,
    /// Where OTLP over gRPC is served.
    pub otlp_grpc: SocketAddr,
    /// Networks (CIDR) that plugins may reach although they are private.
    pub allow_private: Vec<String>,
    /// Resolvers that plugins' DNS queries are put to; empty for the system's.
    pub resolvers: Vec<SocketAddr>,
    /// What plugins must be and may do, and how they are compiled.
    pub plugins: PluginsSection,
    /// What plugins of a kind may use, where it differs from the default.
    pub limits: LimitsByKind,
    /// How far the server's clock is ahead of the system's; zero but in rehearsals.
    pub clock_ahead: Duration,
    /// In which currency statements are.
    pub currency: Currency,
    /// Where people reach this server, for links in notifications; empty when nobody said.
    pub public_url: String,
    /// The way of mail.
    pub mail: MailConfig,
}

/// How plugins' mail is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailConfig {
    /// `smtp://user@host:587` or `smtps://…`; no mail without.
    pub relay: Option<String>,
    /// Who writes, such as `Shoal <shoal@example.com>`.
    pub from: Option<String>,
    /// The password of the relay's user.
    pub password: Option<Hidden>,
    /// The file with that password; what is in `password` goes before it.
    pub password_file: Option<PathBuf>,
    /// Whether the relay must speak TLS.
    pub tls: MailTls,
}

/// Whether a relay must speak TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// From the first byte (`smtps://`) or by STARTTLS (`smtp://`), before anything else is said.
    #[default]
    Required,
    /// Never: for a relay on this machine or in a network of its own.
    None,
}

/// A text that no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    /// Hides a text.
    pub fn new(text: String) -> Hidden {
        Hidden(text)
    }

    /// The text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

/// A currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Currency {
    /// ISO 4217, such as `JPY`.
    pub code: String,
    /// Digits after the point that amounts have.
    pub digits: u8,
}

/// The configuration file. Every key is optional.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The folder of data.
    pub data: Option<PathBuf>,
    /// `[database]`
    #[serde(default)]
    pub database: DatabaseSection,
    /// `[listen]`
    #[serde(default)]
    pub listen: ListenSection,
    /// `[network]`
    #[serde(default)]
    pub network: NetworkSection,
    /// `[billing]`
    #[serde(default)]
    pub billing: BillingSection,
    /// `[plugins]`
    #[serde(default)]
    pub plugins: PluginsSection,
    /// `[limits.KIND]`
    #[serde(default)]
    pub limits: LimitsByKind,
    /// `[mail]`
    #[serde(default)]
    pub mail: MailSection,
    /// Where people reach this server, such as `https://shoal.example.com`.
    pub public_url: Option<String>,
}

/// `[plugins]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginsSection {
    /// `off`, `warn` or `require` [default: warn].
    pub signatures: Option<String>,
    /// What no plugin gets beyond, such as `["http *:443", "net tls *"]` [default: everything].
    pub ceiling: Option<Vec<String>>,
    /// Processor time that compiling one plugin may take, in seconds [default: 30].
    pub compile_seconds: Option<u64>,
    /// Memory that compiling one plugin may take, in MiB [default: 1024].
    pub compile_memory_mib: Option<u64>,
    /// How much all compiled plugins may take on disk, in MiB [default: 2048].
    pub kept_mib: Option<u64>,
    /// Whether plugins of the class `large`, interpreters, are accepted [default: false].
    pub allow_large: Option<bool>,
}

/// `[billing]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BillingSection {
    /// ISO 4217 code [default: JPY].
    pub currency: Option<String>,
    /// Digits after the point that amounts have [default: 0].
    pub currency_digits: Option<u8>,
}

/// `[mail]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailSection {
    /// `smtp://user@host:587` or `smtps://user@host:465`.
    pub relay: Option<String>,
    /// Who writes, such as `Shoal <shoal@example.com>`.
    pub from: Option<String>,
    /// A file with the password of the relay's user in its first line.
    pub password_file: Option<PathBuf>,
    /// `required` or `none` [default: required].
    pub tls: Option<MailTls>,
}

/// `[database]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSection {
    /// `sqlite:<path>` or `postgres://…`.
    pub url: Option<String>,
}

/// `[listen]`: addresses with ports; port 0 takes a free one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenSection {
    /// Everything but OTLP.
    pub http: Option<SocketAddr>,
    /// OTLP over HTTP.
    pub otlp_http: Option<SocketAddr>,
    /// OTLP over gRPC.
    pub otlp_grpc: Option<SocketAddr>,
}

/// `[network]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSection {
    /// Networks (CIDR) that plugins may reach although they are private.
    #[serde(default)]
    pub allow_private: Vec<String>,
    /// Resolvers that plugins' DNS queries are put to, such as `9.9.9.9:53`.
    #[serde(default)]
    pub resolvers: Vec<SocketAddr>,
}

impl File {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// It cannot be read, or has a key or value that does not belong there; the text names it and its line.
    pub fn read(path: &Path) -> anyhow::Result<File> {
        use anyhow::Context as _;
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {}", path.display()))?;
        toml::from_str(&text)
            .with_context(|| format!("{} is not a valid configuration", path.display()))
    }
}

/// Flags and environment variables, which win over the file.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Overrides {
    /// Configuration file (TOML).
    #[arg(long, env = "SHOAL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder for all files of this server [default: ./data].
    #[arg(long, env = "SHOAL_DATA", value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// sqlite:PATH or postgres://USER@HOST/NAME [default: sqlite:<data>/shoal.db].
    #[arg(
        long,
        env = "SHOAL_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub database_url: Option<String>,
    /// Address of the API and everything else but OTLP [default: 127.0.0.1:8080].
    #[arg(long, env = "SHOAL_HTTP", value_name = "ADDRESS")]
    pub http: Option<SocketAddr>,
    /// Address of OTLP over HTTP [default: 127.0.0.1:4318].
    #[arg(long, env = "SHOAL_OTLP_HTTP", value_name = "ADDRESS")]
    pub otlp_http: Option<SocketAddr>,
    /// Address of OTLP over gRPC [default: 127.0.0.1:4317].
    #[arg(long, env = "SHOAL_OTLP_GRPC", value_name = "ADDRESS")]
    pub otlp_grpc: Option<SocketAddr>,
    /// Private network (CIDR) that plugins may reach; may be given several times.
    #[arg(
        long,
        env = "SHOAL_ALLOW_PRIVATE",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    pub allow_private: Vec<String>,
    /// Password of the user in the configuration's [mail] relay.
    #[arg(
        long,
        env = "SHOAL_MAIL_PASSWORD",
        value_name = "PASSWORD",
        hide = true,
        hide_env_values = true
    )]
    pub mail_password: Option<String>,
    /// Rehearse: run this many seconds ahead of the system's clock.
    #[arg(
        long,
        env = "SHOAL_CLOCK_AHEAD_SECONDS",
        value_name = "SECONDS",
        hide = true
    )]
    pub clock_ahead_seconds: Option<u64>,
}

impl Config {
    /// Where the store keeps its log and segments.
    pub fn telemetry_folder(&self) -> PathBuf {
        self.data.join("telemetry")
    }

    /// Puts flags, environment, file and defaults together.
    ///
    /// # Errors
    /// See [`File::read`].
    pub fn load(overrides: Overrides) -> anyhow::Result<Config> {
        let file = match &overrides.config {
            Some(path) => File::read(path)?,
            None => File::default(),
        };
        Ok(Config::merge(overrides, file))
    }

    fn merge(flags: Overrides, file: File) -> Config {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let data = flags
            .data
            .or(file.data)
            .unwrap_or_else(|| PathBuf::from("data"));
        let default_url = || format!("sqlite:{}", data.join("shoal.db").display());
        let mut allow_private = flags.allow_private;
        allow_private.extend(file.network.allow_private);
        Config {
            database_url: flags
                .database_url
                .or(file.database.url)
                .unwrap_or_else(default_url),
            http: flags.http.or(file.listen.http).unwrap_or(local(8080)),
            otlp_http: flags
                .otlp_http
                .or(file.listen.otlp_http)
                .unwrap_or(local(4318)),
            otlp_grpc: flags
                .otlp_grpc
                .or(file.listen.otlp_grpc)
                .unwrap_or(local(4317)),
            allow_private,
            plugins: file.plugins,
            resolvers: file.network.resolvers,
            limits: file.limits,
            clock_ahead: Duration::from_secs(flags.clock_ahead_seconds.unwrap_or(0)),
            currency: Currency {
                code: file.billing.currency.unwrap_or_else(|| "JPY".to_owned()),
                digits: file.billing.currency_digits.unwrap_or(0),
            },
            public_url: file.public_url.unwrap_or_default(),
            mail: MailConfig {
                relay: file.mail.relay,
                from: file.mail.from,
                password: flags.mail_password.map(Hidden::new),
                password_file: file.mail.password_file,
                tls: file.mail.tls.unwrap_or_default(),
            },
            data,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file: File = toml::from_str(
            "data = \"/var/lib/shoal\"\n[listen]\nhttp = \"0.0.0.0:80\"\n[network]\nallow_private = [\"10.0.0.0/8\"]\nresolvers = [\"9.9.9.9:53\"]\n[limits.check]\ncpu_ms = 500",
        )
        .expect("a good file");
        let flags = Overrides {
            http: Some(([127, 0, 0, 1], 0).into()),
            ..Overrides::default()
        };
        let config = Config::merge(flags, file);
        assert_eq!(config.database_url, "sqlite:/var/lib/shoal/shoal.db");
        assert_eq!(config.http.port(), 0);
        assert_eq!(config.otlp_grpc.port(), 4317);
        assert_eq!(config.allow_private, ["10.0.0.0/8"]);
        assert_eq!(config.resolvers, [SocketAddr::from(([9, 9, 9, 9], 53))]);
        assert_eq!(config.limits["check"].cpu_ms, Some(500));
    }

    #[test]
    fn a_key_that_does_not_belong_there_is_named() {
        let error = toml::from_str::<File>("[listen]\nhtpp = \"x\"").expect_err("a typo");
        assert!(error.to_string().contains("htpp"), "{error}");
    }
}
