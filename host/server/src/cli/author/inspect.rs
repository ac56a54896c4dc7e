//! `shoal plugin inspect`: what a component says of itself, read without running it.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};
use shoal_runtime::{Inspection, capability_of, inspect, verify};

use crate::cli::output::{Output, text};

pub(super) fn run(bytes: &[u8], output: Output) -> Result<()> {
    let inspection = inspect(bytes)?;
    let shown = as_json(&inspection, bytes);
    output.show(&shown, as_text);
    Ok(())
}

fn as_json(inspection: &Inspection, bytes: &[u8]) -> Value {
    let manifest = &inspection.manifest;
    let texts = |list: &mut dyn Iterator<Item = String>| list.collect::<Vec<_>>();
    let ms = |time: Option<std::time::Duration>| time.map(|time| time.as_millis() as u64);
    let mut imports: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for import in &inspection.imports {
        let by = capability_of(import).map_or("always", |capability| capability.as_str());
        imports.entry(by.to_owned()).or_default().push(import);
    }
    json!({
        "plugin": manifest.id.to_string(),
        "version": manifest.version.to_string(),
        "kind": inspection.kind.to_string(),
        "digest": inspection.digest.to_string(),
        "title": manifest.title,
        "description": manifest.description,
        "size_bytes": inspection.size_bytes,
        "memory_bytes": inspection.memory_bytes,
        "signature": verify(bytes, &[]).to_string(),
        "endpoints": texts(&mut manifest.endpoints.iter().map(ToString::to_string)),
        "asked": manifest.capabilities.iter().map(|asked| json!({
            "capabilities": texts(&mut asked.capabilities.iter().map(ToString::to_string)),
            "reason": asked.reason,
        })).collect::<Vec<_>>(),
        "limits": {
            "cpu_ms": ms(manifest.limits.cpu),
            "wall_ms": ms(manifest.limits.wall),
            "memory_mib": manifest.limits.memory_max_bytes.map(|bytes| bytes >> 20),
        },
        "settings": manifest.settings.json(),
        "secrets": manifest.settings.secrets(),
        "example": manifest.example,
        "tests": texts(&mut manifest.tests.iter().map(|test| test.name.clone())),
        "imports": imports,
        "exports": inspection.exports,
        "custom_sections": inspection.custom_sections.iter().map(|(name, size_bytes)| json!({
            "name": name, "size_bytes": size_bytes,
        })).collect::<Vec<_>>(),
    })
}

fn as_text(shown: &Value) -> String {
    let mut lines = vec![
        format!(
            "{} {}, a {}: {}",
            text(&shown["plugin"]),
            text(&shown["version"]),
            text(&shown["kind"]),
            text(&shown["title"])
        ),
        text(&shown["description"]),
        format!(
            "{} bytes, {} of memory at its start, {}",
            shown["size_bytes"],
            shown["memory_bytes"],
            text(&shown["digest"])
        ),
        text(&shown["signature"]),
    ];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut section = |title: &str, entries: Vec<String>| {
        if !entries.is_empty() {
            lines.push(format!("\n{title}"));
            lines.extend(entries.into_iter().map(|entry| format!("  {entry}")));
        }
    };
    let texts = |value: &Value| list(value).iter().map(text).collect::<Vec<_>>();
    section("serves", texts(&shown["endpoints"]));
    let asked = list(&shown["asked"]).into_iter().flat_map(|asked| {
        let reason = text(&asked["reason"]);
        let capabilities = texts(&asked["capabilities"]).into_iter();
        capabilities.map(move |capability| format!("{capability}  ({reason})"))
    });
    section("asks for", asked.collect());
    let pairs = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let limits = pairs(&shown["limits"]).into_iter();
    let limits = limits.filter(|(_, value)| !value.is_null());
    section(
        "limits",
        limits
            .map(|(name, value)| format!("{name} {value}"))
            .collect(),
    );
    let secrets = texts(&shown["secrets"]);
    let settings = pairs(&shown["settings"]["properties"]).into_iter();
    let settings = settings.map(|(name, schema)| {
        let is_secret = if secrets.contains(&name) {
            ", a secret"
        } else {
            ""
        };
        format!("{name}  ({}{is_secret})", text(&schema["type"]))
    });
    section("settings", settings.collect());
    section("golden tests", texts(&shown["tests"]));
    let imports = pairs(&shown["imports"]).into_iter();
    let imports = imports.flat_map(|(by, names)| {
        let names = texts(&names).into_iter();
        names.map(move |name| format!("{name}  ({by})"))
    });
    section("imports", imports.collect());
    section("exports", texts(&shown["exports"]));
    let customs = list(&shown["custom_sections"]).into_iter();
    let customs = customs.map(|s| format!("{}  ({} bytes)", text(&s["name"]), s["size_bytes"]));
    section("custom sections", customs.collect());
    lines.join("\n")
}
