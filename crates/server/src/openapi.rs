//! The description of both HTTP APIs (OpenAPI 3.1), made from the handlers: `/openapi.json`, and `/docs` for people.
//!
//! The document is committed as `docs/openapi.json`; a test fails when it is stale.

use axum::Router;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{
    Components, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Response,
    ResponseBuilder,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use crate::admin;
use crate::http::{AppState, backend};

const DESCRIPTION: &str = "Two APIs on one listener.\n\n\
    **Admin** (`/api/v1`): apps, keys, operators, tokens, audit log and what is happening now. Sign in with \
    `POST /api/v1/sessions`, or use an API token; both go into `Authorization: Bearer`. Times are Unix milliseconds. \
    Errors are problem details (RFC 9457) with a `code` that stays.\n\n\
    **Backend** (`/apps`): what every Pusher server SDK calls, signed with a key of the app. Errors are plain text.";
const PROBLEM: &str = "application/problem+json";
const BEARER: &str = "bearer";
const SIGNED: &str = "signed";

/// All described routes, and their description.
pub(crate) fn split() -> (Router<AppState>, Router<AppState>, OpenApi) {
    let (admin, admin_document) = OpenApiRouter::with_openapi(base())
        .nest(admin::PATH, admin::router())
        .split_for_parts();
    let (backend, backend_document) = backend().split_for_parts();
    let mut document = admin_document.merge_from(backend_document);
    describe(&mut document);
    (admin, backend, document)
}

/// The description alone.
pub(crate) fn document() -> OpenApi {
    split().2
}

/// `/openapi.json` and `/docs`, without a request to anywhere else.
pub(crate) fn pages(document: OpenApi) -> Router<AppState> {
    SwaggerUi::new("/docs")
        .url("/openapi.json", document)
        .into()
}

fn base() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Fanfare")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .build();
    let mut components = Components::new();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("The access token of a session, or an API token"))
        .build();
    components.add_security_scheme(BEARER, SecurityScheme::Http(bearer));
    let signed = ApiKeyValue::with_description(
        "auth_signature",
        "HMAC-SHA256 over method, path and query with the secret of the key `auth_key`; also auth_timestamp, \
         auth_version=1.0 and, where there is a body, body_md5. Every Pusher server SDK does this.",
    );
    components.add_security_scheme(SIGNED, SecurityScheme::ApiKey(ApiKey::Query(signed)));
    OpenApiBuilder::new()
        .info(info)
        .components(Some(components))
        .build()
}

/// What all operations have in common.
fn describe(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        let is_admin = path.starts_with("/api/v1/");
        let operations = [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.patch,
            &mut item.delete,
        ];
        for operation in operations.into_iter().flatten() {
            if is_admin {
                describe_admin(operation);
            } else {
                describe_backend(operation);
            }
        }
    }
}

fn describe_admin(operation: &mut Operation) {
    let is_open = operation.security.is_some();
    let scopes: [&str; 0] = [];
    if !is_open {
        operation.security = Some(vec![SecurityRequirement::new(BEARER, scopes)]);
    }
    let mut common = vec![
        ("503", "The store does not answer"),
        ("400", "It cannot be understood"),
    ];
    if !is_open {
        common.extend([
            ("401", "No token, or one that is not taken"),
            ("403", "Not with these rights"),
        ]);
    }
    if operation.request_body.is_some() {
        common.extend([
            ("413", "The body is too large"),
            ("415", "The body is not JSON"),
        ]);
    }
    let has_key = operation.parameters.iter().flatten().any(
        |parameter| matches!(parameter, RefOr::T(parameter) if parameter.name == "idempotency-key"),
    );
    if has_key {
        common.push((
            "409",
            "In use already, or another request with this Idempotency-Key",
        ));
    }
    for (status, description) in common {
        let problem = || problem(description);
        operation
            .responses
            .responses
            .entry(status.into())
            .or_insert_with(problem);
    }
}

fn problem(description: &str) -> RefOr<Response> {
    let schema = Ref::from_schema_name("Problem");
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new()
        .description(description)
        .content(PROBLEM, content)
        .build()
        .into()
}

fn describe_backend(operation: &mut Operation) {
    let scopes: [&str; 0] = [];
    if operation.security.is_none() {
        operation.security = Some(vec![SecurityRequirement::new(SIGNED, scopes)]);
    }
    let common = [
        (
            "400",
            "What was sent is not possible; the text says what and why",
        ),
        ("401", "The signature is not right"),
        ("403", "The app is disabled"),
        ("404", "There is no such app"),
        ("408", "The body did not arrive in time"),
        ("413", "The body, or an event's data, is too large"),
    ];
    for (status, description) in common {
        let text = || text(description);
        operation
            .responses
            .responses
            .entry(status.into())
            .or_insert_with(text);
    }
}

fn text(description: &str) -> RefOr<Response> {
    let schema = utoipa::openapi::ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::Type::String)
        .build();
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new()
        .description(description)
        .content("text/plain", content)
        .build()
        .into()
}
