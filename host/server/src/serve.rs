//! The server process: what is opened in which order, and how it ends.
//!
//! Opening goes up the floors (data folder, SQL, ports, plugins, telemetry, engines, servers) and ending goes down them
//! again: stop accepting, let requests finish, end engines, close telemetry and SQL. A second signal ends at
//! once.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use shoal_model::alert::{Comparison, Rule, Thresholds};
use shoal_model::limit::CallLimits;
use shoal_model::{MonitorId, TenantId, Timestamp};
use shoal_runtime::{ArtifactOptions, CompileLimits, Compiler, MailRelay, Runtime, RuntimeOptions};
use shoal_store::{Store, StoreOptions};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::app::App;
use crate::auth::{ApiKey, Role};
use crate::clock::Clock;
use crate::config::Config;
use crate::db::Db;
use crate::db::catalog::SqlCatalog;
use crate::db::monitors::Definition;
use crate::ingest::admission::Admission;
use crate::ingest::own::OwnSamples;
use crate::ingest::receive::Receivers;
use crate::mail::SmtpRelay;
use crate::observe::{self, Observe};
use crate::plugins::{PluginCalls, PluginRegistry, PluginServices, Policy, RegistryParts};
use crate::query::Queries;
use crate::random::RandomId as _;
use crate::secrets::SecretBox;
use crate::task::Tasks;
use crate::telemetry::Telemetry;
use crate::{jobs, limits, notify};

/// How long requests and background work may take to end.
const SHUTDOWN_MAX: Duration = Duration::from_secs(20);
/// Open files that the process asks the system for; shells give 1,024.
const FILES_WANTED: u64 = 16_384;
/// What 2,000 connections on three ports, the requests of plugins, the database and the segments need.
const FILES_NEEDED: u64 = 4_096;
/// How much all compiled plugins may take on disk, in MiB, unless the operator says: some thousand of usual ones.
const KEPT_MIB: u64 = 2048;
/// The file with the first operator key, in the data folder.
pub const OPERATOR_KEY_FILE: &str = "operator.key";
/// The file with the addresses that the server listens on, in the data folder.
pub const ADDRESSES_FILE: &str = "addresses.json";

/// Runs the server until it is told to end (SIGTERM or SIGINT).
///
/// # Errors
/// Whatever keeps it from starting; the text says what to do about it.
pub async fn run(config: Config) -> Result<()> {
    std::fs::create_dir_all(&config.data)
        .with_context(|| format!("cannot make the data folder {}", config.data.display()))?;
    let _lock = lock(&config.data)?;
    raise_file_limit();
    let clock = Clock::system_ahead(config.clock_ahead);
    let db = Db::open(&config.database_url).await?;
    bootstrap(&db, &config.data, clock.now()).await?;
    let listeners = Listeners::bind(&config).await?;

    let plugins = Arc::new(plugins(&config, &db, &clock)?);
    plugins.reload().await?;
    let store = open_store(&config, &db, clock.now()).await?;
    let queries = Queries::new(store.clone());
    let telemetry = Telemetry {
        query: Arc::new(queries.clone()),
        samples: Arc::new(OwnSamples::new(store.clone(), clock.clone())),
    };
    let observe = Arc::new(Observe::default());
    let calls = PluginCalls::new(db.clone(), clock.clone(), observe.clone(), plugins.clone());
    // What was at rest before the start is at rest when the first call comes.
    calls.sync().await?;
    let app = Arc::new(App {
        config,
        db: db.clone(),
        plugins,
        calls: Arc::new(calls),
        store: store.clone(),
        queries,
        telemetry,
        clock,
        observe,
        to_tell: Notify::new(),
    });
    let engines = Tasks::new();
    engines.spawn("plugin watcher", {
        let plugins = app.plugins.clone();
        |stop| plugins.watch(stop)
    });
    engines.spawn("plugin health", {
        let calls = app.calls.clone();
        |stop| calls.keep(stop)
    });
    engines.spawn("shadow runs", {
        let calls = app.calls.clone();
        |stop| calls.run_shadows(stop)
    });
    engines.spawn("bell", {
        let app = app.clone();
        |stop| notify::ring_when_due(app, stop)
    });
    jobs::start(&app, &engines);
    engines.spawn("own metrics", {
        let app = app.clone();
        |stop| observe::post_regularly(app, stop)
    });
    let servers = Tasks::new();
    listeners.serve(&app, &servers)?;

    signal().await?;
    tracing::info!("ending: requests in progress are finished first");
    tokio::select! {
        () = end(&app, &servers, &engines) => {}
        again = signal() => again?,
    }
    store
        .shutdown()
        .await
        .context("the store could not hand over its usage; it does so at the next start")?;
    db.close().await;
    tracing::info!("ended");
    Ok(())
}

