//! Signed requests: app, clock, signature, then body (spec 4.2). A stranger's body is not even read.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Path, Request};
use fanfare_engine::App;
use fanfare_protocol::signature::{AuthError, SignedQuery};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use tokio::time::timeout;

use super::AppState;
use super::error::ApiError;

/// How long a backend may take to send a body.
const BODY_PATIENCE: Duration = Duration::from_secs(30);

/// A request of an app's own backend.
pub(crate) struct SignedRequest {
    pub(crate) app: Arc<App>,
    pub(crate) body: Bytes,
    raw_query: String,
}

#[derive(Deserialize)]
struct AppPath {
    app_id: String,
}

impl SignedRequest {
    /// A parameter of the endpoint's own, which may also come as an array.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        SignedQuery::parse(&self.raw_query).ok()?.list(name)
    }
}

impl FromRequest<AppState> for SignedRequest {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let Path(AppPath { app_id }) = axum::RequestPartsExt::extract(&mut parts)
            .await
            .map_err(|_| unknown_app(""))?;
        let app = state
            .engine
            .apps()
            .by_id(&app_id)
            .ok_or_else(|| unknown_app(&app_id))?;
        let raw_query = parts.uri.query().unwrap_or_default().to_owned();
        let query = SignedQuery::parse(&raw_query)?;
        let key = query.auth_key()?;
        let signing = app.signing_key(key).ok_or_else(|| {
            ApiError::new(
                401,
                format!("Invalid auth_key: {key:?} is no key of app {app_id} in force"),
            )
        })?;
        // Behind the prefix, because backends sign what they would ask of hosted Pusher.
        let path = parts
            .extensions
            .get::<axum::extract::OriginalUri>()
            .map_or(parts.uri.path(), |uri| uri.path());
        let path = path.strip_prefix(&*state.path_prefix).unwrap_or(path);
        query.verify(parts.method.as_str(), path, &signing, unix_seconds())?;
        if !app.settings().enabled {
            return Err(ApiError::new(403, format!("App {app_id} is disabled")));
        }
        let body = read(body, state.max_body_bytes).await?;
        query
            .verify_body(&body)
            .inspect_err(|error| log_refusal(&app_id, error))?;
        Ok(Self {
            app,
            body,
            raw_query,
        })
    }
}

fn unknown_app(id: &str) -> ApiError {
    ApiError::new(404, format!("There is no app with id {id:?}"))
}

fn log_refusal(app: &str, error: &AuthError) {
    tracing::debug!(app, %error, "a signed request was refused");
}

async fn read(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let collected = timeout(BODY_PATIENCE, Limited::new(body, limit).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(ApiError::new(
            413,
            format!("The body is too large: at most {limit} bytes are allowed"),
        )),
        Ok(Err(error)) => Err(ApiError::new(
            400,
            format!("The body did not arrive: {error}"),
        )),
        Err(_) => Err(ApiError::new(408, "The body did not arrive in time")),
    }
}

/// The clock that signatures are checked against.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}
