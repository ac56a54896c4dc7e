//! What files are accepted, and how the others are refused.

use super::*;

const CHECK: &str = r#"
    id = "tiny"
    version = "1.0.0"
    kind = "check"
    title = "Tiny"
    description = "Does nothing."
"#;

/// The bytes of `plugin.toml` as text of the WebAssembly text format.
fn quoted(manifest: &str) -> String {
    manifest
        .bytes()
        .map(|byte| format!("\\{byte:02x}"))
        .collect()
}

/// A component with these fields; the export of a check is an empty instance, which is enough to be read.
fn component(fields: &str) -> Vec<u8> {
    let text = format!(
        "(component (instance $empty) (export \"shoal:plugin/check@0.1.0\" (instance $empty)) {fields})"
    );
    wat::parse_str(&text).unwrap_or_else(|e| panic!("{e}"))
}

fn manifest(extra: &str) -> String {
    format!(
        "(@custom \"shoal:manifest\" \"{}\")",
        quoted(&format!("{CHECK}{extra}"))
    )
}

#[track_caller]
fn refused(bytes: &[u8], wanted: &str) {
    let refusal = inspect(bytes).expect_err("refused").to_string();
    assert!(refusal.contains(wanted), "{refusal:?} says {wanted:?}");
}

#[test]
fn a_component_is_read_with_its_imports_and_exports() {
    let bytes = component(&format!(
        "(import \"wasi:io/poll@0.2.6\" (instance)) (import \"shoal:plugin/log@0.1.3\" (instance)) {}",
        manifest("")
    ));
    let inspection = inspect(&bytes).expect("read");
    assert_eq!(inspection.kind, Kind::Check);
    assert_eq!(inspection.manifest.id.as_str(), "tiny");
    assert_eq!(
        inspection.imports,
        ["wasi:io/poll@0.2.6", "shoal:plugin/log@0.1.3"]
    );
    assert_eq!(inspection.exports, ["shoal:plugin/check@0.1.0"]);
    assert_eq!(inspection.size_bytes, bytes.len() as u64);
    assert!(inspection.digest.to_string().starts_with("sha256:"));
}

#[test]
fn a_manifest_may_lie_in_a_module_inside() {
    let bytes = component(&format!("(core module {})", manifest("")));
    assert!(inspect(&bytes).is_ok());
    refused(
        &component(&format!("{0} (core module {0})", manifest(""))),
        "carries 2 manifests",
    );
    refused(&component(""), "carries no manifest");
    refused(
        &component("(@custom \"shoal:manifest\" \"\\ff\")"),
        "not UTF-8 at byte 0",
    );
    refused(
        &component(&manifest("colour = \"red\"")),
        "unknown field `colour`",
    );
}

#[test]
fn what_an_instance_has_in_memory_at_its_start_is_summed_over_its_modules() {
    let bytes = component(&format!(
        "(core module (memory 17)) (core module (memory 2 9)) {}",
        manifest("")
    ));
    let inspection = inspect(&bytes).expect("read");
    assert_eq!(inspection.memory_bytes, 19 * 65_536);
}

#[test]
fn a_file_that_is_no_component_is_refused() {
    refused(b"", "the file is empty");
    refused(b"#!/bin/sh\n", "not WebAssembly");
    refused(
        &wat::parse_str("(module)").expect("a module"),
        "a core module, not a component: build it for wasm32-wasip2",
    );
    let mut large = component(&manifest(""));
    let rest = COMPONENT_MAX_BYTES + 1 - large.len();
    // A custom section without a name: its id, its length in five bytes, the length of the name.
    let length = (rest - 6) as u32;
    let digits = [0, 7, 14, 21, 28].map(|shift| (length >> shift) as u8 & 0x7f);
    large.push(0);
    large.extend(digits[..4].iter().map(|digit| digit | 0x80));
    large.push(digits[4]);
    large.resize(COMPONENT_MAX_BYTES + 1, 0);
    refused(&large, "16777217 bytes, 16777216 are the most");
    refused(
        &vec![0; LARGE_COMPONENT_MAX_BYTES + 1],
        "67108865 bytes, 67108864 are the most",
    );
    let mut cut = component(&manifest(""));
    cut.truncate(cut.len() - 3);
    refused(&cut, "not valid at byte");
    let engine = wasmtime::Engine::default();
    let machine_code = engine
        .precompile_component(&component(&manifest("")))
        .expect("compiles");
    refused(&machine_code, "precompiled machine code");
}

#[test]
fn an_export_must_match_the_kind() {
    let other = format!(
        "(component (instance $i) (export \"shoal:plugin/channel@0.1.0\" (instance $i)) {})",
        manifest("")
    );
    refused(
        &wat::parse_str(&other).expect("a component"),
        "must export shoal:plugin/check@0.1.0; it exports shoal:plugin/channel@0.1.0",
    );
    refused(
        &wat::parse_str(format!("(component {})", manifest(""))).expect("a component"),
        "it exports nothing",
    );
    let later = other.replace("channel@0.1.0", "check@0.2.0");
    refused(
        &wat::parse_str(&later).expect("a component"),
        "built for shoal:plugin/check@0.2.0, this server speaks shoal:plugin@0.1",
    );
}

#[test]
fn an_import_must_be_harmless_or_asked_for() {
    let importing = |import: &str, extra: &str| {
        component(&format!(
            "(import \"{import}\" (instance)) {}",
            manifest(extra)
        ))
    };
    let http =
        "\n[[capabilities]]\nkind = \"http\"\nhosts = [\"example.com\"]\nreason = \"to ask\"\n";
    for (import, wanted) in [
        (
            "wasi:http/outgoing-handler@0.2.6",
            "add [[capabilities]] with kind = \"http\"",
        ),
        (
            "shoal:plugin/net@0.1.0",
            "add [[capabilities]] with kind = \"net\"",
        ),
        ("shoal:plugin/ingest@0.1.0", "which no check gets"),
        ("shoal:plugin/log@0.3.0", "built for shoal:plugin/log@0.3.0"),
        (
            "shoal:plugin/queue@0.1.0",
            "this release has no such interface",
        ),
        ("wasi:sockets/tcp@0.2.6", "through wasi:http"),
        ("wasi:http/incoming-handler@0.2.6", "which no check gets"),
        ("wasi:io/poll@0.3.0", "this server speaks WASI 0.2"),
        ("wasi:keyvalue/store@0.2.0", "which no check gets"),
        ("my:own/thing", "which no check gets"),
    ] {
        refused(&importing(import, ""), wanted);
    }
    refused(
        &importing("wasi:sockets/tcp@0.2.6", http),
        "wasi:sockets/tcp@0.2.6",
    );
    assert!(inspect(&importing("wasi:http/types@0.2.6", http)).is_ok());
}
