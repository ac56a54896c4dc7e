//! The OpenAPI document against what the server really answers: every GET, with something of everything there.

use reqwest::Method;
use serde_json::{Value, json};
use shoal_server::auth::Role;

use crate::isolation::{furnish, rows};
use crate::support::each_database;

#[tokio::test]
async fn what_the_document_says_is_what_is_answered() {
    each_database(async |server| {
        let owner = server.tenant("acme").await;
        let ids = furnish(server, &owner).await;
        server.approve("mackerel-plan").await;
        let rule = json!({ "plugin": "mackerel-plan" });
        let acting = server.operator().acting_for("acme");
        acting.post("/api/v1/installations", &rule).await.is(201);
        let document = server.nobody().get("/api/v1/openapi.json").await.is(200);
        let schemas = strict(document["components"].clone());
        for (route, row) in rows(&ids) {
            if route.method != Method::GET {
                continue;
            }
            let client = match route.role {
                Some(Role::Operator) => server.operator(),
                _ => &owner.write,
            };
            let answer = row.send(client).await.is(200);
            let described = &document["paths"][route.path]["get"]["responses"]["200"];
            let schema = &described["content"]["application/json"]["schema"];
            assert!(schema.is_object(), "{} has no answer", route.path);
            expect_valid(schema, &schemas, &answer, route.path);
        }
    })
    .await;
}

/// An answer must not have what the document does not tell of, though clients have to bear it.
fn strict(mut schemas: Value) -> Value {
    match &mut schemas {
        Value::Object(map) => {
            if map.contains_key("properties") && !map.contains_key("additionalProperties") {
                map.insert("additionalProperties".to_owned(), json!(false));
            }
            for value in map.values_mut() {
                *value = strict(value.take());
            }
        }
        Value::Array(list) => {
            for value in list {
                *value = strict(value.take());
            }
        }
        _ => {}
    }
    schemas
}

#[track_caller]
fn expect_valid(schema: &Value, components: &Value, answer: &Value, path: &str) {
    let mut whole = schema.clone();
    whole["components"] = components.clone();
    let validator = jsonschema::validator_for(&whole)
        .unwrap_or_else(|error| panic!("{path}: the schema is none: {error}"));
    let problems: Vec<String> = validator
        .iter_errors(answer)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(
        problems.is_empty(),
        "{path} answers otherwise than the document says: {problems:#?}\n{answer:#}"
    );
}
