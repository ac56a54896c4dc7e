//! What a call of a plugin costs beside the plugin's own work, for each kind: admission, a fresh instance with all limits, the
//! call and the end of the instance. Run by `cargo xtask bench plugin-call`.
//!
//! 1,000 installations of 20 components are active: the `small-…` guests of the tests, which do nothing but what every plugin
//! in Rust does, reading their settings. That is not subtracted. Compiling happens as in the server, in a process of its own, which is this program again.
#![expect(clippy::print_stdout, reason = "figures are what it is for")]

#[path = "support/figure.rs"]
mod figure;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use serde_json::Map;
use shoal_model::alert::Severity;
use shoal_model::grant::Kind;
use shoal_model::telemetry::ValidMetrics;
use shoal_model::usage::{Meter, MonthUsage};
use shoal_model::{InstallationId, Timestamp};
use shoal_runtime::{
    ArtifactOptions, CallContext, Committed, Compiler, Ingest, IngestError, InstallOptions,
    Installed, Notification, NotifiedAlert, NotifiedMonitor, Plugin, ReceiverRequest, Runtime,
    RuntimeOptions, Terms, Transport, Trigger, compile_child,
};
use shoal_server::clock::Stopwatch;

const NOW: Timestamp = Timestamp(1_795_478_400_000);
const COMPONENTS_OF_A_KIND: usize = 5;
const INSTALLATIONS_OF_A_COMPONENT: usize = 50;
const TENANTS: usize = 100;
/// Of each kind.
const WARM_UPS: usize = 2_000;
const CALLS: usize = 20_000;
/// How often a component is loaded, installed and called for the first time.
const ENABLINGS: usize = 5;
/// How the server starts its compiler.
const COMPILE: &str = "compile-component";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((first, rest)) = arguments.split_first()
        && first == COMPILE
    {
        return compile_child(rest);
    }
    let measured = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(measure()));
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let runtime = Runtime::new(RuntimeOptions {
        compiler: Compiler::Child {
            program: std::env::current_exe()?,
            arguments: vec![COMPILE.into()],
        },
        artifacts: Some(ArtifactOptions {
            folder: folder.path().to_owned(),
            key: [7; 32],
            max_bytes: 1 << 30,
        }),
        ..RuntimeOptions::default()
    })?;
    enable(&runtime).await?;

    let before = resident_mib()?;
    let mut worlds = Vec::new();
    for kind in Kind::ALL {
        worlds.push(World::new(&runtime, kind).await?);
    }
    let given = Given::new()?;
    for world in &worlds {
        for installed in &world.installations {
            given.call(installed).await?;
        }
    }
    let count: usize = worlds.iter().map(|world| world.installations.len()).sum();
    let taken = resident_mib()? - before;
    figure::tell("plugin_call.installations_mib", taken, "MiB", count as u64);
    for world in &worlds {
        world.measure(&given).await?;
    }
    Ok(())
}

/// The installations of one kind.
struct World {
    kind: Kind,
    plugins: Vec<Arc<Plugin>>,
    installations: Vec<Arc<Installed>>,
}

impl World {
    async fn new(runtime: &Runtime, kind: Kind) -> Result<World> {
        let mut plugins = Vec::new();
        for number in 0..COMPONENTS_OF_A_KIND {
            plugins.push(runtime.load(small(kind, number)?).await?);
        }
        let mut world = World {
            kind,
            plugins,
            installations: Vec::new(),
        };
        for number in 0..COMPONENTS_OF_A_KIND * INSTALLATIONS_OF_A_COMPONENT {
            world.installations.push(world.install(number)?);
        }
        Ok(world)
    }

    fn install(&self, number: usize) -> Result<Arc<Installed>> {
        let plugin = &self.plugins[number % self.plugins.len()];
        let id = InstallationId::from_random([number as u8; 10]);
        Ok(plugin.install(InstallOptions {
            tenant: (number % TENANTS) as u64,
            ..InstallOptions::new(id, plugin.manifest().asked(), Map::new())
        })?)
    }

    /// Calls one installation after another, each in a fresh instance, and tells the median and the 99th percentile.
    async fn measure(&self, given: &Given) -> Result<()> {
        let (mut times, mut processor) = (Vec::new(), Vec::new());
        for at in 0..WARM_UPS + CALLS {
            let anew;
            let installed = match self.kind {
                // Installed anew: an instance that waits for its next request would be used again.
                Kind::Receiver => {
                    anew = self.install(at)?;
                    &anew
                }
                _ => &self.installations[at % self.installations.len()],
            };
            let (before, watch) = (thread_cpu(), Stopwatch::start());
            given.call(installed).await?;
            times.push(watch.elapsed());
            processor.push(thread_cpu().saturating_sub(before));
        }
        self.tell("fresh_us", times.split_off(WARM_UPS));
        // The same, of this thread alone: what else the machine does is not in it.
        self.tell("fresh_cpu_us", processor.split_off(WARM_UPS));
        if self.kind == Kind::Receiver {
            let installed = &self.installations[0];
            let mut times = Vec::with_capacity(CALLS);
            for _ in 0..CALLS {
                let watch = Stopwatch::start();
                given.call(installed).await?;
                times.push(watch.elapsed());
            }
            self.tell("reused_us", times);
        }
        Ok(())
    }

