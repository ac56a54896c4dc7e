//! The server process: what is opened in which order, and how it ends.
//!
//! Opening goes up the floors (data folder, SQL, listeners) and ending goes down them again: stop accepting,
//! let requests finish, end background work, close SQL. A second signal ends at once.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use shoal_model::{TenantId, Timestamp};
use shoal_runtime::{Runtime, RuntimeOptions};
use shoal_store::{MemoryCatalog, Store, StoreOptions};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::app::App;
use crate::auth::{ApiKey, Role};
use crate::clock::Clock;
use crate::config::Config;
use crate::db::Db;
use crate::ingest::own::OwnSamples;
use crate::observe::Observe;
use crate::plugins::PluginRegistry;
use crate::query::Queries;
use crate::secrets::SecretBox;
use crate::task::Tasks;
use crate::telemetry::Telemetry;

/// How long requests and background work may take to end.
const SHUTDOWN_MAX: Duration = Duration::from_secs(20);
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
    let clock = Clock::system_ahead(config.clock_ahead);
    let db = Db::open(&config.database_url).await?;
    bootstrap(&db, &config.data, clock.now()).await?;
    let listener = listen("http", config.http).await?;
    let addresses = Addresses {
        http: listener.local_addr()?,
    };
    addresses.write(&config.data)?;
    tracing::info!(http = %addresses.http, database = db.name(), "listening");

    let plugins = Arc::new(plugins(&config, &db)?);
    plugins.reload().await?;
    let store = open_store(&config, clock.now()).await?;
    let queries = Queries::new(store.clone());
    let telemetry = Telemetry {
        query: Arc::new(queries.clone()),
        samples: Arc::new(OwnSamples::new(store.clone(), clock.clone())),
    };
    let tasks = Tasks::new();
    tasks.spawn("plugin watcher", {
        let plugins = plugins.clone();
        |stop| plugins.watch(stop)
    });
    let app = Arc::new(App {
        config,
        db: db.clone(),
        plugins,
        store: store.clone(),
        queries,
        telemetry,
        clock,
        observe: Arc::new(Observe::default()),
        to_tell: Notify::new(),
    });
    crate::jobs::start(&app, &tasks);
    tasks.spawn("bell", {
        let app = app.clone();
        |stop| crate::notify::ring_when_due(app, stop)
    });
    let router = crate::http::router(app.clone());
    tasks.spawn("http", |stop| {
        crate::http::serve("api", listener, router, stop)
    });

    signal().await?;
    tracing::info!("ending: requests in progress are finished first");
    tokio::select! {
        () = tasks.shutdown(SHUTDOWN_MAX) => {}
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

/// Where the server listens, for tools and tests that let it choose its ports.
struct Addresses {
    http: SocketAddr,
}

impl Addresses {
    fn write(&self, data: &Path) -> Result<()> {
        let text = serde_json::json!({ "http": self.http.to_string() }).to_string();
        let path = data.join(ADDRESSES_FILE);
        // Renamed into place, so that whoever waits for the file never reads half of it.
        let new = data.join("addresses.json.new");
        std::fs::write(&new, text)
            .and_then(|()| std::fs::rename(&new, &path))
            .with_context(|| format!("cannot write {}", path.display()))
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

fn plugins(config: &Config, db: &Db) -> Result<PluginRegistry> {
    let allow_private = config
        .allow_private
        .iter()
        .map(|cidr| cidr.parse())
        .collect::<Result<_, _>>()?;
    let runtime = Runtime::new(RuntimeOptions {
        allow_private,
        ..RuntimeOptions::default()
    })?;
    Ok(PluginRegistry::new(
        runtime,
        db.clone(),
        SecretBox::open(&config.data)?,
    ))
}

async fn open_store(config: &Config, now: Timestamp) -> Result<Store> {
    let options = StoreOptions::new(config.data.join("telemetry"));
    let (store, recovered) = Store::open(options, Arc::new(MemoryCatalog::new()), now).await?;
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
