//! The description of all HTTP APIs (OpenAPI 3.1), generated from the handlers. `assets::docs` serves it.
//!
//! A handler describes what is its own. `common` adds what many share (errors, security, examples, bounds). The
//! document is committed as `docs/openapi.json`, and a test fails when it is stale.

use axum::Router;
use serde_json::{Value, json};
use utoipa::OpenApi;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa_axum::router::OpenApiRouter;

use crate::admin;
use crate::admin::problem::ProblemBody;
use crate::app_state::AppState;
use crate::backend_api::backend;
use crate::clients_api::clients;
use crate::edge;

mod common;

#[derive(OpenApi)]
#[openapi(components(schemas(ProblemBody)))]
struct Base;

/// All described routes and their description.
pub(crate) struct Described {
    /// Under `/api/v1`.
    pub(crate) admin: Router<AppState>,
    /// Routes of backends and browsers, without the prefix.
    pub(crate) pusher: Router<AppState>,
    /// Their description.
    pub(crate) document: Value,
}

/// Returns all described routes with their description, in which all paths come after `base_path`, and those of backends
/// and browsers after `path_prefix`, which contains it.
pub(crate) fn describe(base_path: &str, path_prefix: &str) -> Described {
    let (admin, admin_document) = OpenApiRouter::with_openapi(Base::openapi())
        .nest(admin::PATH, admin::router())
        .split_for_parts();
    let (pusher, pusher_document) = backend()
        .merge(clients())
        .merge(edge::described())
        .split_for_parts();
    let document = admin_document.merge_from(pusher_document);
    let mut document = serde_json::to_value(document).expect("a description is JSON");
    common::add(&mut document, base_path, path_prefix);
    Described {
        admin,
        pusher,
        document,
    }
}

/// Returns the description as it is committed.
pub(crate) fn document() -> Value {
    describe("", "").document
}

/// Returns the document as indented text with its keys in reading order.
pub(crate) fn pretty(document: &Value) -> String {
    serde_json::to_string_pretty(document).expect("a description is JSON")
}

/// Returns the schema of a payload: every JSON type but null.
pub(crate) fn any_but_null() -> Schema {
    let kinds = [
        Type::String,
        Type::Object,
        Type::Array,
        Type::Number,
        Type::Boolean,
    ];
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter(kinds))
        .description(Some(
            "The payload: a string as it is, anything else but null as its JSON text.",
        ))
        .examples([json!("{\"text\":\"hello\"}")])
        .into()
}
