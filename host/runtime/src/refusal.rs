//! Why a file is not accepted as a plugin.

use shoal_model::Digest;
use shoal_model::grant::{CapabilityKind, Kind};

use crate::call::cut;
use crate::manifest::InvalidManifest;

/// Longest reason that quotes the file: a file may hold one line of 16 MiB.
const REASON_MAX_BYTES: usize = 1000;
/// Names of exports that are shown.
const NAMES_MAX: usize = 10;

/// A file is not accepted as a plugin. Each says which value is at fault and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Larger than [`COMPONENT_MAX_BYTES`](crate::COMPONENT_MAX_BYTES), or
    /// [`LARGE_COMPONENT_MAX_BYTES`](crate::LARGE_COMPONENT_MAX_BYTES) where it asks for the class `large`.
    #[error(
        "the file has {size_bytes} bytes, {max_bytes} are the most: strip it, or leave data out; an interpreter asks for limits.class = \"large\" in plugin.toml"
    )]
    TooLarge {
        /// Size of the file.
        size_bytes: u64,
        /// The most that is accepted.
        max_bytes: u64,
    },
    /// Something else than a component.
    #[error("the file is {found}, not a component: {next}")]
    NotAComponent {
        /// What it is.
        found: &'static str,
        /// What to do.
        next: &'static str,
    },
    /// Machine code that some server made.
    #[error(
        "the file is precompiled machine code, which is never accepted: upload the component that it was made from"
    )]
    Precompiled,
    /// Damaged, or in need of a feature that is off.
    #[error("the component is not valid at byte {offset}: {reason}")]
    Malformed {
        /// Where.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// Nothing says what it is and wants.
    #[error(
        "the component carries no manifest (custom section \"shoal:manifest\"): export the plugin with the SDK's macro, or add plugin.toml with `shoal plugin pack`"
    )]
    NoManifest,
    /// Two parts of it say what it is.
    #[error(
        "the component carries {0} manifests (custom sections \"shoal:manifest\"), there must be one"
    )]
    SeveralManifests(usize),
    /// The manifest breaks a rule.
    #[error("{}", cut(.0.to_string(), REASON_MAX_BYTES))]
    Manifest(#[from] InvalidManifest),
    /// It does not export what its kind must.
    #[error("plugin.toml says kind = \"{kind}\", so the component must export {wanted}; it exports {}", list(.found))]
    WrongExport {
        /// What the manifest says.
        kind: Kind,
        /// The interface of that kind.
        wanted: String,
        /// What it exports.
        found: Vec<String>,
    },
    /// It was built for a contract that this server does not speak.
    #[error(
        "the component was built for {name}, this server speaks shoal:plugin@0.1: rebuild it with the SDK of this release"
    )]
    UnknownVersion {
        /// The interface with its version.
        name: String,
    },
    /// It imports something that no plugin gets.
    #[error("the component imports {import}, which no {kind} gets: {next}")]
    ForbiddenImport {
        /// What it imports.
        import: String,
        /// What the manifest says it is.
        kind: Kind,
        /// What to do.
        next: &'static str,
    },
    /// It imports something that it did not ask for.
    #[error("the component imports {import}, but plugin.toml does not ask for it: add [[capabilities]] with kind = \"{}\" and a reason", .capability.as_str())]
    UnaskedImport {
        /// What it imports.
        import: String,
        /// What to ask for.
        capability: CapabilityKind,
    },
    /// It asks for bounds beyond the deployment's.
    #[error("plugin.toml: {0}: ask for less, or have the operator raise the limit")]
    LimitBeyond(String),
    /// Its interfaces have other types than the contract, or it needs more than the host has room for.
    #[error("the component does not fit the contract of a {kind}: {reason}")]
    Incompatible {
        /// What the manifest says it is.
        kind: Kind,
        /// What does not fit.
        reason: String,
    },
    /// Compiling it takes more than the deployment allows.
    #[error("{0}: make it smaller, above all its largest function")]
    CompileLimit(String),
    /// The compiler is at fault, or the system.
    #[error("the component could not be compiled, which is no fault of it: {0}")]
    CompilerFailed(String),
    /// The server ended while it was started, twice; it is not tried again.
    #[error(
        "the server ended twice while {0} was started, so it is not started again until an operator forgives it, or a new version replaces it"
    )]
    Suspect(Digest),
    /// It wants to be large, and the deployment has no room for that.
    #[error(
        "plugin.toml: limits.class = \"large\" needs the operator's leave: [plugins] allow_large = true in the server's configuration"
    )]
    LargeNotAllowed,
    /// A billing rule wants to be large.
    #[error(
        "plugin.toml: limits.class = \"large\" is for receivers, checks and channels: a billing rule runs in the deterministic engine, which has no room for an interpreter"
    )]
    LargeBillingRule,
    /// Its start-up code failed.
    #[error("the component cannot start: {0}")]
    CannotStart(String),
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "nothing".into();
    }
    let shown = names[..names.len().min(NAMES_MAX)].join(", ");
    match names.len().saturating_sub(NAMES_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
