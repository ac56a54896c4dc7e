//! Reading a component without compiling or running it.
//!
//! What a component *can* do is in its list of imports, what it *wants* is in its manifest; a component whose
//! imports go beyond its manifest is refused here, long before anybody grants anything.

use sha2::{Digest as _, Sha256};
use shoal_model::Digest;
use shoal_model::grant::{CapabilityKind, Kind};
use wasmparser::{Encoding, Parser, Payload, Validator};

use crate::call::cut;
use crate::manifest::{InvalidManifest, LimitClass, MANIFEST_MAX_BYTES, Manifest, SECTION};
use crate::optional::is_optional;
use crate::refusal::Refusal;

/// Largest component, unless it asks for the class `large`: compiled languages take some 100 kB.
pub const COMPONENT_MAX_BYTES: usize = 16 << 20;
/// Largest component of the class `large`: Python with its libraries takes 18 to 40 MB.
pub const LARGE_COMPONENT_MAX_BYTES: usize = 64 << 20;

/// Memory of an instance that stays mapped between calls, so that a fresh one need not be given it page by page.
pub const READY_MEMORY_BYTES: u64 = 256 << 10;

/// Custom sections that are listed; tools make about twenty.
const CUSTOM_SECTIONS_MAX: usize = 100;
/// Longest name of an import or export; the longest of WASI has 40.
const NAME_MAX_BYTES: usize = 300;
/// Longest reason why a file is not valid.
const REASON_MAX_BYTES: usize = 1000;

/// What a component says of itself.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// SHA-256 of the bytes: the name of this version.
    pub digest: Digest,
    /// Its manifest.
    pub manifest: Manifest,
    /// What it is for.
    pub kind: Kind,
    /// Interfaces that it needs, in its order, such as `wasi:io/poll@0.2.6`.
    pub imports: Vec<String>,
    /// Interfaces that it offers, in its order.
    pub exports: Vec<String>,
    /// How large it is.
    pub size_bytes: u64,
    /// Memory that a fresh instance has before it takes more: stack, data, and all that lies between. More than
    /// [`READY_MEMORY_BYTES`] makes every call dearer.
    pub memory_bytes: u64,
    /// Names and sizes of its custom sections, of all depths, in its order; what is the same name is one entry.
    pub custom_sections: Vec<(String, u64)>,
}

/// Reads a component and checks what can be checked without running it.
///
/// Takes some milliseconds for a megabyte.
///
/// # Errors
/// Why the file is not accepted.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, Refusal> {
    check_size(bytes, LARGE_COMPONENT_MAX_BYTES)?;
    check_encoding(bytes)?;
    let parts = read(bytes)?;
    if bytes.len() > COMPONENT_MAX_BYTES && parts.manifest()?.limits.class == LimitClass::Standard {
        check_size(bytes, COMPONENT_MAX_BYTES)?;
    }
    Validator::new()
        .validate_all(bytes)
        .map_err(|e| malformed(&e))?;
    let manifest = parts.manifest()?;
    let kind = manifest.kind;
    check_exports(&parts.exports, kind)?;
    for import in &parts.imports {
        check_import(import, &manifest)?;
    }
    Ok(Inspection {
        digest: Digest(Sha256::digest(bytes).into()),
        manifest,
        kind,
        imports: parts.imports,
        exports: parts.exports,
        size_bytes: bytes.len() as u64,
        memory_bytes: parts.memory_bytes,
        custom_sections: parts.custom_sections,
    })
}

fn check_size(bytes: &[u8], max_bytes: usize) -> Result<(), Refusal> {
    if bytes.len() <= max_bytes {
        return Ok(());
    }
    Err(Refusal::TooLarge {
        size_bytes: bytes.len() as u64,
        max_bytes: max_bytes as u64,
    })
}

