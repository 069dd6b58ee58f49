//! The description of the HTTP APIs as the program serves it: `/openapi.json`, and `/docs/api/` for
//! people.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use parking_lot::Mutex;
use serde_json::Value;
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::{Asset, Caching, secure};
use crate::app_state::AppState;

/// Content security policy of the page: its own scripts and styles, and nothing from elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                      img-src 'self' data:; font-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The file that the page loads behind Swagger UI's style, and what it has here.
const STYLE_PATH: &str = "/docs/api/index.css";
const STYLE: &str = include_str!("../../assets/docs.css");

/// The files of the page by path, at most as many as the program has. Cheap to clone.
///
/// Each is compressed once. They are public, and the largest has 1.5 MB, so compressing them for each request would be
/// costly.
#[derive(Debug, Clone, Default)]
struct Files(Arc<Mutex<HashMap<String, Arc<Asset>>>>);

/// Returns the route of the description for programs.
pub(crate) fn description(document: &Value) -> Router<AppState> {
    let document = serde_json::to_vec(document).expect("a description is JSON");
    let document = Asset::new(HeaderValue::from_static("application/json"), document);
    let document = Arc::new(document);
    Router::new().route(
        "/openapi.json",
        get(async move |headers: HeaderMap| document.respond(&headers, Caching::Revalidate)),
    )
}

/// Returns the routes of the page, which loads nothing from elsewhere.
pub(crate) fn page() -> Router<AppState> {
    // Relative to the page, because a proxy may serve it below a path of which this server knows nothing.
    let config = Config::from("../../openapi.json")
        .deep_linking(true)
        .default_models_expand_depth(0)
        // The validator would send the document to its makers' server.
        .validator_url("none");
    Router::from(SwaggerUi::new("/docs/api").config(config))
        .layer(middleware::from_fn_with_state(Files::default(), answer))
}

/// Answers with a file of the page. The first request for a file compresses it.
async fn answer(State(files): State<Files>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let headers = request.headers().clone();
    let known = files.0.lock().get(&path).cloned();
    if let Some(file) = known {
        return file.respond(&headers, Caching::Hour);
    }
    let response = next.run(request).await;
    if response.headers().contains_key(LOCATION) {
        // Swagger UI sends browsers to an absolute path.
        return secure(Redirect::temporary("api/").into_response(), Some(POLICY));
    }
    let content_type = response.headers().get(CONTENT_TYPE).cloned();
    let (StatusCode::OK, Some(content_type)) = (response.status(), content_type) else {
        return secure(response, Some(POLICY));
    };
    let Ok(content) = to_bytes(response.into_body(), usize::MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let content = match path.as_str() {
        STYLE_PATH => STYLE.into(),
        _ => content,
    };
    let compress = move || {
        let file = Asset::new(content_type, content).with_policy(POLICY);
        Arc::new(file.compressed())
    };
    let file = tokio::task::spawn_blocking(compress).await;
    let file = file.expect("compressing into memory does not fail");
    // Two first requests at once both compress the file, and the second result replaces the first.
    files.0.lock().insert(path, Arc::clone(&file));
    file.respond(&headers, Caching::Hour)
}
