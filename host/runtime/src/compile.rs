//! Compiling a component: machine code of our own making out of bytes of somebody else's.
//!
//! A component can be written so that compiling it takes hours or all memory. So a server compiles in a process of its own,
//! the same binary started again, which bounds its own processor time and address space before it reads
//! a byte, and is killed when it takes too long all the same. It inherits no environment, opens no file, and answers with
//! bytes on its standard output.
//!
//! The protocol, both sides of which are here: `PROGRAM ARGUMENTS… ENGINE CPU_SECONDS MEMORY_BYTES`, the component on standard
//! input, the code on standard output; or status 1 and the reason on standard error.

use std::ffi::OsString;
use std::io::{Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStderr, ChildStdout, Command};
use tokio::time::timeout;

use crate::call::cut;
use crate::engine::{self, Sort};
use crate::link::reason;

/// Where components are compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Compiler {
    /// Here, without bounds: for tools that run a component of their own user.
    #[default]
    InProcess,
    /// In a process of its own, which runs [`compile_child`].
    Child {
        /// What is started.
        program: PathBuf,
        /// Arguments before those of the protocol.
        arguments: Vec<OsString>,
    },
}

/// What compiling one component may use; ten times as much for one of the class `large`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Processor time of all threads together, in whole seconds. Compiling ends as well when twice as much has passed by the clock.
    pub cpu: Duration,
    /// Address space of the process, in bytes.
    pub memory_max_bytes: u64,
}

impl Default for CompileLimits {
    /// 30 seconds and 1 GiB: a component of 400 kB takes a third of a second and 25 MiB.
    fn default() -> CompileLimits {
        CompileLimits {
            cpu: Duration::from_secs(30),
            memory_max_bytes: 1 << 30,
        }
    }
}

impl CompileLimits {
    /// For an interpreter with its libraries.
    pub(crate) fn large(self) -> CompileLimits {
        CompileLimits {
            cpu: self.cpu * 10,
            memory_max_bytes: self.memory_max_bytes.saturating_mul(4),
        }
    }
}

/// What became of components that were to be loaded, since the runtime was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompileStats {
    /// Loaded from what was compiled before.
    pub hits: u64,
    /// To be compiled, because nothing was kept of them.
    pub misses: u64,
    /// Time by the clock that compiling took, failed compilations included, waiting for a turn not.
    pub compiling: Duration,
}

/// Why there is no code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotCompiled {
    /// The component is at fault.
    Invalid(String),
    /// It takes more than it may: what, in words.
    TooMuch(String),
    /// Nobody knows; the component may be in order.
    Broken(String),
}

/// Most of the child's standard error that is read.
const STDERR_MAX_BYTES: u64 = 8 << 10;
/// Largest code; an interpreter of 18 MiB becomes some 60 MiB.
const CODE_MAX_BYTES: u64 = 512 << 20;
/// Longest reason that is handed on.
const REASON_MAX_BYTES: usize = 1000;
/// Threads of a child: more do not help one component, and each takes address space.
const THREADS: &str = "4";

/// Signals by their numbers on Linux, macOS and the BSDs alike.
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGSEGV: i32 = 11;
const SIGXCPU: i32 = 24;

/// Compiles in a child process. Dropping the future kills it.
pub(crate) async fn in_child(
    program: &PathBuf,
    arguments: &[OsString],
    sort: Sort,
    limits: CompileLimits,
    component: &[u8],
) -> Result<Vec<u8>, NotCompiled> {
    let broken = |what: &str, error: std::io::Error| {
        NotCompiled::Broken(format!(
            "{what} the compiler {}: {error}",
            program.display()
        ))
    };
    let mut child = Command::new(program)
        .args(arguments)
        .args([
            sort.as_str(),
            &limits.cpu.as_secs().max(1).to_string(),
            &limits.memory_max_bytes.to_string(),
        ])
        .env_clear()
        .env("RAYON_NUM_THREADS", THREADS)
        .env("MALLOC_ARENA_MAX", "2")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| broken("cannot start", error))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err(NotCompiled::Broken("the compiler has no pipes".to_owned()));
    };
    let talk = async {
        let give = async {
            // A child that ended early says why by its status.
            let _ = stdin.write_all(component).await;
            drop(stdin);
        };
        let ((), code, said) = tokio::join!(give, output(stdout), remarks(stderr));
        (child.wait().await, code, said)
    };
    let (status, code, said) = timeout(limits.cpu * 2, talk)
        .await
        .map_err(|_| too_long(limits))?;
    let status = status.map_err(|error| broken("cannot wait for", error))?;
    let code = code.map_err(|error| broken("cannot read from", error))?;
    judge(status, &said, limits).map(|()| code)
}

async fn output(stdout: ChildStdout) -> std::io::Result<Vec<u8>> {
    let mut code = Vec::new();
    stdout.take(CODE_MAX_BYTES).read_to_end(&mut code).await?;
    Ok(code)
}

async fn remarks(stderr: ChildStderr) -> String {
    let mut said = Vec::new();
    let _ = stderr.take(STDERR_MAX_BYTES).read_to_end(&mut said).await;
    String::from_utf8_lossy(&said).trim().to_owned()
}

