//! Running one attack beside a neighbour, and what it cost everybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use shoal_model::grant::{Grants, Kind};
use shoal_model::limit::CallLimits;
use shoal_runtime::{
    Call, CallError, InstallOptions, Installed, MemoryKeyValue, MemoryRelay, Plugin, Runtime,
    RuntimeOptions, Services,
};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::case::{Attack, Case, Ends};
use super::{kinds, resolver, server};
use crate::support::{Guest, context, id, installed, options, well_after, within};

/// How much more memory the process may have in use after an attack than before: what its allocator keeps.
const MOVED_MAX_BYTES: u64 = 48 << 20;
/// How much more than the limits of the call it may have in use meanwhile: compiling, and the neighbour.
const BESIDE_MAX_BYTES: u64 = 192 << 20;
/// What 99 of 100 calls of the neighbour do not exceed, on a machine that runs many tests at a time; a quiet one needs
/// less than a millisecond.
const NEIGHBOUR_MAX: Duration = Duration::from_secs(1);
/// Longest message: a screen, and a message of the guest's own.
const TEXT_MAX_BYTES: usize = 8 << 10;
/// Longest attack; one that takes longer hangs.
const HANGS_AFTER: Duration = Duration::from_secs(100);
/// After how long the neighbour must have called.
const IDLE_AFTER: Duration = Duration::from_secs(1);
/// How often the neighbour calls.
const BEAT: Duration = Duration::from_millis(2);

/// What became of an attack.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    /// `refused`, `done` or the code of a call's error.
    pub(crate) code: String,
    /// What people are told; empty when all is well.
    pub(crate) text: String,
}

/// What an attack did and cost.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) outcome: Outcome,
    pub(crate) wall: Duration,
    /// Of the whole process, the neighbour included.
    pub(crate) cpu: Duration,
    /// Most memory that the process took on meanwhile.
    pub(crate) peak_bytes: u64,
    /// Memory that the process has in use afterwards beyond what it had before.
    pub(crate) moved_bytes: u64,
    /// Most memory that the process may take on meanwhile.
    pub(crate) peak_max_bytes: u64,
    /// How long each call of the neighbour took, sorted.
    pub(crate) neighbour: Vec<Duration>,
    /// Calls of the neighbour that failed, with their reason.
    pub(crate) disturbed: Vec<String>,
    /// Instances that are still alive.
    pub(crate) left: usize,
}

/// Fails the test when a case does not end as it says.
pub(crate) async fn check(case: Case) {
    // Memory is the process' own: where tests share one, they take turns.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
    let _turn = ONE_AT_A_TIME.lock().await;
    let file = case.attack.component_and_server().await;
    let measured = measure(&case.attack, file, case.time_factor()).await;
    if let Some(problem) = problem(&case, &measured) {
        let (tries, by) = (case.tries, case.stopped_by);
        panic!("{tries}, stopped by {by}: {problem}\n{measured:?}");
    }
}

/// What is wrong with how a case ended, if anything is.
pub(crate) fn problem(case: &Case, measured: &Measured) -> Option<String> {
    let outcome = &measured.outcome;
    if !case.ends.is(outcome) {
        return Some(format!(
            "it ended with {}: {:?}, not with {}",
            outcome.code,
            outcome.text,
            case.ends.shown()
        ));
    }
    if measured.cpu > case.cpu_max {
        return Some(format!(
            "it took {:?} of processor time, more than {:?}",
            measured.cpu, case.cpu_max
        ));
    }
    measured.harm()
}

impl Measured {
    /// What the host or the neighbour suffered, if anything.
    pub(crate) fn harm(&self) -> Option<String> {
        let mib = |bytes: u64| bytes >> 20;
        if self.peak_bytes > self.peak_max_bytes {
            return Some(format!(
                "the process took {} MiB more meanwhile, {} are allowed",
                mib(self.peak_bytes),
                mib(self.peak_max_bytes)
            ));
        }
        if self.moved_bytes > MOVED_MAX_BYTES {
            let moved = mib(self.moved_bytes);
            return Some(format!("the process has kept {moved} MiB"));
        }
        if self.left > 0 {
            return Some(format!("{} instances are left", self.left));
        }
        if let Some(reason) = self.disturbed.first() {
            return Some(format!("a call of the neighbour failed: {reason}"));
        }
        if self.outcome.text.len() > TEXT_MAX_BYTES {
            let bytes = self.outcome.text.len();
            return Some(format!("people are told {bytes} bytes"));
        }
        let p99 = self.neighbour_p99();
        if p99 > NEIGHBOUR_MAX {
            return Some(format!(
                "of the neighbour's calls one in a hundred took {p99:?}"
            ));
        }
        let is_idle = self.neighbour.is_empty() && self.wall > IDLE_AFTER;
        is_idle.then(|| "the neighbour could not call".to_owned())
    }

