//! The description of all HTTP APIs (OpenAPI 3.1), generated from the handlers: `/openapi.json`, and `/docs` for
//! people.
//!
//! A handler describes what is its own. `common` adds what many share (errors, security, examples, bounds). The
//! document is committed as `docs/openapi.json`, and a test fails when it is stale.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use utoipa::OpenApi;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::{Config, SwaggerUi};

use self::assets::Assets;
use crate::admin;
use crate::admin::problem::ProblemBody;
use crate::app_state::AppState;
use crate::backend_api::backend;
use crate::clients_api::clients;
use crate::http::headers::has_newest;

mod assets;
mod common;

/// Content security policy of the page: its own scripts and styles, and nothing from elsewhere.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                           img-src 'self' data:; font-src 'self' data:; connect-src 'self'; \
                           base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

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

/// Returns all described routes with their description, in which the paths of backends and browsers come after
/// `path_prefix`.
pub(crate) fn describe(path_prefix: &str) -> Described {
    let (admin, admin_document) = OpenApiRouter::with_openapi(Base::openapi())
        .nest(admin::PATH, admin::router())
        .split_for_parts();
    let (pusher, pusher_document) = backend().merge(clients()).split_for_parts();
    let document = admin_document.merge_from(pusher_document);
    let mut document = serde_json::to_value(document).expect("a description is JSON");
    common::add(&mut document, path_prefix);
    Described {
        admin,
        pusher,
        document,
    }
}

/// Returns the description as it is committed.
pub(crate) fn document() -> Value {
    describe("").document
}

/// Returns the routes of `/openapi.json` and `/docs`, which load nothing from elsewhere.
pub(crate) fn pages(document: &Value) -> Router<AppState> {
    let body = Bytes::from(serde_json::to_vec(document).expect("a description is JSON"));
    let tag = format!("\"{}\"", hex::encode(&Sha256::digest(&body)[..8]));
    let tag: Arc<str> = tag.into();
    let config = Config::from("/openapi.json")
        .deep_linking(true)
        .default_models_expand_depth(0)
        // The validator would send the document to its makers' server.
        .validator_url("none");
    Router::from(SwaggerUi::new("/docs").config(config))
        .layer(middleware::from_fn_with_state(
            Assets::default(),
            assets::answer,
        ))
        .route(
            "/openapi.json",
            get(async move |headers: HeaderMap| answer(&headers, &tag, &body)),
        )
}

fn answer(headers: &HeaderMap, tag: &str, body: &Bytes) -> Response {
    let same = has_newest(headers, tag);
    let headers = [
        (ETAG, tag),
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_TYPE, "application/json"),
    ];
    if same {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, body.clone()).into_response()
}

/// Adds the security headers.
fn protect(mut response: Response) -> Response {
    const HEADERS: [(&str, &str); 3] = [
        ("content-security-policy", DOCS_POLICY),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
    ];
    for (name, value) in HEADERS {
        let (name, value) = (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
        response.headers_mut().insert(name, value);
    }
    response
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
