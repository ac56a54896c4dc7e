//! Before a version is added: everything that can be found wrong with it without anybody's settings.
//!
//! In this order, each with a reason that names the next step: size, form, imports and types (the runtime), the signature that
//! the deployment asks for, the golden tests of the manifest, the example settings. A version that is refused leaves
//! nothing behind: nothing was stored, and what was compiled is dropped here.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use shoal_model::Digest;
use shoal_runtime::{Plugin, PublicKey, PublisherKey, SignatureState, verify};

use super::registry::{NotRunnable, PluginRegistry};
use crate::db::plugins::VersionRow;
use crate::task::blocking;

/// What the deployment asks of signatures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignaturePolicy {
    /// Nothing.
    Off,
    /// A version without a trusted signature is added, and says so.
    #[default]
    Warn,
    /// A version without a trusted signature is refused.
    Require,
}

/// A version that may be added.
pub struct Prepared {
    /// As it is to be stored.
    pub version: VersionRow,
    /// What the operator should know.
    pub warning: Option<String>,
}

impl SignaturePolicy {
    /// Reads `off`, `warn` or `require`.
    pub fn named(name: &str) -> Option<SignaturePolicy> {
        match name {
            "off" => Some(SignaturePolicy::Off),
            "warn" => Some(SignaturePolicy::Warn),
            "require" => Some(SignaturePolicy::Require),
            _ => None,
        }
    }

    /// What to tell of a signature; the error is why it is not enough. One that is wrong is never enough.
    fn judge(self, state: &SignatureState) -> Result<Option<String>, String> {
        let problem = match state {
            SignatureState::Valid { .. } => return Ok(None),
            SignatureState::Invalid { .. } => return Err(format!("{state}")),
            SignatureState::Unsigned => {
                "it is not signed; its publisher does it with: shoal plugin sign".to_owned()
            }
            SignatureState::UnknownKey { .. } => format!(
                "it is {state}; an operator trusts a publisher with: shoal publisher add NAME shoal-pub:KEY"
            ),
        };
        match self {
            SignaturePolicy::Off => Ok(None),
            SignaturePolicy::Warn => Ok(Some(problem)),
            SignaturePolicy::Require => Err(format!(
                "this deployment wants a trusted signature ([plugins] signatures = \"require\"), and {problem}"
            )),
        }
    }
}

/// What is stored of a signature: its state, and whose it is.
fn stored(state: SignatureState) -> (&'static str, Option<String>) {
    match state {
        SignatureState::Valid { publisher, .. } => ("valid", Some(publisher)),
        SignatureState::UnknownKey { .. } => ("unknown-key", None),
        SignatureState::Unsigned | SignatureState::Invalid { .. } => ("unsigned", None),
    }
}

/// How many golden tests there are; the error names the first promise that is not kept, what was expected and what was found.
async fn run_golden_tests(plugin: &Arc<Plugin>) -> Result<i64, String> {
    let results = plugin.run_golden_tests().await;
    for result in &results {
        if let Err(problem) = &result.outcome {
            return Err(format!(
                "its golden test {:?} fails: {problem}; try it with: shoal plugin test FILE",
                result.name
            ));
        }
    }
    Ok(results.len() as i64)
}

impl PluginRegistry {
    /// Looks a component over that somebody wants to add.
    ///
    /// # Errors
    /// Why it is refused.
    pub async fn prepare(&self, bytes: Vec<u8>) -> Result<Prepared, NotRunnable> {
        let hash = move || (Digest(Sha256::digest(&bytes).into()), bytes);
        let (digest, bytes) = blocking(hash).await;
        let prepared = self.look_over(bytes).await;
        if prepared.is_err() {
            self.discard(&digest).await;
        }
        prepared
    }

    /// Removes what was compiled of a component that is refused, unless it was added before.
    async fn discard(&self, digest: &Digest) {
        let text = digest.to_string();
        let removed = match self.db.system().version(&text).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => self.runtime.discard(digest).map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = removed {
            tracing::warn!(%error, plugin.digest = text, "what was compiled of a refused plugin stays until room is needed");
        }
    }

    async fn look_over(&self, bytes: Vec<u8>) -> Result<Prepared, NotRunnable> {
        let refused = |reason: String| NotRunnable::Reason(reason);
        let trusted = self.trusted().await?;
        // Who trusts nobody yet need not be told of each version that nobody vouches for.
        let has_publishers = !trusted.is_empty();
        let (state, bytes) = blocking(move || (verify(&bytes, &trusted), bytes)).await;
        let warning = self.signatures.judge(&state).map_err(refused)?;
        let loaded = self.runtime.load(bytes).await;
        let plugin = loaded.map_err(|refusal| refused(refusal.to_string()))?;
        let golden_passed = run_golden_tests(&plugin).await.map_err(refused)?;
        if let Some(example) = plugin.manifest().example.clone() {
            let accepted = self.accepts(&plugin, &example).await;
            accepted.map_err(|reason| refused(format!("its example is refused: {reason}")))?;
        }
        let (inspection, manifest) = (plugin.inspection(), plugin.manifest());
        let (signature_state, publisher) = stored(state);
        let version = VersionRow {
            digest: inspection.digest.to_string(),
            plugin_id: manifest.id.to_string(),
            version: manifest.version.to_string(),
            kind: inspection.kind.to_string(),
            manifest: manifest.text.clone(),
            size_bytes: inspection.size_bytes as i64,
            added_at_ms: self.clock.now().0,
            signature_state: signature_state.to_owned(),
            publisher,
            golden_passed,
            approved_grants: None,
            approved_at_ms: None,
            approved_by: None,
            approved_hash: None,
            approval: None,
        };
        Ok(Prepared {
            version,
            warning: warning.filter(|_| has_publishers),
        })
    }

    /// Why a stored version may not be approved: the policy may have changed since it was added.
    pub(super) fn check_signature(&self, version: &VersionRow) -> Result<(), NotRunnable> {
        if self.signatures != SignaturePolicy::Require || version.signature_state == "valid" {
            return Ok(());
        }
        Err(NotRunnable::Reason(format!(
            "this deployment wants a trusted signature ([plugins] signatures = \"require\"), and version {} of {} has none; add it again, signed",
            version.version, version.plugin_id
        )))
    }

    async fn trusted(&self) -> Result<Vec<PublisherKey>, NotRunnable> {
        let mut trusted = Vec::new();
        for row in self.db.system().publishers().await? {
            match row.key.parse::<PublicKey>() {
                Ok(key) => trusted.push(PublisherKey {
                    publisher: row.name,
                    key: key.0,
                }),
                Err(error) => {
                    tracing::error!(publisher = row.name, %error, "a stored key is not understood; it is left out");
                }
            }
        }
        Ok(trusted)
    }
}
