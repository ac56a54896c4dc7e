//! `cargo xtask new-plugin NAME`: a copy of a first-party plugin under a new name.
//!
//! There is no template language: the example is the template, so it cannot rot apart from what works.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::command::root;
use crate::report;

/// What is copied unless `--from` says otherwise.
const DEFAULT_EXAMPLE: &str = "http-check";

/// Folders of an example that are not part of it.
const LEFT_OUT: [&str; 1] = ["target"];

/// Copies the example and makes the copy a member of the plugins' workspace.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (name, example) = match arguments {
        [name] => (name.as_str(), DEFAULT_EXAMPLE),
        [name, flag, example] if flag == "--from" => (name.as_str(), example.as_str()),
        _ => bail!("usage: cargo xtask new-plugin NAME [--from DIR]"),
    };
    check_name(name)?;
    let plugins = root().join("plugins");
    let (from, to) = (plugins.join(example), plugins.join(name));
    ensure!(
        from.join("plugin.toml").is_file(),
        "plugins/{example} is no plugin to copy: it has no plugin.toml"
    );
    ensure!(!to.exists(), "plugins/{name} exists already");
    copy(&from, &to, example, name)?;
    add_member(&plugins.join("Cargo.toml"), name)?;
    report::line(format_args!(
        "plugins/{name} is a copy of plugins/{example}. Next:\n\
         \x20 edit plugins/{name}/plugin.toml and plugins/{name}/src/lib.rs\n\
         \x20 (cd plugins && cargo test -p {name})        # its tests, natively\n\
         \x20 cargo xtask plugins                         # its component\n\
         \x20 shoal plugin inspect plugins/target/wasm32-wasip2/release/{}.wasm",
        name.replace('-', "_")
    ));
    Ok(())
}

/// Cargo's and the manifest's common ground: small letters, digits and single dashes.
fn check_name(name: &str) -> Result<()> {
    let parts_are_words = name.split('-').all(|part| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    });
    ensure!(
        parts_are_words
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.len() <= 64,
        "a plugin cannot be called `{name}`: use up to 64 small letters, digits and dashes, such as `dns-check`"
    );
    Ok(())
}

/// Copies a folder, replacing the example's name in texts.
fn copy(from: &Path, to: &Path, example: &str, name: &str) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("could not make {}", to.display()))?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            if !LEFT_OUT.contains(&entry.file_name().to_string_lossy().as_ref()) {
                copy(&source, &target, example, name)?;
            }
            continue;
        }
        let bytes = std::fs::read(&source)?;
        match String::from_utf8(bytes) {
            Ok(text) => std::fs::write(&target, rename(&text, example, name))?,
            Err(binary) => std::fs::write(&target, binary.into_bytes())?,
        }
    }
    Ok(())
}

/// Replaces the name as Cargo writes it and as Rust does.
fn rename(text: &str, example: &str, name: &str) -> String {
    text.replace(example, name)
        .replace(&example.replace('-', "_"), &name.replace('-', "_"))
}

/// Adds the folder to `members = [`, unless a pattern covers it.
fn add_member(manifest: &Path, name: &str) -> Result<()> {
    let text = std::fs::read_to_string(manifest)?;
    if text.contains(r#"members = ["*"]"#) {
        return Ok(());
    }
    ensure!(
        text.contains("members = ["),
        "{} has no `members = [`; add {name:?} by hand",
        manifest.display()
    );
    let text = text.replacen("members = [", &format!("members = [\"{name}\", "), 1);
    std::fs::write(manifest, text)
        .with_context(|| format!("could not write {}", manifest.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_carries_the_new_name_only() {
        let text = "name = \"http-check\"\nlet http_check = 1;";
        assert_eq!(
            rename(text, "http-check", "dns-check"),
            "name = \"dns-check\"\nlet dns_check = 1;"
        );
    }

    #[test]
    fn names_that_cargo_or_the_manifest_would_refuse_are_refused_first() {
        for good in ["dns-check", "a1"] {
            check_name(good).expect(good);
        }
        for bad in ["", "-a", "a-", "a--b", "A", "a_b", "1a", "../x"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
