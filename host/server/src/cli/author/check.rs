//! `shoal plugin check`: everything that a server looks at before it takes a version, and what changed since the last.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use serde_json::{Map, Value, json};
use shoal_model::InstallationId;
use shoal_runtime::{
    Difference, Inspection, InstallOptions, LimitClass, MemoryKeyValue, MemoryRelay, Plugin,
    PublicKey, PublisherKey, READY_MEMORY_BYTES, RuntimeOptions, Services, SignatureState, Step,
    differences, inspect, verify,
};

use super::{all_good, runtime, source, test};
use crate::cli::output::{Output, text};
use crate::clock::Clock;
use crate::random::RandomId as _;

#[derive(Default)]
struct Checks(Vec<Value>);

impl Checks {
    fn add(&mut self, name: &str, outcome: Result<String, String>) {
        let (passed, detail) = match outcome {
            Ok(detail) => (true, detail),
            Err(problem) => (false, problem),
        };
        self.0
            .push(json!({ "check": name, "passed": passed, "detail": detail }));
    }

    fn failed(&self) -> usize {
        self.0
            .iter()
            .filter(|check| check["passed"] != true)
            .count()
    }
}

pub(super) async fn run(
    plugin: &Path,
    against: Option<&Path>,
    signed_by: Option<PublicKey>,
    output: Output,
) -> Result<()> {
    let bytes = source::component(plugin).await?;
    let mut checks = Checks::default();
    let mut shown = json!({ "file": plugin });
    // The contract: exports of its kind, imports within its manifest.
    match inspect(&bytes) {
        Err(refusal) => checks.add("component", Err(refusal.to_string())),
        Ok(inspection) => {
            let (kind, manifest) = (inspection.kind, &inspection.manifest);
            shown["plugin"] = manifest.id.to_string().into();
            shown["version"] = manifest.version.to_string().into();
            shown["digest"] = inspection.digest.to_string().into();
            let imports = inspection.imports.len();
            let detail = format!("a {kind} with {imports} imports, all within its manifest");
            checks.add("component", Ok(detail));
            checks.add("signature", signature(&bytes, signed_by));
            run_it(bytes, &mut checks).await?;
            if let Some(old) = against {
                let old = inspect(&source::read(old)?)?;
                let (changes, outcome) = compared(&old, &inspection);
                shown["differences"] = changes;
                checks.add("version", outcome);
            }
        }
    }
    let (failed, all) = (checks.failed(), checks.0.len());
    shown["checks"] = checks.0.into();
    output.show(&shown, as_text);
    all_good(failed, all, "checks")
}

fn signature(bytes: &[u8], signed_by: Option<PublicKey>) -> Result<String, String> {
    let Some(key) = signed_by else {
        return match verify(bytes, &[]) {
            SignatureState::UnknownKey { key_id } => Ok(format!("signed with the key {key_id}")),
            SignatureState::Unsigned => Ok("not signed".to_owned()),
            other => Err(other.to_string()),
        };
    };
    let trusted = [PublisherKey {
        publisher: "this publisher".to_owned(),
        key: key.0,
    }];
    match verify(bytes, &trusted) {
        state @ SignatureState::Valid { .. } => Ok(state.to_string()),
        state => Err(state.to_string()),
    }
}

/// Loads it, installs it with its example and tries its promises.
async fn run_it(bytes: Vec<u8>, checks: &mut Checks) -> Result<()> {
    let plugin = match runtime(RuntimeOptions::default())?.load(bytes).await {
        Ok(plugin) => plugin,
        Err(refusal) => {
            checks.add("start", Err(refusal.to_string()));
            return Ok(());
        }
    };
    checks.add("start", Ok(started(plugin.inspection())));
    checks.add("example", example(&plugin));
    let tests = plugin.run_golden_tests().await;
    if tests.is_empty() {
        let problem = "there are none: write [[tests]] in plugin.toml".to_owned();
        checks.add("golden tests", Err(problem));
    }
    for result in tests.iter().map(test::as_json) {
        let name = format!("test {:?}", text(&result["name"]));
        let outcome = match result["problem"].as_str() {
            Some(problem) => Err(problem.to_owned()),
            None => Ok(text(&result["found"]["outcome"])),
        };
        checks.add(&name, outcome);
    }
    Ok(())
}

