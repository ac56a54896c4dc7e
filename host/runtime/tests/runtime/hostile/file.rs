//! Files of others: each is loaded as what it says or exports, and called.

use std::path::Path;

use shoal_model::grant::Kind;
use shoal_runtime::{Refusal, inspect};

use super::bytes::custom;
use super::case::Attack;
use super::measure::{Measured, Outcome, measure};

/// Calls of each file: the second finds what the first left behind.
const CALLS: u32 = 3;

/// What the name says is text of WebAssembly is made into bytes.
///
/// # Errors
/// The file cannot be read, or is text that is none of WebAssembly.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("it cannot be read: {error}"))?;
    if path.extension().is_some_and(|end| end == "wat") {
        let made = wat::parse_bytes(&bytes).map(|bytes| bytes.into_owned());
        return made.map_err(|error| format!("it is no text of WebAssembly: {error}"));
    }
    Ok(bytes)
}

/// Loads a file and calls it.
///
/// One that does not say what it is gets a manifest that asks for everything of a kind, towards nothing, for the first kind that
/// it can be.
pub(crate) async fn run(bytes: Vec<u8>) -> Measured {
    let bytes = match inspect(&bytes) {
        Err(Refusal::NoManifest) => with_manifest(bytes),
        _ => bytes,
    };
    let attack = Attack::bytes(Vec::new()).times(CALLS);
    measure(&attack, bytes, 1).await
}

/// What is not even given to the host.
pub(crate) fn unread(reason: String) -> Outcome {
    Outcome {
        code: "refused".to_owned(),
        text: reason,
    }
}

fn with_manifest(bytes: Vec<u8>) -> Vec<u8> {
    let all = Kind::ALL.map(|kind| {
        let mut bytes = bytes.clone();
        custom(&mut bytes, "shoal:manifest", manifest(kind).as_bytes());
        bytes
    });
    let fits = |bytes: &&Vec<u8>| !matches!(inspect(bytes), Err(Refusal::WrongExport { .. }));
    let fitting = all.iter().find(fits).cloned();
    fitting.unwrap_or_else(|| all[1].clone())
}

/// Asks for what a kind may have, towards a port of this machine that nobody may be connected to.
fn manifest(kind: Kind) -> String {
    let capability = |kind: &str, more: &str| {
        format!("[[capabilities]]\nkind = \"{kind}\"\n{more}\nreason = \"to be tried\"\n")
    };
    let http = capability("http", "hosts = [\"127.0.0.2:9\"]");
    let kv = capability("kv", "");
    let rest = match kind {
        Kind::Receiver => format!(
            "[[endpoints]]\nhttp = \"/v1/tried\"\n{}{kv}",
            capability("ingest", "")
        ),
        Kind::Check => {
            let operations = "operations = [\"tcp\", \"tls\", \"dns\", \"icmp\"]";
            let net = format!("{operations}\nhosts = [\"127.0.0.2:9\"]");
            format!("{http}{kv}{}", capability("net", &net))
        }
        Kind::Channel => {
            let mail = capability("mail", "recipients = [\"nobody@example.com\"]");
            format!("{http}{kv}{mail}")
        }
        Kind::BillingRule => String::new(),
    };
    format!(
        "id = \"tried\"\nversion = \"1.0.0\"\nkind = \"{kind}\"\ntitle = \"Tried\"\ndescription = \"A file without a manifest.\"\n{rest}"
    )
}