    /// The time that 99 of 100 calls of the neighbour did not exceed.
    pub(crate) fn neighbour_p99(&self) -> Duration {
        let at = (self.neighbour.len() * 99).div_ceil(100).max(1) - 1;
        self.neighbour.get(at).copied().unwrap_or_default()
    }
}

impl Ends {
    fn is(&self, outcome: &Outcome) -> bool {
        match self {
            Ends::Refused(says) => outcome.code == "refused" && outcome.text.contains(says),
            Ends::Failed(code, says) => outcome.code == *code && outcome.text.contains(says),
            Ends::Well => outcome.code == "done",
            Ends::OneOf(all) => all.iter().any(|one| one.is(outcome)),
        }
    }

    fn shown(&self) -> String {
        match self {
            Ends::Refused(says) => format!("a refusal that says {says:?}"),
            Ends::Failed(code, says) => format!("{code} and {says:?}"),
            Ends::Well => "success".to_owned(),
            Ends::OneOf(all) => {
                let all: Vec<_> = all.iter().map(Ends::shown).collect();
                all.join(", or ")
            }
        }
    }
}

impl Attack {
    /// Its file, after its server was started.
    pub(crate) async fn component_and_server(&self) -> Vec<u8> {
        let port = match &self.serves {
            Some(answer) => server::start(answer.clone()).await,
            None => 0,
        };
        self.component(port)
    }
}

/// Loads a file, installs it with all that it asks for, and calls it, beside a neighbour that calls all the time.
///
/// Each call has the time of its kind, so many times.
pub(crate) async fn measure(attack: &Attack, file: Vec<u8>, time_factor: u32) -> Measured {
    let limits = Kind::ALL.map(|kind| {
        let usual = CallLimits::for_kind(kind);
        let limits = CallLimits {
            cpu: usual.cpu * time_factor,
            wall: usual.wall * time_factor,
            ..usual
        };
        (kind, limits)
    });
    // For the case's own server; what the cases reach for otherwise is not in it.
    let own = attack.serves.is_some();
    let open = own.then(|| "127.0.0.1/32".parse().expect("a range"));
    let resolver = match attack.resolves {
        true => vec![resolver::start().await],
        false => Vec::new(),
    };
    let runtime = Runtime::new(RuntimeOptions {
        limits: limits.into(),
        allow_private: open.into_iter().collect(),
        resolvers: resolver,
        ..options()
    })
    .expect("a runtime");
    let neighbour = Neighbour::start(&runtime).await;
    let (before, began, cpu) = (Memory::begin(), Instant::now(), process_cpu());
    let ended = tokio::time::timeout(HANGS_AFTER, attempt(&runtime, attack, file)).await;
    let (outcome, kind) = ended.unwrap_or_else(|_| {
        let text = format!("no end within {HANGS_AFTER:?}");
        let code = "hung".to_owned();
        (Outcome { code, text }, None)
    });
    let (wall, cpu) = (began.elapsed(), process_cpu().saturating_sub(cpu));
    let (mut neighbour, disturbed) = neighbour.end().await;
    neighbour.sort_unstable();
    let limits = runtime.limits(kind.unwrap_or(Kind::Check));
    Measured {
        outcome,
        wall,
        cpu,
        peak_bytes: before.peak(),
        moved_bytes: before.moved(),
        peak_max_bytes: limits.memory_max_bytes + limits.output_max_bytes + BESIDE_MAX_BYTES,
        neighbour,
        disturbed,
        left: runtime.stats().live,
    }
}