/// That it started, and what makes it slower than it need be. An interpreter has no choice.
fn started(inspection: &Inspection) -> String {
    let well = "compiles and starts within its limits";
    let memory_bytes = inspection.memory_bytes;
    let is_large = inspection.manifest.limits.class == LimitClass::Large;
    if memory_bytes <= READY_MEMORY_BYTES || is_large {
        return well.to_owned();
    }
    format!(
        "{well}; its {} KiB of memory are more than the {} that are kept ready, which makes every call slower: a smaller stack \
         helps, see Stack in docs/writing-plugins/limits.md",
        memory_bytes >> 10,
        READY_MEMORY_BYTES >> 10
    )
}

fn example(plugin: &Arc<Plugin>) -> Result<String, String> {
    let manifest = plugin.manifest();
    let properties = manifest.settings.json()["properties"].as_object();
    let has_settings = properties.is_some_and(|properties| !properties.is_empty());
    let example = match manifest.example.clone() {
        Some(example) => example,
        // There is one way to set nothing.
        None if !has_settings => Map::new(),
        None => return Err("there is none: write [example] in plugin.toml".to_owned()),
    };
    let mut options = InstallOptions::new(InstallationId::random(), manifest.asked(), example);
    // What a deployment offers is not the plugin's to promise: here everything is there.
    options.services = Services {
        kv: Some(Arc::new(MemoryKeyValue::new(|| Clock::system().now()))),
        mail: Some(Arc::new(MemoryRelay::default())),
    };
    match plugin.install(options) {
        Ok(_) => Ok("satisfies the schema, and every destination can be made out".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// What changed, and whether the version number says so.
fn compared(old: &Inspection, new: &Inspection) -> (Value, Result<String, String>) {
    let found = differences(old, new);
    let needed = found.iter().map(|d| d.step).max().unwrap_or(Step::Patch);
    let changes = found
        .iter()
        .map(|Difference { step, what }| json!({ "step": step.as_str(), "what": what }))
        .collect();
    let (before, after) = (&old.manifest.version, &new.manifest.version);
    let verdict = match Step::taken(before, after) {
        None => Err(format!(
            "{after} is not above {before}: a {needed} step is needed"
        )),
        Some(taken) if taken < needed => Err(format!(
            "{before} to {after} is a {taken} step, and what changed needs a {needed} step"
        )),
        Some(taken) => Ok(format!(
            "{before} to {after} is a {taken} step, and what changed needs a {needed} step"
        )),
    };
    (changes, verdict)
}

fn as_text(shown: &Value) -> String {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut lines = Vec::new();
    for change in list(&shown["differences"]) {
        lines.push(format!(
            "{:<6}  {}",
            text(&change["step"]),
            text(&change["what"])
        ));
    }
    for check in list(&shown["checks"]) {
        let word = if check["passed"] == true {
            "ok"
        } else {
            "FAILED"
        };
        lines.push(format!(
            "{word:<6}  {}: {}",
            text(&check["check"]),
            text(&check["detail"])
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A check whose instances begin with so many pages of 64 KiB.
    fn with_pages(pages: u32, extra: &str) -> Inspection {
        let manifest = format!(
            "id = \"tiny\"\nkind = \"check\"\nversion = \"1.0.0\"\ntitle = \"t\"\ndescription = \"d\"\n{extra}"
        );
        let quoted: String = manifest.bytes().map(|b| format!("\\{b:02x}")).collect();
        let text = format!(
            "(component (instance $empty) (export \"shoal:plugin/check@0.1.0\" (instance $empty))
             (core module (memory {pages})) (@custom \"shoal:manifest\" \"{quoted}\"))"
        );
        inspect(&wat::parse_str(&text).expect("a component")).expect("a plugin")
    }

    #[test]
    fn memory_that_makes_calls_slower_is_told_to_whoever_can_change_it() {
        assert!(!started(&with_pages(4, "")).contains("slower"));
        let slow = started(&with_pages(17, ""));
        assert!(
            slow.contains("1088 KiB") && slow.contains("the 256"),
            "{slow}"
        );
        let large = started(&with_pages(17, "[limits]\nclass = \"large\"\n"));
        assert!(!large.contains("slower"), "an interpreter needs it");
    }
}