fn judge(status: ExitStatus, said: &str, limits: CompileLimits) -> Result<(), NotCompiled> {
    let out_of_memory = said.contains("memory allocation of")
        || said.contains("Cannot allocate memory")
        || said.contains("out of memory");
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (_, Some(SIGXCPU)) => Err(too_long(limits)),
        // The hard limit of processor time ends it by SIGKILL; so does a system that is out of memory.
        (_, Some(SIGKILL)) => Err(NotCompiled::TooMuch(format!(
            "compiling took too long, or all memory of the system: {} s of processor time and {} MiB are allowed",
            limits.cpu.as_secs(),
            limits.memory_max_bytes >> 20
        ))),
        (_, Some(SIGABRT | SIGSEGV)) if out_of_memory || said.is_empty() => Err(too_big(limits)),
        (Some(1), _) if out_of_memory => Err(too_big(limits)),
        (Some(1), _) => Err(NotCompiled::Invalid(cut(said.to_owned(), REASON_MAX_BYTES))),
        _ => {
            let said = cut(said.to_owned(), REASON_MAX_BYTES);
            Err(NotCompiled::Broken(format!(
                "the compiler ended with {status}: {said}"
            )))
        }
    }
}

fn too_long(limits: CompileLimits) -> NotCompiled {
    NotCompiled::TooMuch(format!(
        "compiling took more than {} s of processor time",
        limits.cpu.as_secs()
    ))
}

fn too_big(limits: CompileLimits) -> NotCompiled {
    NotCompiled::TooMuch(format!(
        "compiling took more than {} MiB of memory",
        limits.memory_max_bytes >> 20
    ))
}

/// The child's side: bounds itself, reads a component, writes its code. `arguments` are those of the protocol.
///
/// To be called by the binary before it does anything else, above all before it starts threads.
pub fn compile_child(arguments: &[String]) -> ExitCode {
    match child(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // Standard error may be closed; then there is nobody to tell.
            let _ = std::io::stderr().write_all(why.as_bytes());
            ExitCode::from(1)
        }
    }
}

fn child(arguments: &[String]) -> Result<(), String> {
    let [sort, cpu_seconds, memory_bytes] = arguments else {
        return Err("this is for the server alone: it compiles a component".to_owned());
    };
    let sort = Sort::named(sort).ok_or_else(|| format!("there is no engine {sort:?}"))?;
    let number = |text: &String| text.parse::<u64>().map_err(|e| format!("{text:?}: {e}"));
    let (cpu, memory) = (number(cpu_seconds)?, number(memory_bytes)?);
    bound(cpu, memory).map_err(|e| format!("cannot bound this process: {e}"))?;
    let mut component = Vec::new();
    std::io::stdin()
        .lock()
        .read_to_end(&mut component)
        .map_err(|e| format!("cannot read the component: {e}"))?;
    let code = engine::compiling_engine(sort)
        .and_then(|engine| engine.precompile_component(&component))
        .map_err(|e| reason(&e))?;
    let mut out = std::io::stdout().lock();
    out.write_all(&code)
        .and_then(|()| out.flush())
        .map_err(|e| format!("cannot hand the code over: {e}"))
}

fn bound(cpu_seconds: u64, memory_bytes: u64) -> std::io::Result<()> {
    use rlimit::Resource;
    rlimit::setrlimit(Resource::CORE, 0, 0)?;
    // A second after the signal that can be told from others comes the one that cannot be caught.
    rlimit::setrlimit(Resource::CPU, cpu_seconds, cpu_seconds + 1)?;
    rlimit::setrlimit(Resource::AS, memory_bytes, memory_bytes)?;
    // It writes to pipes only.
    rlimit::setrlimit(Resource::FSIZE, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: CompileLimits = CompileLimits {
        cpu: Duration::from_secs(1),
        memory_max_bytes: 256 << 20,
    };

    /// What becomes of a compiler that is a shell script.
    async fn with(script: &str) -> Result<Vec<u8>, NotCompiled> {
        let arguments = ["-c".into(), script.into(), "compiler".into()];
        in_child(
            &"/bin/sh".into(),
            &arguments,
            Sort::General,
            LIMITS,
            &[0; 1 << 20],
        )
        .await
    }

    #[tokio::test]
    async fn the_child_gets_the_component_and_gives_the_code() {
        let code = with("test $1 = general && test $2 = 1 && wc -c").await;
        assert_eq!(
            String::from_utf8_lossy(&code.expect("code")).trim(),
            "1048576"
        );
    }

    #[tokio::test]
    async fn it_inherits_nothing() {
        let code = with("cat >/dev/null; env").await.expect("code");
        let text = String::from_utf8_lossy(&code).into_owned();
        assert!(!text.contains("CARGO") && !text.contains("HOME="), "{text}");
    }

    #[tokio::test]
    async fn each_end_of_a_child_is_told_apart() {
        let too_long =
            NotCompiled::TooMuch("compiling took more than 1 s of processor time".into());
        assert_eq!(
            with("exec sleep 3600").await,
            Err(too_long.clone()),
            "by the clock"
        );
        assert_eq!(with("kill -XCPU $$").await, Err(too_long));
        let too_big = NotCompiled::TooMuch("compiling took more than 256 MiB of memory".into());
        let abort = with("echo memory allocation of 8 bytes failed >&2; kill -ABRT $$").await;
        assert_eq!(abort, Err(too_big));
        let invalid = with("echo it is odd >&2; exit 1").await;
        assert_eq!(invalid, Err(NotCompiled::Invalid("it is odd".into())));
        assert!(matches!(with("exit 7").await, Err(NotCompiled::Broken(_))));
        let missing = in_child(&"/nowhere".into(), &[], Sort::General, LIMITS, &[]).await;
        assert!(
            matches!(missing, Err(NotCompiled::Broken(_))),
            "{missing:?}"
        );
    }
}
