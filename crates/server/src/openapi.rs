//! The description of all HTTP APIs (OpenAPI 3.1), made from the handlers: `/openapi.json`, and `/docs` for people.
//!
//! A handler says what is its own; what many have in common (errors, security, examples, bounds) is added here, by
//! `common`. The document is committed as `docs/openapi.json`; a test fails when it is stale.

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
use crate::backend_api::{backend, clients};
use crate::http::headers::has_newest;

mod assets;
mod common;

/// What the page may load: its own scripts and styles, and nothing from elsewhere.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                           img-src 'self' data:; font-src 'self' data:; connect-src 'self'; \
                           base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(OpenApi)]
#[openapi(components(schemas(ProblemBody)))]
struct Base;

/// All described routes.
pub(crate) struct Described {
    /// Under `/api/v1`.
    pub(crate) admin: Router<AppState>,
    /// What backends and browsers call.
    pub(crate) pusher: Router<AppState>,
    /// Their description.
    pub(crate) document: Value,
}

/// All described routes, and their description. What backends and browsers call is found behind `path_prefix`.
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

/// The description, as it is committed.
pub(crate) fn document() -> Value {
    describe("").document
}

/// `/openapi.json` and `/docs`, without a request to anywhere else.
pub(crate) fn pages(document: &Value) -> Router<AppState> {
    let body = Bytes::from(serde_json::to_vec(document).expect("a description is JSON"));
    let tag = format!("\"{}\"", hex::encode(&Sha256::digest(&body)[..8]));
    let tag: Arc<str> = tag.into();
    let config = Config::from("/openapi.json")
        .deep_linking(true)
        .default_models_expand_depth(0)
        // It would ask a server of its makers what it thinks of the document.
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

/// Adds what browsers are to keep to.
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

/// As text that people can read: the parts in the order in which one reads them.
pub(crate) fn pretty(document: &Value) -> String {
    serde_json::to_string_pretty(document).expect("a description is JSON")
}

/// The schema of a payload.
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
