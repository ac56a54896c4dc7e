//! What a request carries beside its key: parameters of its path and its query, and a JSON body.
//!
//! What cannot be read is a 400 in the API's own shape that names its place. So is a NUL character anywhere: the text
//! of PostgreSQL has none, and nothing that a client names does.

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Request};
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::ApiError;
use crate::app::App;

/// Parameters of the path.
pub(super) struct Path<T>(pub T);

/// Parameters after `?`.
pub(super) struct Query<T>(pub T);

/// A JSON body. Unknown fields and wrong types are errors that name their place.
pub(super) struct Json<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Path<T>, ApiError> {
        let path = axum::extract::Path::from_request_parts(parts, app)
            .await
            .map_err(|error| ApiError::bad_request("invalid_path", error.body_text()))?;
        without_nul(parts.uri.path().contains("%00"), "the path")?;
        Ok(Path(path.0))
    }
}

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Query<T>, ApiError> {
        let query = axum::extract::Query::from_request_parts(parts, app)
            .await
            .map_err(|error| ApiError::bad_request("invalid_query", error.body_text()))?;
        let text = parts.uri.query().unwrap_or_default();
        without_nul(text.contains("%00"), "what follows ? in the address")?;
        Ok(Query(query.0))
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Json<T>, ApiError> {
        let bytes = bytes::Bytes::from_request(request, app)
            .await
            .map_err(|error| ApiError::bad_request("unreadable_body", error.body_text()))?;
        let body = serde_json::from_slice(&bytes).map_err(|error| {
            ApiError::bad_request(
                "invalid_body",
                format!("the body is not as expected: {error}"),
            )
        })?;
        without_nul(has_nul(&bytes), "the body")?;
        Ok(Json(body))
    }
}

fn without_nul(has_nul: bool, what: &str) -> Result<(), ApiError> {
    match has_nul {
        false => Ok(()),
        true => Err(ApiError::bad_request(
            "nul_character",
            format!("{what} has a NUL character; leave it out"),
        )),
    }
}

/// Whether a string of a JSON document has a NUL character, which can only be written as an escape.
fn has_nul(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        let escape = &rest[at + 1..];
        if escape.starts_with(b"u0000") {
            return true;
        }
        rest = escape.get(1..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nul_is_told_from_a_backslash_before_its_like() {
        for (json, wanted) in [
            (r#"{"a":"x\u0000"}"#, true),
            (r#""\\\u0000""#, true),
            (r#""\n\u0001\u0000""#, true),
            (r#""\\u0000""#, false),
            (r#""\u0001""#, false),
            (r#"{"u0000":1}"#, false),
        ] {
            assert_eq!(has_nul(json.as_bytes()), wanted, "{json}");
        }
    }
}
