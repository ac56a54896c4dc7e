//! Components are compiled by a process of their own, the binary `shoal` again, which ends when it takes too much; and
//! only what this server made of them is loaded.

use std::path::{Path, PathBuf};
use std::time::Duration;

use shoal_model::Digest;
use shoal_runtime::{ArtifactOptions, CompileLimits, Compiler, Refusal, Runtime, RuntimeOptions};

use crate::support::components::component;

/// A runtime that keeps what it compiles in `folder`, with a compiler of one's choice.
fn runtime(folder: &Path, program: &str, compile: CompileLimits) -> Runtime {
    let options = RuntimeOptions {
        concurrent_calls_max: 4,
        compiler: Compiler::Child {
            program: program.into(),
            arguments: vec!["compile-component".into()],
        },
        compile,
        artifacts: Some(ArtifactOptions {
            folder: folder.to_owned(),
            key: [7; 32],
            max_bytes: 1 << 30,
        }),
        ..RuntimeOptions::default()
    };
    Runtime::new(options).expect("a runtime")
}

const SHOAL: &str = env!("CARGO_BIN_EXE_shoal");
/// A compiler that is not there: whoever gets by without it has not compiled.
const NONE: &str = "/nowhere/shoal";

async fn load(folder: &Path, program: &str) -> Result<Digest, Refusal> {
    let runtime = runtime(folder, program, CompileLimits::default());
    let plugin = runtime.load(component("webhook")).await?;
    Ok(plugin.digest())
}

fn artifact(folder: &Path) -> PathBuf {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut paths = entries.map(|entry| entry.expect("an entry").path());
    let found = paths.find(|path| path.extension().is_some_and(|end| end == "artifact"));
    found.expect("it was kept")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_compiled_once_is_loaded_again_unless_it_was_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let digest = load(folder, SHOAL).await.expect("compiled");
    assert_eq!(load(folder, NONE).await, Ok(digest), "kept");
    let artifact = artifact(folder);
    let mut bytes = std::fs::read(&artifact).expect("kept");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&artifact, bytes).expect("changed");
    let refusal = load(folder, NONE).await.expect_err("it is not trusted");
    assert!(matches!(refusal, Refusal::CompilerFailed(_)), "{refusal:?}");
    assert_eq!(load(folder, SHOAL).await, Ok(digest), "compiled anew");
    assert_eq!(load(folder, NONE).await, Ok(digest), "kept again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_being_started_twice_when_the_process_ended_waits_to_be_forgiven() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let digest = load(folder, SHOAL).await.expect("compiled");
    let left = || std::fs::read_dir(folder).expect("a folder").count();
    assert_eq!(left(), 1, "no mark is left of a start that went well");
    let hex = digest.to_string().replace("sha256:", "");
    let killed = || std::fs::write(folder.join(format!("{hex}-0.starting")), "").expect("written");
    for _ in 0..2 {
        killed();
        assert_eq!(load(folder, NONE).await, Ok(digest), "once may be chance");
        assert_eq!(left(), 1, "a start that goes well clears it");
    }
    killed();
    // A process that ends before it comes to this component.
    drop(runtime(folder, NONE, CompileLimits::default()));
    killed();
    for _ in 0..2 {
        assert_eq!(load(folder, NONE).await, Err(Refusal::Suspect(digest)));
    }
    let runtime = runtime(folder, NONE, CompileLimits::default());
    assert_eq!(runtime.suspects(), [digest]);
    assert!(runtime.forgive(&digest).expect("forgiven"));
    assert_eq!(load(folder, NONE).await, Ok(digest));
}

/// A number as WebAssembly has it.
fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let (low, rest) = ((number & 0x7f) as u8, number >> 7);
        bytes.push(if rest == 0 { low } else { low | 0x80 });
        if rest == 0 {
            return bytes;
        }
        number = rest;
    }
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &leb128(content.len()), content].concat()
}

/// A component of 7 MB whose one function is as large as functions may be.
fn bomb() -> Vec<u8> {
    // No locals; local 0 = local 0 + 1, again and again; the end.
    let add = [0x20, 0x00, 0x41, 0x01, 0x6a, 0x21, 0x00];
    let body = [&[0x00][..], &add.repeat(1_000_000), &[0x0b]].concat();
    let code = [&[0x01][..], &leb128(body.len()), &body].concat();
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[0x01, 0x60, 0x01, 0x7f, 0x00]),
        section(3, &[0x01, 0x00]),
        section(10, &code),
    ]
    .concat();
    let mut component = wat::parse_str(
        r#"(component
             (core module $m (func (export "run")))
             (core instance $i (instantiate $m))
             (func $run (canon lift (core func $i "run")))
             (instance $check (export "run" (func $run)))
             (export "shoal:plugin/check@0.1.0" (instance $check))
             (@custom "shoal:manifest" "id = \"bomb\"\nversion = \"1.0.0\"\nkind = \"check\"\ntitle = \"Bomb\"\ndescription = \"Takes long to compile.\"")
           )"#,
    )
    .expect("a component");
    component.extend(section(1, &module));
    component
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compile_bomb_ends_its_compiler_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    for (compile, wanted) in [
        (
            CompileLimits {
                cpu: Duration::from_secs(1),
                memory_max_bytes: 8 << 30,
            },
            "compiling took more than 1 s of processor time",
        ),
        (
            CompileLimits {
                cpu: Duration::from_secs(60),
                memory_max_bytes: 400 << 20,
            },
            "compiling took more than 400 MiB of memory",
        ),
    ] {
        let runtime = runtime(folder.path(), SHOAL, compile);
        let refusal = runtime.load(bomb()).await.expect_err("too much");
        let Refusal::CompileLimit(what) = &refusal else {
            panic!("{refusal:?}");
        };
        assert_eq!(what, wanted);
    }
    let left = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(left, 0, "nothing is left behind");
}