    fn tell(&self, what: &str, mut times: Vec<Duration>) {
        times.sort_unstable();
        for (name, at) in [("p50", times.len() / 2), ("p99", times.len() * 99 / 100)] {
            let name = format!("plugin_call.{}.{what}.{name}", self.kind);
            let value = times[at].as_secs_f64() * 1e6;
            figure::tell(&name, value, "us", times.len() as u64);
        }
    }
}

/// One of many: `number` tells components of a kind apart.
fn small(kind: Kind, number: usize) -> Result<Vec<u8>> {
    let name = match kind {
        Kind::Receiver => "small_receiver",
        Kind::Check => "small_check",
        Kind::Channel => "small_channel",
        Kind::BillingRule => "small_rule",
    };
    let mut bytes = component("tests/guests", name)?;
    // A custom section: its id, its size, the size of its name, its name.
    bytes.extend([0, 4, 3, b'n', b'o', b'0' + number as u8]);
    Ok(bytes)
}

/// A component that `cargo xtask plugins` built.
fn component(workspace: &str, name: &str) -> Result<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(workspace)
        .join("target/wasm32-wasip2/release")
        .join(format!("{name}.wasm"));
    std::fs::read(&path)
        .with_context(|| format!("{} is not built: cargo xtask plugins", path.display()))
}

/// What the calls are given.
struct Given {
    context: CallContext,
    notification: Notification,
    usage: MonthUsage,
    terms: Terms,
}

impl Given {
    fn new() -> Result<Given> {
        let mut usage = MonthUsage::new("2026-11".parse()?);
        usage.closed_hours = 1;
        usage.count(Meter::HostStandard, "web-1", 1);
        Ok(Given {
            context: CallContext::new(NOW, "bench"),
            notification: notification(),
            usage,
            terms: Terms {
                currency: "JPY".to_owned(),
                currency_digits: 0,
            },
        })
    }

    async fn call(&self, installed: &Installed) -> Result<()> {
        let outcome = match installed.plugin().kind() {
            Kind::Receiver => {
                let call = installed.receive(&self.context, request(), Arc::new(Nowhere));
                call.await.outcome.map(drop)
            }
            Kind::Check => installed.run_check(&self.context).await.outcome.map(drop),
            Kind::Channel => {
                let call = installed.notify(&self.context, &self.notification);
                call.await.outcome.map(drop)
            }
            Kind::BillingRule => {
                let call = installed.rate(&self.usage, &self.terms);
                call.await.outcome.map(drop)
            }
        };
        outcome.with_context(|| format!("a call of a {}", installed.plugin().kind()))
    }
}

fn request() -> ReceiverRequest {
    ReceiverRequest {
        transport: Transport::Http,
        endpoint: "/small".to_owned(),
        method: "POST".to_owned(),
        content_type: "application/json".to_owned(),
        body: b"{}".to_vec(),
    }
}

/// A component of usual size becomes active: it is compiled, installed and called. Loaded again, it need not be compiled.
async fn enable(runtime: &Runtime) -> Result<()> {
    let bytes = component("plugins", "otlp")?;
    let context = CallContext::new(NOW, "bench");
    let mut times = Vec::new();
    for _ in 0..ENABLINGS {
        let watch = Stopwatch::start();
        let plugin = runtime.load(bytes.clone()).await?;
        let id = InstallationId::from_random([7; 10]);
        let options = InstallOptions::new(id, plugin.manifest().asked(), Map::new());
        let installed = plugin.install(options)?;
        let request = ReceiverRequest {
            endpoint: "/v1/metrics".to_owned(),
            body: br#"{"resourceMetrics": []}"#.to_vec(),
            ..request()
        };
        let call = installed.receive(&context, request, Arc::new(Nowhere));
        call.await.outcome.context("the first call")?;
        times.push(watch.elapsed().as_secs_f64() * 1e3);
    }
    figure::tell("plugin_call.enable_ms", times[0], "ms", 1);
    let again = times.split_off(1);
    let mean = again.iter().sum::<f64>() / again.len() as f64;
    let name = "plugin_call.enable_compiled_ms";
    figure::tell(name, mean, "ms", again.len() as u64);
    Ok(())
}

/// Processor time of this thread, which all of a call runs on.
fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What of this process is in memory.
fn resident_mib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .context("the system does not say how much memory this takes")?;
    Ok(kib.trim().parse::<f64>()? / 1024.0)
}

/// Takes batches and keeps nothing.
struct Nowhere;

#[async_trait]
impl Ingest for Nowhere {
    async fn write_metrics(&self, batch: ValidMetrics) -> Result<Committed, IngestError> {
        Ok(Committed {
            accepted: batch.points() as u64,
            ..Committed::default()
        })
    }
}

fn notification() -> Notification {
    Notification {
        organization: "Bench".to_owned(),
        alert: NotifiedAlert {
            id: "alr_bench".to_owned(),
            severity: Severity::Critical,
            previous: Severity::Ok,
            trigger: Trigger::Monitor,
            message: "load is above 5".to_owned(),
            value: Some(7.5),
            labels: vec![("host".to_owned(), "web-1".to_owned())],
            opened: NOW,
            changed: NOW,
            closed: None,
            url: String::new(),
        },
        monitor: NotifiedMonitor {
            id: "mon_bench".to_owned(),
            name: "Load".to_owned(),
            kind: "query".to_owned(),
            memo: String::new(),
            warning: None,
            critical: Some(5.0),
            comparison: None,
        },
    }
}
