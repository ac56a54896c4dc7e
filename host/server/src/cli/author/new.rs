//! `shoal plugin new`: a whole small plugin, with the SDK and the contract beside it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use shoal_model::grant::Kind;

use crate::cli::output::Output;

/// The SDK, the contract, and the versions and the stack that they were tested with: path and text.
const SDK: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sdk.rs"));

/// Where the SDK looks for the contract in the repository, and in a plugin's folder.
const WIT_PATH: (&str, &str) = ("\"../../wit\"", "\"../wit\"");

const CARGO: &str = include_str!("template/Cargo.toml");
const README: &str = include_str!("template/README.md");
const GITIGNORE: &str = "/target\n*.key\n";

/// What stands in a template for the plugin's name.
const NAME: &str = "plugin-name";
const KIND: &str = "plugin-kind";

macro_rules! template {
    ($folder:literal) => {
        (
            include_str!(concat!("template/", $folder, "/plugin.toml")),
            include_str!(concat!("template/", $folder, "/lib.rs")),
        )
    };
}

/// Manifest and code of a kind.
fn template(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Receiver => template!("receiver"),
        Kind::Check => template!("check"),
        Kind::Channel => template!("channel"),
        Kind::BillingRule => template!("billing-rule"),
    }
}

pub(super) fn run(name: &str, kind: &str, path: Option<PathBuf>, output: Output) -> Result<()> {
    check_name(name)?;
    let kind: Kind = kind.parse()?;
    let folder = path.unwrap_or_else(|| PathBuf::from(name));
    ensure!(!folder.exists(), "{} exists already", folder.display());
    let (manifest, code) = template(kind);
    let own = |text: &str| text.replace(NAME, name).replace(KIND, kind.as_str());
    for (path, text) in [
        ("Cargo.toml", own(CARGO)),
        ("README.md", own(&readme(name))),
        (".gitignore", GITIGNORE.to_owned()),
        ("plugin.toml", own(manifest)),
        ("src/lib.rs", own(code)),
    ] {
        write(&folder.join(path), &text)?;
    }
    for (path, text) in SDK {
        write(&folder.join(path), &text.replace(WIT_PATH.0, WIT_PATH.1))?;
    }
    let shown = json!({ "plugin": name, "kind": kind.as_str(), "folder": folder });
    output.show(&shown, |_| {
        format!(
            "made {}, a {kind}. Next:\n\
             \x20 cd {0}\n\
             \x20 cargo test                                          # natively\n\
             \x20 cargo build --target wasm32-wasip2 --release        # the component\n\
             \x20 shoal plugin check .",
            folder.display()
        )
    });
    Ok(())
}

/// The component's file is named as Rust names the crate.
fn readme(name: &str) -> String {
    README.replace("plugin_name", &name.replace('-', "_"))
}

/// Cargo's and the manifest's common ground: small letters, digits and single dashes.
fn check_name(name: &str) -> Result<()> {
    let is_word = |part: &str| {
        let mut bytes = part.bytes();
        !part.is_empty() && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    ensure!(
        name.len() <= 64
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.split('-').all(is_word),
        "a plugin cannot be called {name:?}: use up to 64 small letters, digits and dashes, such as dns-check"
    );
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<()> {
    let parent = file.parent().expect("every file is in the folder");
    std::fs::create_dir_all(parent)
        .and_then(|()| std::fs::write(file, text))
        .with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_runtime::Manifest;

    #[test]
    fn names_that_cargo_or_the_manifest_would_refuse_are_refused_first() {
        for good in ["dns-check", "a1"] {
            check_name(good).expect(good);
        }
        for bad in ["", "-a", "a-", "a--b", "A", "a_b", "1a", "../x"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_template_has_a_manifest_with_an_example_and_tests() {
        for kind in Kind::ALL {
            let (manifest, code) = template(kind);
            let text = manifest.replace(NAME, "my-plugin");
            let manifest = Manifest::parse(&text).unwrap_or_else(|e| panic!("{kind}: {e}"));
            assert_eq!(manifest.kind, kind);
            assert!(manifest.example.is_some(), "{kind}");
            assert!(manifest.tests.len() >= 2, "{kind}");
            assert!(code.contains("#[cfg(test)]"), "{kind}");
        }
    }

    #[test]
    fn the_sdk_and_the_contract_come_along() {
        for wanted in [
            "Cargo.lock",
            ".cargo/config.toml",
            "sdk/Cargo.toml",
            "sdk/src/lib.rs",
            "wit/worlds.wit",
        ] {
            assert!(SDK.iter().any(|(path, _)| *path == wanted), "{wanted}");
        }
        let bytes: usize = SDK.iter().map(|(_, text)| text.len()).sum();
        assert!(bytes < 1 << 20, "{bytes} bytes in every binary");
    }
}
