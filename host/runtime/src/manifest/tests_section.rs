//! `[[tests]]`: what a plugin promises to answer.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Map, Value};
use shoal_model::Timestamp;

use super::{InvalidManifest, Manifest, at, prose};
use crate::egress::script::Exchanges;
use crate::rehearsal::exchange::HttpExchange;
use crate::rehearsal::input::{self, Input};
use crate::rehearsal::net::NetExchange;

/// Tests of a manifest, and requests of a test: each test takes up to the time of a call.
const LIST_MAX: usize = 64;
const NAME_MAX_CHARS: usize = 100;
/// Where the clock stands unless the test says otherwise.
const USUAL_NOW: &str = "2026-01-01T00:00:00Z";

/// One golden test.
#[derive(Clone, Debug)]
pub struct GoldenTest {
    /// What it is about.
    pub name: String,
    pub(crate) settings: Map<String, Value>,
    pub(crate) now: Timestamp,
    pub(crate) input: Input,
    pub(crate) exchanges: Exchanges,
    pub(crate) expect: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TestText {
    name: String,
    settings: Option<Map<String, Value>>,
    now: Option<String>,
    #[serde(default)]
    input: Value,
    #[serde(default)]
    http: Vec<HttpExchange>,
    #[serde(default)]
    net: Vec<NetExchange>,
    expect: Map<String, Value>,
}

pub(super) fn read(
    texts: Vec<TestText>,
    manifest: &Manifest,
) -> Result<Vec<GoldenTest>, InvalidManifest> {
    at_most("tests", texts.len())?;
    let mut names = BTreeSet::new();
    let mut tests = Vec::with_capacity(texts.len());
    for (i, text) in texts.into_iter().enumerate() {
        let key = format!("tests[{i}]");
        let test = test(&key, text, manifest)?;
        if !names.insert(test.name.clone()) {
            return Err(at(format!("{key}.name"), "is the name of two tests"));
        }
        tests.push(test);
    }
    Ok(tests)
}

fn test(key: &str, text: TestText, manifest: &Manifest) -> Result<GoldenTest, InvalidManifest> {
    let name = prose(&format!("{key}.name"), text.name, NAME_MAX_CHARS)?;
    let settings = text.settings.or_else(|| manifest.example.clone());
    let settings = settings.unwrap_or_default();
    manifest
        .settings
        .validate(settings.clone())
        .map_err(|e| at(format!("{key}.settings"), e))?;
    let now = input::time(text.now.as_deref().unwrap_or(USUAL_NOW))
        .map_err(|e| at(format!("{key}.now"), e))?;
    let input = Input::parse(manifest.kind, &manifest.endpoints, now, text.input)
        .map_err(|e| at(format!("{key}.input"), e))?;
    at_most(&format!("{key}.http"), text.http.len())?;
    let mut http = Vec::with_capacity(text.http.len());
    for (i, exchange) in text.http.into_iter().enumerate() {
        let checked = exchange.checked();
        http.push(checked.map_err(|e| at(format!("{key}.http[{i}]"), e))?);
    }
    at_most(&format!("{key}.net"), text.net.len())?;
    let mut net = Vec::with_capacity(text.net.len());
    for (i, exchange) in text.net.into_iter().enumerate() {
        let checked = exchange.checked();
        net.push(checked.map_err(|e| at(format!("{key}.net[{i}]"), e))?);
    }
    if text.expect.is_empty() {
        let reason = "is empty: expect at least outcome = \"ok\"";
        return Err(at(format!("{key}.expect"), reason));
    }
    Ok(GoldenTest {
        name,
        settings,
        now,
        input,
        exchanges: Exchanges { http, net },
        expect: Value::Object(text.expect),
    })
}

fn at_most(key: &str, count: usize) -> Result<(), InvalidManifest> {
    if count <= LIST_MAX {
        return Ok(());
    }
    Err(at(key, format!("{count} where {LIST_MAX} are the most")))
}
