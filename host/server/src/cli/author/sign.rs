//! `shoal plugin keygen`, `sign` and `verify`.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use shoal_runtime::{PublicKey, PublisherKey, SignatureState, SigningKey};

use super::source;
use crate::cli::output::Output;
use crate::random;

/// Makes a key; a file that is there stays.
pub(super) fn keygen(to: &Path, output: Output) -> Result<()> {
    let key = SigningKey::from_seed(random::bytes());
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options
        .open(to)
        .with_context(|| format!("cannot make {}", to.display()))?;
    writeln!(file, "{}", key.to_secret_text())?;
    let public = key.public();
    let shown = json!({
        "file": to,
        "public_key": public.to_string(),
        "key_id": public.id().to_string(),
    });
    output.show(&shown, |_| {
        format!(
            "{public}\nthe secret half is in {}: whoever has it publishes in your name",
            to.display()
        )
    });
    Ok(())
}

pub(super) fn sign(file: &Path, key: &Path, to: &Path, output: Output) -> Result<()> {
    let bytes = source::read(file)?;
    // What no server would take is not worth a signature.
    let inspection = shoal_runtime::inspect(&bytes)?;
    let text =
        std::fs::read_to_string(key).with_context(|| format!("cannot read {}", key.display()))?;
    let key: SigningKey = text
        .parse()
        .with_context(|| format!("{} holds no secret key", key.display()))?;
    let signed = shoal_runtime::sign(&bytes, &key);
    let digest = shoal_runtime::inspect(&signed)?.digest;
    source::write(to, &signed)?;
    let key_id = key.public().id();
    let shown = json!({
        "file": to,
        "plugin": inspection.manifest.id.to_string(),
        "version": inspection.manifest.version.to_string(),
        "digest": digest.to_string(),
        "key_id": key_id.to_string(),
    });
    output.show(&shown, |_| {
        format!("signed {} with the key {key_id}\n{digest}", to.display())
    });
    Ok(())
}

pub(super) fn verify(file: &Path, key: PublicKey, output: Output) -> Result<()> {
    let trusted = [PublisherKey {
        publisher: "this publisher".to_owned(),
        key: key.0,
    }];
    match shoal_runtime::verify(&source::read(file)?, &trusted) {
        SignatureState::Valid { key_id, .. } => {
            let shown = json!({ "file": file, "valid": true, "key_id": key_id.to_string() });
            output.show(&shown, |_| {
                format!("{} is as the key {key_id} signed it", file.display())
            });
            Ok(())
        }
        other => bail!("{}: {other}", file.display()),
    }
}