/// Ends what takes requests, then what works by itself, and says a last time how it went.
async fn end(app: &App, servers: &Tasks, engines: &Tasks) {
    servers.shutdown(SHUTDOWN_MAX).await;
    engines.shutdown(SHUTDOWN_MAX).await;
    observe::post(app).await;
}

/// The open ports.
struct Listeners {
    http: TcpListener,
    otlp_http: TcpListener,
    otlp_grpc: TcpListener,
}

impl Listeners {
    async fn bind(config: &Config) -> Result<Listeners> {
        // Whoever waits for the file shall not read the addresses of an earlier process.
        match std::fs::remove_file(config.data.join(ADDRESSES_FILE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("cannot remove the addresses of an earlier start")?;
            }
            _ => {}
        }
        Ok(Listeners {
            http: listen("http", config.http).await?,
            otlp_http: listen("otlp-http", config.otlp_http).await?,
            otlp_grpc: listen("otlp-grpc", config.otlp_grpc).await?,
        })
    }

    /// Starts to serve, and then tells where.
    fn serve(self, app: &Arc<App>, servers: &Tasks) -> Result<()> {
        let addresses = Addresses {
            http: self.http.local_addr()?,
            otlp_http: self.otlp_http.local_addr()?,
            otlp_grpc: self.otlp_grpc.local_addr()?,
        };
        let receivers = Receivers::new(app, Admission::default());
        let api = crate::http::router(app.clone());
        servers.spawn("http", |stop| {
            crate::http::serve("api", self.http, api, stop)
        });
        let otlp = crate::http::receivers::router(receivers.clone());
        servers.spawn("otlp http", |stop| {
            crate::http::serve("otlp http", self.otlp_http, otlp, stop)
        });
        servers.spawn("otlp grpc", |stop| {
            crate::grpc::serve(self.otlp_grpc, receivers, stop)
        });
        addresses.write(&app.config.data)?;
        tracing::info!(
            http = %addresses.http,
            otlp_http = %addresses.otlp_http,
            otlp_grpc = %addresses.otlp_grpc,
            database = app.db.name(),
            "listening"
        );
        Ok(())
    }
}

/// Where the server listens, for tools and tests that let it choose its ports.
struct Addresses {
    http: SocketAddr,
    otlp_http: SocketAddr,
    otlp_grpc: SocketAddr,
}

