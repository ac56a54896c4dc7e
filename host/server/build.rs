//! Puts the SDK and the contract into the binary, so that `shoal plugin new` needs no network.
#![expect(
    clippy::disallowed_methods,
    reason = "cargo tells a build script by its environment where it is"
)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Folders that a new plugin gets a copy of, and where.
const FOLDERS: [(&str, &str); 2] = [("plugins/sdk", "sdk"), ("wit", "wit")];
/// Files of it.
const FILES: [(&str, &str); 2] = [
    ("plugins/Cargo.lock", "Cargo.lock"),
    ("plugins/.cargo/config.toml", ".cargo/config.toml"),
];

fn main() {
    let of = |variable| PathBuf::from(std::env::var(variable).expect("cargo sets it"));
    let root = of("CARGO_MANIFEST_DIR").join("../..");
    let mut table = String::from("&[\n");
    for (folder, name) in FOLDERS {
        let folder = root.join(folder);
        println!("cargo:rerun-if-changed={}", folder.display());
        add(&folder, name, &mut table);
    }
    for (file, name) in FILES {
        let file = root.join(file);
        println!("cargo:rerun-if-changed={}", file.display());
        line(&file, name, &mut table);
    }
    table.push(']');
    let file = of("OUT_DIR").join("sdk.rs");
    std::fs::write(file, table).expect("cargo's folder can be written");
}

/// A row for each file, folders inside included.
fn add(folder: &Path, name: &str, table: &mut String) {
    let entries = std::fs::read_dir(folder).expect("the folder is in the repository");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("the folder can be read").path())
        .collect();
    paths.sort();
    for path in paths {
        let file = path.file_name().expect("an entry has a name");
        let name = format!("{name}/{}", file.to_string_lossy());
        if path.is_dir() {
            add(&path, &name, table);
        } else {
            line(&path, &name, table);
        }
    }
}

fn line(path: &Path, name: &str, table: &mut String) {
    let path = path.canonicalize().expect("the file was listed");
    writeln!(table, "    ({name:?}, include_str!({path:?})),").expect("text takes text");
}
