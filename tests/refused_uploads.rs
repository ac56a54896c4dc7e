//! A file that is refused leaves nothing behind: no version, no line of audit, no file, no memory.

use std::collections::BTreeSet;
use std::path::Path;

use reqwest::Method;
use serde_json::Value;
use shoal_runtime::COMPONENT_MAX_BYTES;

use crate::support::components::{component, text};
use crate::support::{Database, Server, each_database};

/// How much more memory the server may have in use after many refusals than after the first ones: what its allocator
/// keeps, and its own work meanwhile.
const MEMORY_MAX_BYTES: u64 = 64 << 20;
/// Rounds of all refusals.
const ROUNDS: usize = 3;

/// Files, and what each is refused with.
fn refused() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    vec![
        ("nothing", Vec::new(), "is empty, not a component"),
        ("text", b"id = \"x\"".to_vec(), "is not WebAssembly"),
        (
            "a core module",
            wat("(module)"),
            "is a core module, not a component",
        ),
        (
            "half a plugin",
            half(component("otlp")),
            "the component is not valid at byte",
        ),
        (
            "machine code",
            machine_code(),
            "is precompiled machine code",
        ),
        (
            "one byte too many",
            padded(COMPONENT_MAX_BYTES + 1),
            "are the most",
        ),
        ("no manifest", wat("(component)"), "carries no manifest"),
        (
            "another contract",
            check("@0.2.0", "", ""),
            "this server speaks shoal:plugin@0.1",
        ),
        (
            "an import beyond",
            check("@0.1.0", "", HTTP),
            "does not ask for it: add [[capabilities]]",
        ),
        (
            "sockets",
            check("@0.1.0", "", SOCKETS),
            "which no check gets",
        ),
        (
            "no functions",
            check("@0.1.0", "", ""),
            "does not fit the contract of a check",
        ),
        (
            "limits beyond",
            check("@0.1.0", "[limits]\ncpu_ms = 3600000", ""),
            "limits.cpu_ms asks for",
        ),
        (
            "a wrong manifest",
            check("@0.1.0", "[limits]\ncpus = 3", ""),
            "plugin.toml",
        ),
        ("an endless start", endless_start(), "the component"),
    ]
}

const HTTP: &str = "(import \"wasi:http/outgoing-handler@0.2.6\" (instance))";
const SOCKETS: &str = "(import \"wasi:sockets/tcp@0.2.6\" (instance))";

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("it is WebAssembly")
}

/// A check that exports an empty interface of some version of the contract.
fn check(version: &str, manifest: &str, import: &str) -> Vec<u8> {
    let mut bytes = wat(&format!(
        "(component {import} (instance $empty) (export \"shoal:plugin/check{version}\" (instance $empty)))"
    ));
    let text = format!(
        "id = \"refused\"\nversion = \"1.0.0\"\nkind = \"check\"\ntitle = \"Refused\"\ndescription = \"Refused.\"\n{manifest}"
    );
    custom(&mut bytes, "shoal:manifest", text.as_bytes());
    bytes
}

/// A whole plugin beside a module whose start function never ends.
fn endless_start() -> Vec<u8> {
    let inner = wat(
        "(component (core module $m (func $f (loop $l (br $l))) (start $f)) (core instance (instantiate $m)))",
    );
    let mut bytes = component("echo-1");
    section(&mut bytes, 4, &inner);
    // Which component it is among those of the plugin; too large a number is refused as well.
    section(&mut bytes, 5, &[1, 0, 1, 0]);
    bytes
}

fn half(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() / 2);
    bytes
}

/// The head of an ELF file of the system and the sort that machine code of components has.
fn machine_code() -> Vec<u8> {
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 200];
    bytes.resize(16, 0);
    // Type, machine, version, entry, program and section headers.
    bytes.extend([1, 0, 62, 0, 1, 0, 0, 0]);
    bytes.resize(48, 0);
    // Flags: a component. Sizes of headers.
    bytes.extend([2, 0, 0, 0, 64, 0, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0]);
    bytes
}