impl Addresses {
    fn write(&self, data: &Path) -> Result<()> {
        let text = serde_json::json!({
            "http": self.http.to_string(),
            "otlp_http": self.otlp_http.to_string(),
            "otlp_grpc": self.otlp_grpc.to_string(),
        })
        .to_string();
        let path = data.join(ADDRESSES_FILE);
        // Renamed into place, so that whoever waits for the file never reads half of it.
        let new = data.join("addresses.json.new");
        std::fs::write(&new, text)
            .and_then(|()| std::fs::rename(&new, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

fn raise_file_limit() {
    match rlimit::increase_nofile_limit(FILES_WANTED) {
        Ok(max) if max >= FILES_NEEDED => {}
        Ok(max) => tracing::warn!(
            max,
            needed = FILES_NEEDED,
            "the system allows few open files; raise the limit (LimitNOFILE in systemd, ulimit -n in a shell)"
        ),
        Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
    }
}

/// Two servers on one data folder would destroy each other's log.
fn lock(data: &Path) -> Result<File> {
    let path = data.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            bail!(
                "another shoal serves the data folder {}; stop it, or use another --data",
                data.display()
            )
        }
        Err(std::fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// At the first start: the operator's tenant, and a key to it in the data folder.
async fn bootstrap(db: &Db, data: &Path, now: Timestamp) -> Result<()> {
    let system = db.system();
    if system.tenant_by_key("operator").await?.is_none() {
        let operator = system.create_tenant("operator", "Operator", now).await?;
        if operator.id() != TenantId::OPERATOR {
            bail!(
                "the operator's tenant got number {} instead of 1; start with an empty database",
                operator.id
            );
        }
        let monitor = plugins_down();
        db.tenant(TenantId::OPERATOR)
            .add_monitor(&MonitorId::random(), &monitor, 1, now)
            .await?;
    }
    let operator = db.tenant(TenantId::OPERATOR);
    if !operator.keys().await?.is_empty() {
        return Ok(());
    }
    let (key, path) = (ApiKey::random(), data.join(OPERATOR_KEY_FILE));
    // Written before it is valid: a start that fails in between leaves a useless file, not a lost key.
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    writeln!(file, "{}", key.reveal())?;
    file.sync_all()?;
    operator
        .add_key(&key, "made at the first start", Role::Operator, now)
        .await?;
    tracing::info!(file = %path.display(), "made the operator's first API key");
    Ok(())
}

/// The operator's first monitor: somebody should know when a plugin is not called, or another channel stands in for one.
fn plugins_down() -> Definition {
    Definition {
        name: "plugins that are down".to_owned(),
        query: "max by (plugin, version) (shoal_plugin_down) \
                or sum by (channel) (increase(shoal_notifications_stood_in_total[15m]))"
            .to_owned(),
        thresholds: Thresholds {
            comparison: Comparison::Above,
            warning: None,
            critical: Some(0.0),
        },
        rule: Rule {
            max_attempts: 1,
            missing_is: None,
        },
        memo: "see: shoal plugin health PLUGIN, shoal plugin failures INSTALLATION".to_owned(),
        is_enabled: true,
        channels: None,
    }
}

fn plugins(config: &Config, db: &Db, clock: &Clock) -> Result<PluginRegistry> {
    let relay = SmtpRelay::open(&config.mail, clock.clone())?;
    let relay = relay.map(|relay| Arc::new(relay) as Arc<dyn MailRelay>);
    let allow_private = config
        .allow_private
        .iter()
        .map(|cidr| cidr.parse())
        .collect::<Result<_, _>>()?;
    let secrets = SecretBox::open(&config.data)?;
    let set = limits::checked(&config.limits).map_err(|why| anyhow!("{why}"))?;
    let limits = set.into_iter().map(|(kind, set)| {
        let limits = CallLimits::for_kind(kind).with(&set);
        (kind, limits)
    });
    let runtime = Runtime::new(RuntimeOptions {
        allow_private,
        resolvers: config.resolvers.clone(),
        limits: limits.collect(),
        allow_large: config.plugins.allow_large.unwrap_or(false),
        compiler: Compiler::Child {
            program: own_binary()?,
            arguments: vec!["compile-component".into()],
        },
        compile: compile_limits(config),
        artifacts: Some(ArtifactOptions {
            folder: config.data.join("plugins"),
            key: secrets.derived_key("compiled plugins"),
            max_bytes: config.plugins.kept_mib.unwrap_or(KEPT_MIB) << 20,
        }),
        ..RuntimeOptions::default()
    })?;
    Ok(PluginRegistry::new(RegistryParts {
        runtime,
        db: db.clone(),
        secrets,
        clock: clock.clone(),
        policy: Policy::of(&config.plugins)?,
        services: PluginServices::new(clock.clone(), relay),
    }))
}

fn compile_limits(config: &Config) -> CompileLimits {
    let default = CompileLimits::default();
    let plugins = &config.plugins;
    CompileLimits {
        cpu: plugins
            .compile_seconds
            .map_or(default.cpu, Duration::from_secs),
        memory_max_bytes: plugins
            .compile_memory_mib
            .map_or(default.memory_max_bytes, |mib| mib << 20),
    }
}

/// What to start for another process of this very program, also when its file was replaced since.
fn own_binary() -> Result<PathBuf> {
    let own = Path::new("/proc/self/exe");
    if own.exists() {
        return Ok(own.to_owned());
    }
    std::env::current_exe().context("cannot find the file of this program")
}

async fn open_store(config: &Config, db: &Db, now: Timestamp) -> Result<Store> {
    let options = StoreOptions::new(config.telemetry_folder());
    let (store, recovered) = Store::open(options, Arc::new(SqlCatalog::new(db)), now).await?;
    tracing::info!(?recovered, "telemetry is open");
    Ok(store)
}

async fn listen(what: &str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} for {what}; is another server there? choose another with --{what}"))
}

/// Waits for SIGTERM or SIGINT.
async fn signal() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