pub(crate) fn check_encoding(bytes: &[u8]) -> Result<(), Refusal> {
    if wasmtime::Engine::detect_precompiled(bytes).is_some() {
        return Err(Refusal::Precompiled);
    }
    if Parser::is_component(bytes) {
        return Ok(());
    }
    Err(if Parser::is_core_wasm(bytes) {
        Refusal::NotAComponent {
            found: "a core module",
            next: "build it for wasm32-wasip2",
        }
    } else if bytes.is_empty() {
        Refusal::NotAComponent {
            found: "empty",
            next: "upload the .wasm file that the build left",
        }
    } else {
        Refusal::NotAComponent {
            found: "not WebAssembly",
            next: "upload the .wasm file that the build left",
        }
    })
}

fn malformed(error: &wasmparser::BinaryReaderError) -> Refusal {
    Refusal::Malformed {
        offset: error.offset() as u64,
        reason: cut(error.message().to_owned(), REASON_MAX_BYTES),
    }
}

#[derive(Default)]
struct Parts {
    imports: Vec<String>,
    exports: Vec<String>,
    manifests: Vec<Vec<u8>>,
    memory_bytes: u64,
    custom_sections: Vec<(String, u64)>,
}

/// Walks the sections; imports and exports count at the top only, manifests anywhere.
fn read(bytes: &[u8]) -> Result<Parts, Refusal> {
    let mut parts = Parts::default();
    let mut depth = 0usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(|e| malformed(&e))? {
            Payload::Version { encoding, .. } => {
                depth += 1;
                debug_assert!(depth > 1 || encoding == Encoding::Component);
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    let import = import.map_err(|e| malformed(&e))?;
                    parts.imports.push(name(import.name.name));
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    let export = export.map_err(|e| malformed(&e))?;
                    parts.exports.push(name(export.name.name));
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    let memory = memory.map_err(|e| malformed(&e))?;
                    let page_bytes = 1u64 << memory.page_size_log2.unwrap_or(16).min(16);
                    let bytes = memory.initial.saturating_mul(page_bytes);
                    parts.memory_bytes = parts.memory_bytes.saturating_add(bytes);
                }
            }
            Payload::CustomSection(section) => {
                parts.count(section.name(), section.data().len() as u64);
                if section.name() == SECTION {
                    parts.manifests.push(section.data().to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(parts)
}

/// A name as it is compared and shown; what is longer than any of ours is none of ours.
fn name(name: &str) -> String {
    cut(name.to_owned(), NAME_MAX_BYTES)
}

impl Parts {
    /// Beyond [`CUSTOM_SECTIONS_MAX`] names, the rest is left out.
    fn count(&mut self, name: &str, size_bytes: u64) {
        let known = self.custom_sections.iter_mut();
        if let Some((_, size)) = known.into_iter().find(|(known, _)| known == name) {
            *size += size_bytes;
        } else if self.custom_sections.len() < CUSTOM_SECTIONS_MAX {
            self.custom_sections
                .push((cut(name.to_owned(), NAME_MAX_BYTES), size_bytes));
        }
    }

    fn manifest(&self) -> Result<Manifest, Refusal> {
        let [data] = self.manifests.as_slice() else {
            return Err(match self.manifests.len() {
                0 => Refusal::NoManifest,
                several => Refusal::SeveralManifests(several),
            });
        };
        if data.len() > MANIFEST_MAX_BYTES {
            return Err(InvalidManifest::Syntax(format!(
                "{} bytes where {MANIFEST_MAX_BYTES} are the most",
                data.len()
            ))
            .into());
        }
        let text = std::str::from_utf8(data).map_err(|e| {
            InvalidManifest::Syntax(format!("not UTF-8 at byte {}", e.valid_up_to()))
        })?;
        Ok(Manifest::parse(text)?)
    }
}

/// The one interface that a kind exports.
pub(crate) fn export_of(kind: Kind) -> String {
    format!("shoal:plugin/{kind}@0.1.0")
}

fn check_exports(exports: &[String], kind: Kind) -> Result<(), Refusal> {
    let mut found = false;
    for export in exports {
        let Some((interface, version)) = shoal(export) else {
            continue;
        };
        if !is_spoken(version) {
            return Err(Refusal::UnknownVersion {
                name: export.clone(),
            });
        }
        found |= interface == kind.as_str();
        if interface != kind.as_str() && !is_optional(interface) {
            return Err(wrong_export(exports, kind));
        }
    }
    if found {
        Ok(())
    } else {
        Err(wrong_export(exports, kind))
    }
}

fn wrong_export(exports: &[String], kind: Kind) -> Refusal {
    Refusal::WrongExport {
        kind,
        wanted: export_of(kind),
        found: exports.to_vec(),
    }
}

/// Interface and version of a name `shoal:plugin/interface@version`.
fn shoal(name: &str) -> Option<(&str, &str)> {
    let name = name.strip_prefix("shoal:plugin/")?;
    Some(name.split_once('@').unwrap_or((name, "")))
}

/// Versions of `shoal:plugin` that one linker serves: the same minor.
fn is_spoken(version: &str) -> bool {
    semver::Version::parse(version).is_ok_and(|v| (v.major, v.minor) == (0, 1))
}

/// The WASI interfaces that every plugin gets, empty: what the standard libraries of languages import anyway.
const BASELINE: [&str; 20] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:clocks/wall-clock",
    "wasi:clocks/monotonic-clock",
    "wasi:random/random",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:filesystem/types",
    "wasi:filesystem/preopens",
];

/// What interpreters import beside it.
const SOCKETS: [&str; 7] = [
    "wasi:sockets/network",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/tcp",
    "wasi:sockets/udp-create-socket",
    "wasi:sockets/udp",
];

/// The capability that an import belongs to, if it needs one.
pub fn capability_of(import: &str) -> Option<CapabilityKind> {
    match import.split('@').next().unwrap_or_default() {
        "wasi:http/types" | "wasi:http/outgoing-handler" => Some(CapabilityKind::Http),
        "shoal:plugin/net" => Some(CapabilityKind::Net),
        "shoal:plugin/ingest" => Some(CapabilityKind::Ingest),
        "shoal:plugin/mail" => Some(CapabilityKind::Mail),
        "shoal:plugin/kv" => Some(CapabilityKind::Kv),
        "shoal:plugin/secrets" => Some(CapabilityKind::Secrets),
        _ => None,
    }
}

fn check_import(import: &str, manifest: &Manifest) -> Result<(), Refusal> {
    let kind = manifest.kind;
    let forbidden = |next| {
        Err(Refusal::ForbiddenImport {
            import: import.to_owned(),
            kind,
            next,
        })
    };
    if shoal(import).is_some_and(|(_, version)| !is_spoken(version)) {
        return Err(Refusal::UnknownVersion {
            name: import.to_owned(),
        });
    }
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    if name.starts_with("wasi:") && !version.starts_with("0.2.") {
        return forbidden("this server speaks WASI 0.2: build for wasm32-wasip2");
    }
    if let Some(capability) = capability_of(import) {
        if !kind.may_ask().contains(&capability) {
            return forbidden("leave out the code that uses it");
        }
        if !manifest.asked().has(capability) {
            return Err(Refusal::UnaskedImport {
                import: import.to_owned(),
                capability,
            });
        }
        return Ok(());
    }
    match name {
        "shoal:plugin/types" | "shoal:plugin/telemetry" | "shoal:plugin/log" => Ok(()),
        _ if BASELINE.contains(&name) => Ok(()),
        // An interpreter's C library brings them along; they are linked so that each use is refused.
        _ if SOCKETS.contains(&name) && manifest.limits.class == LimitClass::Large => Ok(()),
        _ if name.starts_with("wasi:sockets/") => forbidden(
            "open connections through wasi:http, or ask the host through shoal:plugin/net",
        ),
        _ if name.starts_with("shoal:plugin/") => {
            forbidden("this release has no such interface: rebuild with its SDK")
        }
        _ => forbidden("leave out the code that uses it"),
    }
}

#[cfg(test)]
mod tests;
