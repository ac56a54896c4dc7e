//! Settings on a command line: `--set NAME=VALUE` and `--set-file NAME=FILE`, read alike by every command.

use anyhow::{Context as _, Result, anyhow};
use serde_json::{Map, Value};
use shoal_runtime::SettingsSchema;

use super::client::Client;

/// `a=1`, `b=text` as an object, each value as its schema asks for it.
pub(super) fn pairs(settings: &[String], schema: &SettingsSchema) -> Result<Map<String, Value>> {
    let pair = |pair: &String| {
        let (name, value) = parts(pair)?;
        Ok((name.to_owned(), schema.read(name, value)?))
    };
    settings.iter().map(pair).collect()
}

/// The same for an installation that is there: `null` takes a setting away.
pub(super) fn changes(settings: &[String], schema: &SettingsSchema) -> Result<Map<String, Value>> {
    let is_gone = |pair: &&String| pair.split_once('=').is_some_and(|(_, text)| text == "null");
    let (gone, given): (Vec<_>, Vec<_>) = settings.iter().partition(is_gone);
    let given: Vec<String> = given.into_iter().cloned().collect();
    let mut changes = pairs(&given, schema)?;
    for pair in gone {
        changes.insert(parts(pair)?.0.to_owned(), Value::Null);
    }
    Ok(changes)
}

fn parts(pair: &str) -> Result<(&str, &str)> {
    let parts = pair.split_once('=');
    parts.with_context(|| format!("{pair:?} is not NAME=VALUE"))
}

/// `token=secret.txt` as an object: the texts of the files, without the line end that editors leave.
pub(super) fn from_files(files: &[String]) -> Result<Map<String, Value>> {
    let pair = |text: &String| {
        let (name, file) = text
            .split_once('=')
            .with_context(|| format!("{text:?} is not NAME=FILE"))?;
        let content = match file {
            "-" => std::io::read_to_string(std::io::stdin()),
            file => std::fs::read_to_string(file),
        };
        let content = content.with_context(|| format!("cannot read setting {name} from {file}"))?;
        let content = content.trim_end_matches(['\r', '\n']);
        Ok((name.to_owned(), Value::from(content)))
    };
    files.iter().map(pair).collect()
}

/// Which version of a plugin settings are for.
pub(super) enum Which<'a> {
    Digest(&'a str),
    /// The one that is active there.
    Track(&'a str),
}

/// The schema of a version's settings, as the server has it.
pub(super) async fn schema(
    client: &Client,
    plugin: &str,
    which: Which<'_>,
) -> Result<SettingsSchema> {
    let list = client.get("/api/v1/plugins").await?;
    let is_it = |version: &&Value| {
        let is_chosen = match which {
            Which::Digest(digest) => version["digest"] == digest,
            Which::Track(track) => {
                let tracks = version["active_on"].as_array().into_iter().flatten();
                tracks.into_iter().any(|one| one == track)
            }
        };
        version["plugin"] == plugin && is_chosen
    };
    let versions = list["versions"].as_array().into_iter().flatten();
    let found = versions.into_iter().find(is_it).ok_or_else(|| match which {
        Which::Digest(digest) => anyhow!("there is no version {digest} of {plugin:?}; see: shoal plugin list"),
        Which::Track(track) => {
            anyhow!("no version of {plugin:?} is active on the track {track}; see: shoal plugin list")
        }
    })?;
    Ok(SettingsSchema::parse(found["settings"].clone())?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_schema_calls_text_is_text_and_everything_else_is_json_of_its_type() {
        let schema = json!({ "type": "object", "properties": {
            "price": { "type": "string" }, "count": { "type": "integer" }, "is_on": { "type": "boolean" },
            "to": { "type": "array", "items": { "type": "string" } },
            "map": { "type": "object", "additionalProperties": { "type": "number" } },
        } });
        let schema = SettingsSchema::parse(schema).expect("a schema");
        for (pair, expected) in [
            ("price=1.10", json!({ "price": "1.10" })),
            ("price=true", json!({ "price": "true" })),
            ("price=\"1.10\"", json!({ "price": "1.10" })),
            ("price=a=b", json!({ "price": "a=b" })),
            ("price=", json!({ "price": "" })),
            ("count=1", json!({ "count": 1 })),
            ("is_on=true", json!({ "is_on": true })),
            ("to=[\"a\"]", json!({ "to": ["a"] })),
            ("map={\"a\": 1}", json!({ "map": { "a": 1 } })),
        ] {
            let given = pairs(&[pair.to_owned()], &schema).expect(pair);
            assert_eq!(Value::Object(given), expected, "{pair}");
        }
        for (pair, expected) in [
            ("price", "\"price\" is not NAME=VALUE"),
            ("count=one", "count: \"one\" is no integer"),
            ("count=1.5", "count: \"1.5\" is no integer"),
            ("is_on=yes", "is_on: \"yes\" is no boolean, true or false"),
            (
                "to=a",
                "to: \"a\" is no array, written as JSON, such as [\"a\", \"b\"]",
            ),
            (
                "map=[]",
                "map: \"[]\" is no object, written as JSON, such as {\"a\": 1}",
            ),
            (
                "other=1",
                "other: is unknown: there are count, is_on, map, price, to",
            ),
        ] {
            let error = pairs(&[pair.to_owned()], &schema).expect_err(pair);
            assert_eq!(error.to_string(), expected);
        }
        let taken = changes(&["price=null".to_owned()], &schema).expect("taken away");
        assert_eq!(Value::Object(taken), json!({ "price": null }));
    }
}