async fn attempt(runtime: &Runtime, attack: &Attack, file: Vec<u8>) -> (Outcome, Option<Kind>) {
    let refused = |text: String| Outcome {
        code: "refused".to_owned(),
        text,
    };
    let plugin = match runtime.load(file).await {
        Ok(plugin) => plugin,
        Err(refusal) => return (refused(refusal.to_string()), None),
    };
    let kind = plugin.kind();
    if let Err(error) = rules(&plugin).await {
        return (Outcome::of(&error), Some(kind));
    }
    let installed = match set_up(&plugin) {
        Ok(installed) => installed,
        Err(error) => return (refused(error), Some(kind)),
    };
    let mut outcome = Outcome {
        code: "done".to_owned(),
        text: String::new(),
    };
    for _ in 0..attack.calls {
        let context = attack.deadline.map_or_else(context, within);
        let Call { outcome: ended, .. } = kinds::call(&installed, &context).await;
        if let Err(error) = ended {
            outcome = Outcome::of(&error);
            break;
        }
    }
    (outcome, Some(kind))
}

/// Asks a plugin what it thinks of its example, and of settings of a version before, if it has rules for settings.
async fn rules(plugin: &Plugin) -> Result<(), CallError> {
    let example = plugin.manifest().example.clone().unwrap_or_default();
    let settings = serde_json::Value::Object(example).to_string();
    // That it does not like them is no harm.
    let _ = plugin.validate_settings(&settings).await.outcome?;
    let migrated = plugin.migrate_settings("0.0.1", &settings, |_| false).await;
    migrated.outcome.map(drop)
}

impl Outcome {
    fn of(error: &CallError) -> Outcome {
        Outcome {
            code: error.code().to_owned(),
            text: error.to_string(),
        }
    }
}

/// Installs a plugin with all that it asks for, and the settings that it gives as its example.
fn set_up(plugin: &Arc<Plugin>) -> Result<Arc<Installed>, String> {
    let asked: Grants = plugin.manifest().asked();
    let example = plugin.manifest().example.clone().unwrap_or_default();
    let services = Services {
        kv: Some(Arc::new(MemoryKeyValue::new(|| context().now))),
        mail: Some(Arc::new(MemoryRelay::default())),
    };
    let options = InstallOptions {
        services,
        ..InstallOptions::new(id(), asked, example)
    };
    plugin.install(options).map_err(|error| error.to_string())
}

/// A well-behaved check of somebody else, called again and again.
struct Neighbour {
    stop: Arc<AtomicBool>,
    calls: JoinHandle<(Vec<Duration>, Vec<String>)>,
}

impl Neighbour {
    async fn start(runtime: &Runtime) -> Neighbour {
        let code = well_after("");
        let check = installed(runtime, &Guest::check(&code)).await;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        // What is made once for the first call is no part of the measurement.
        assert!(check.run_check(&context()).await.outcome.is_ok());
        let calls = tokio::spawn(async move {
            let (mut took, mut failed) = (Vec::new(), Vec::new());
            let mut beat = tokio::time::interval(BEAT);
            while !told.load(Ordering::SeqCst) {
                let began = Instant::now();
                match check.run_check(&context()).await.outcome {
                    Ok(_) => took.push(began.elapsed()),
                    Err(error) => failed.push(error.to_string()),
                }
                beat.tick().await;
            }
            (took, failed)
        });
        Neighbour { stop, calls }
    }

    /// How long its calls took, and why some failed. The last call began after the attack was over.
    async fn end(self) -> (Vec<Duration>, Vec<String>) {
        self.stop.store(true, Ordering::SeqCst);
        self.calls.await.expect("the neighbour does not panic")
    }
}

/// Resident memory of the process at a moment.
struct Memory {
    resident_bytes: u64,
}

impl Memory {
    fn begin() -> Memory {
        // Sets the peak back to what is in use. Where the system does not allow it, the peak is that of the whole process.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        Memory {
            resident_bytes: status("VmRSS:"),
        }
    }

    fn peak(&self) -> u64 {
        status("VmHWM:").saturating_sub(self.resident_bytes)
    }

    fn moved(&self) -> u64 {
        status("VmRSS:").saturating_sub(self.resident_bytes)
    }
}

/// A line of the process' own status, in bytes; 0 where the system has no such file.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// Processor time of the process so far.
fn process_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec.unsigned_abs() as u32,
    )
}
