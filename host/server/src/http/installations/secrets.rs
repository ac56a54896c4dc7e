//! Secrets that a change leaves out stay, but only with the server that they were given for.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use shoal_model::grant::{Capability, Destination};
use shoal_runtime::Manifest;

use super::ApiError;

/// New settings, with the present secrets that they leave out.
///
/// Who may change settings but does not know a secret must not be able to have it sent elsewhere, or without TLS.
pub(super) fn kept(
    mut settings: Map<String, Value>,
    present: &Map<String, Value>,
    secret_names: &BTreeSet<String>,
    manifest: &Manifest,
) -> Result<Map<String, Value>, ApiError> {
    let is_kept = |name: &String| secret_names.contains(name) && !settings.contains_key(name);
    let kept: Vec<String> = present
        .keys()
        .filter(|name| is_kept(name))
        .cloned()
        .collect();
    for name in &kept {
        settings.insert(name.clone(), present[name].clone());
    }
    let Some(secret) = kept.first() else {
        return Ok(settings);
    };
    for name in destinations(manifest) {
        if server(present.get(&name)) != server(settings.get(&name)) && !kept.contains(&name) {
            return Err(ApiError::bad_request(
                "secret_needed",
                format!("setting {name} names another server, so give the secret {secret} again"),
            ));
        }
    }
    Ok(settings)
}

/// The settings whose URLs say where an installation may connect to.
fn destinations(manifest: &Manifest) -> Vec<String> {
    let asked = manifest.asked();
    let setting = |capability: &Capability| match capability {
        Capability::Http { to, .. }
        | Capability::Net { to, .. }
        | Capability::Secret { to: Some(to), .. } => match to {
            Destination::Setting(name) => Some(name.clone()),
            Destination::Host { .. } => None,
        },
        _ => None,
    };
    asked.0.iter().filter_map(setting).collect()
}

/// Scheme, host and port of a URL.
fn server(url: Option<&Value>) -> Option<(String, String)> {
    let uri: http::Uri = url?.as_str()?.parse().ok()?;
    let authority = uri.authority()?.as_str().to_ascii_lowercase();
    Some((uri.scheme_str()?.to_owned(), authority))
}