/// A whole plugin of so many bytes.
fn padded(size: usize) -> Vec<u8> {
    let mut bytes = component("echo-1");
    let missing = size - bytes.len();
    // Id, five bytes of length, one of the name's length, the name.
    custom(&mut bytes, "padding", &vec![0; missing - 6 - 8]);
    bytes.resize(size, 0);
    bytes
}

fn custom(bytes: &mut Vec<u8>, name: &str, content: &[u8]) {
    let mut named = vec![u8::try_from(name.len()).expect("short")];
    named.extend(name.as_bytes());
    named.extend(content);
    section(bytes, 0, &named);
}

/// A section whose length is written in five bytes.
fn section(bytes: &mut Vec<u8>, id: u8, content: &[u8]) {
    let length = u32::try_from(content.len()).expect("small");
    bytes.push(id);
    bytes.extend((0..5).map(|at| {
        let more = if at < 4 { 0x80 } else { 0 };
        (length >> (7 * at)) as u8 & 0x7f | more
    }));
    bytes.extend(content);
}

async fn upload(server: &Server, bytes: Vec<u8>) -> (u16, String) {
    let operator = server.operator();
    let path = "/api/v1/plugins";
    let answer = operator
        .send_bytes(Method::POST, path, "application/wasm", bytes)
        .await;
    (answer.status, answer.text)
}

/// What a refused file could have left: versions, lines of audit, files beside telemetry.
async fn traces(server: &Server) -> (Value, Value, BTreeSet<String>) {
    let operator = server.operator();
    let mut files = BTreeSet::new();
    list(&server.data(), &mut files);
    (
        operator.get("/api/v1/plugins").await.is(200),
        operator.get("/api/v1/audit").await.is(200),
        files,
    )
}

/// Every file below a folder but those of telemetry, to which the server adds its own.
fn list(folder: &Path, files: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("the server's folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("telemetry") {
            list(&path, files);
        } else {
            files.insert(path.display().to_string());
        }
    }
}

/// Memory that the server has in use; 0 where the system does not tell.
fn memory(server: &Server) -> u64 {
    let path = format!("/proc/{}/status", server.process_id());
    let status = std::fs::read_to_string(path).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_file_is_refused_with_its_reason_and_leaves_nothing_behind() {
    each_database(async |server| {
        let kept = server.approve("echo-1").await;
        let before = traces(server).await;
        let mut used = Vec::new();
        for _ in 0..ROUNDS {
            for (what, bytes, says) in refused() {
                let (status, told) = upload(server, bytes).await;
                assert_eq!(status, 400, "{what}: {told}");
                assert!(told.contains(says), "{what}: {told} does not say {says:?}");
                assert!(told.len() < 8192, "{what}: {} bytes of reason", told.len());
            }
            // What is far too large is not even read.
            let (status, told) = upload(server, vec![0; 80 << 20]).await;
            assert!(matches!(status, 400 | 413), "80 MiB: {status} {told}");
            used.push(memory(server));
        }
        assert_eq!(traces(server).await, before);
        let grown = used[ROUNDS - 1].saturating_sub(used[0]);
        assert!(
            grown < MEMORY_MAX_BYTES,
            "memory after each round: {used:?}"
        );
        // What was there before runs as before.
        let tenant = server.tenant("acme").await;
        tenant.enable("echo", serde_json::json!({})).await;
        let answer = tenant
            .otlp
            .send_bytes(Method::POST, "/echo", "text/plain", "x")
            .await;
        assert_eq!(text(&answer.is(200)["version"]), text(&kept["version"]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_signatures_are_required_an_unsigned_file_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("shoal.toml");
    std::fs::write(&config, "[plugins]\nsignatures = \"require\"\n").expect("a file");
    let arguments = ["--config", config.to_str().expect("a path of text")];
    let server = Server::start_with(Database::sqlite(), &arguments).await;
    let before = traces(&server).await;
    let (status, told) = upload(&server, component("otlp")).await;
    assert_eq!(status, 400, "{told}");
    assert!(told.contains("wants a trusted signature"), "{told}");
    assert!(told.contains("shoal plugin sign"), "{told}");
    assert_eq!(traces(&server).await, before);
    server.stop().await;
}
