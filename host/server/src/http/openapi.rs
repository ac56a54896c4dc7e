//! The OpenAPI document, made from the list of routes and from what `openapi.json` says of each.
//!
//! A route cannot be served without standing in the document, nor the document name one that is not served: both
//! ways are tests.

use std::sync::LazyLock;

use axum::routing::get;
use http::Method;
use serde_json::{Map, Value, json};

use super::{Route, routes as all_routes};

/// Bodies, answers and parameters of every operation, and the schemas that they refer to.
const DESCRIPTIONS: &str = include_str!("openapi.json");

pub(super) fn routes() -> Vec<Route> {
    vec![Route::new(
        Method::GET,
        "/api/v1/openapi.json",
        None,
        "This document",
        get(show),
    )]
}

async fn show() -> axum::Json<&'static Value> {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(|| document(&all_routes(), &described()));
    axum::Json(&DOCUMENT)
}

fn described() -> Value {
    serde_json::from_str(DESCRIPTIONS).expect("openapi.json is JSON: a test reads it")
}

/// The document of some routes.
fn document(routes: &[Route], described: &Value) -> Value {
    let mut paths = Map::new();
    for route in routes {
        let operations = paths
            .entry(route.path)
            .or_insert_with(|| json!({}))
            .as_object_mut()
            .expect("every path is an object");
        let about = &described["operations"][format!("{} {}", route.method, route.path)];
        operations.insert(
            route.method.as_str().to_ascii_lowercase(),
            operation(route, about),
        );
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Shoal",
            "version": env!("CARGO_PKG_VERSION"),
            "description": described["description"],
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": described["schemas"],
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "key": { "type": "apiKey", "in": "header", "name": "X-Api-Key" },
            },
        },
    })
}

fn operation(route: &Route, about: &Value) -> Value {
    let mut operation = json!({
        "summary": route.summary,
        "operationId": operation_id(route),
        "tags": [tag(route.path)],
        "parameters": parameters(route, about),
        "responses": answers(route, about),
    });
    if let Some(body) = about.get("body") {
        operation["requestBody"] = json!({ "required": true, "content": content(body) });
    }
    operation["security"] = match route.role {
        None => json!([]),
        Some(_) => json!([{ "bearer": [] }, { "key": [] }]),
    };
    if let Some(role) = route.role {
        operation["description"] = json!(format!("Needs a key with role {}.", role.as_str()));
    }
    operation
}

/// A schema's name, or `{"media type": schema}`.
fn content(body: &Value) -> Value {
    match body {
        Value::String(name) => json!({ "application/json": { "schema": reference(name) } }),
        other => other.clone(),
    }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn parameters(route: &Route, about: &Value) -> Vec<Value> {
    let in_path = route
        .path
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split('}').next())
        .map(|name| {
            json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
        });
    let in_query = about["query"].as_object().into_iter().flatten();
    in_path
        .chain(in_query.map(|(name, schema)| {
            let mut parameter = json!({ "name": name, "in": "query", "schema": schema });
            if let Some(description) = schema.get("description") {
                parameter["description"] = description.clone();
            }
            parameter
        }))
        .collect()
}

fn answers(route: &Route, about: &Value) -> Value {
    let mut answers = Map::new();
    for (status, schema) in about["answers"].as_object().into_iter().flatten() {
        let mut answer = json!({ "description": "Done" });
        if !schema.is_null() {
            answer["content"] = content(schema);
        }
        answers.insert(status.clone(), answer);
    }
    let error = |text: &str| json!({ "description": text, "content": content(&json!("Error")) });
    if route.role.is_some() {
        answers.insert("401".to_owned(), error("There is no valid key"));
        answers.insert("403".to_owned(), error("The key does not allow this"));
    }
    answers.insert(
        "default".to_owned(),
        error("It was not done; the error says why and what to do"),
    );
    Value::Object(answers)
}

/// Such as `get_monitors_id`: unique, and the same in every release.
fn operation_id(route: &Route) -> String {
    let words = route
        .path
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty() && !matches!(*word, "api" | "v1"));
    std::iter::once(route.method.as_str().to_ascii_lowercase())
        .chain(words.map(str::to_owned))
        .collect::<Vec<_>>()
        .join("_")
}

/// The part of the API that an operation belongs to.
fn tag(path: &str) -> &str {
    if path.starts_with("/prometheus/") {
        return "prometheus";
    }
    path.strip_prefix("/api/v1/")
        .and_then(|rest| rest.split(['/', '.']).next())
        .unwrap_or("api")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_described_and_nothing_else_is() {
        let routes: BTreeSet<String> = all_routes()
            .iter()
            .map(|route| format!("{} {}", route.method, route.path))
            .collect();
        let described = described();
        let operations = described["operations"].as_object().expect("an object");
        let operations: BTreeSet<String> = operations.keys().cloned().collect();
        assert_eq!(routes, operations);
    }

    #[test]
    fn every_reference_leads_to_a_schema() {
        let document = document(&all_routes(), &described());
        let text = document.to_string();
        for part in text.split("\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap_or_default();
            assert!(
                document["components"]["schemas"].get(name).is_some(),
                "openapi.json has no schema {name}"
            );
        }
    }

    #[test]
    fn operation_ids_are_unique() {
        let routes = all_routes();
        let ids: BTreeSet<String> = routes.iter().map(operation_id).collect();
        assert_eq!(ids.len(), routes.len());
    }
}
