//! Files of others: every file of a folder ends in an outcome with a name, in a process that lives on.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::hostile::file;
use crate::hostile::fill::fill;

/// Damaged plugins; `cargo xtask hostile` tries 200.
const DAMAGED: usize = 10;
/// Of the cases every so-manieth is run from its file as well: each is a test of its own already.
const EVERY: usize = 12;

/// The example that runs one file, which is built with these tests.
pub(crate) fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // target/debug/deps/runtime-0123456789abcdef
    let profile = test.ancestors().nth(2).unwrap();
    let program = profile.join("examples").join("hostile");
    assert!(
        program.is_file(),
        "{} is not built: cargo build --workspace --examples",
        program.display()
    );
    program
}

#[test]
fn every_file_of_a_folder_ends_in_an_outcome() {
    let folder = tempfile::tempdir().unwrap();
    let count = fill(folder.path(), DAMAGED);
    let mut paths: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert_eq!(paths.len(), count);
    let is_other = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("noise") || name.starts_with("damaged")
    };
    let chosen = paths
        .iter()
        .enumerate()
        .filter(|(at, path)| is_other(path) || at % EVERY == 0);
    let program = program();
    for (_, path) in chosen {
        let output = Command::new(&program)
            .arg("file")
            .arg(path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let path = path.display();
        assert!(output.status.success(), "{path}: {}: {said}", output.status);
        let ended: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(ended["outcome"].is_string(), "{path}: {ended}");
        assert_eq!(ended["problem"], Value::Null, "{path}: {ended}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_does_not_say_what_it_is_is_tried_as_what_it_exports() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("channel.wat");
    let text = "(component (instance $i) (export \"shoal:plugin/channel@0.1.0\" (instance $i)))";
    std::fs::write(&path, text).unwrap();
    let ended = file::run(file::read(&path).unwrap()).await;
    let told = &ended.outcome.text;
    assert!(
        told.contains("does not fit the contract of a channel"),
        "{told}"
    );
    assert_eq!(ended.harm(), None);

    std::fs::write(&path, "(component (core").unwrap();
    let reason = file::unread(file::read(&path).unwrap_err()).text;
    assert!(
        reason.starts_with("it is no text of WebAssembly"),
        "{reason}"
    );
}
