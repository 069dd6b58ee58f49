//! Signed requests. The app, the clock, the signature and then the body are checked (docs/protocol.md#signed-requests),
//! so the body of a request without a valid signature isn't kept.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use fanfare_engine::{App, RefusalKind, Refused, RefusedClient};
use fanfare_protocol::signature::{AuthError, SignedQuery, SigningKey};
use fanfare_protocol::{CloseCode, excerpt};
use serde::Deserialize;

use crate::app_state::AppState;
use crate::auth_endpoint::Signer;
use crate::body::{RequestBody, discard, read_body};
use crate::clock::unix_seconds;
use crate::http::error::ApiError;
use crate::http::headers::combined;
use crate::traces::{PublishTrace, log_span};

/// A request whose signature was verified.
pub(crate) struct SignedRequest {
    pub(crate) app: Arc<App>,
    pub(crate) body: Bytes,
    /// The header `Idempotency-Key`.
    pub(crate) idempotency_key: Option<String>,
    /// The publish that this is, if publishes are traced.
    pub(crate) trace: Option<PublishTrace>,
    query: SignedQuery,
    signing: SigningKey,
    address: Option<IpAddr>,
}

/// Why a request was refused, and the app it named, for the operator's log.
struct Denied {
    kind: RefusalKind,
    app: Option<Arc<App>>,
    error: ApiError,
}

#[derive(Deserialize)]
struct AppPath {
    /// Absent on routes where the key alone identifies the app.
    app_id: Option<String>,
}

impl SignedRequest {
    /// Returns a query parameter that isn't part of the signature's own. Clients may send it as an array (`name[]`).
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        self.query.list(name)
    }

    /// Returns the span for log lines about the request. There is none unless it is sampled.
    pub(crate) fn log_span(&self) -> tracing::Span {
        log_span(self.trace.as_ref().and_then(PublishTrace::context))
    }

    /// Returns the key that signed the request, with its secret.
    pub(crate) fn signer(&self) -> Signer<'_> {
        Signer {
            key: self.query.auth_key().unwrap_or_default(),
            signing: &self.signing,
        }
    }
}

impl SignedRequest {
    /// Records for the operator that the request was authenticated and then refused.
    pub(crate) fn note_refusal(&self, state: &AppState, error: &ApiError) {
        let kind = match error.status() {
            403 | 413 | 429 | 503 => RefusalKind::ApiLimit,
            _ => RefusalKind::ApiRequest,
        };
        let client = RefusedClient::default();
        note(state, kind, Some(&self.app), self.address, error, client);
    }
}

fn note(
    state: &AppState,
    kind: RefusalKind,
    app: Option<&Arc<App>>,
    address: Option<IpAddr>,
    error: &ApiError,
    client: RefusedClient<'_>,
) {
    let refused = Refused {
        kind,
        app: app.map(|app| app.id().as_str()),
        address,
        reason: error.message(),
    };
    state.engine.refusals().note_client(refused, client);
}

impl From<(Option<Arc<App>>, AuthError)> for Denied {
    fn from((app, error): (Option<Arc<App>>, AuthError)) -> Self {
        let kind = match error {
            AuthError::Expired { .. } => RefusalKind::ApiTimestamp,
            _ => RefusalKind::ApiSignature,
        };
        Self {
            kind,
            app,
            error: error.into(),
        }
    }
}

impl FromRequest<AppState> for SignedRequest {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let body = RequestBody::new(&parts.headers, body);
        let address = state.addresses.of(&parts.headers, &parts.extensions);
        let (app, query, signing) = match authenticate(&mut parts, state, address).await {
            Ok(authenticated) => authenticated,
            Err(Denied { kind, app, error }) => {
                let query = SignedQuery::parse(parts.uri.query().unwrap_or_default()).ok();
                let key = query.as_ref().and_then(|query| query.auth_key().ok());
                let key = key.map(excerpt);
                let client = RefusedClient {
                    key: key.as_deref(),
                    ..RefusedClient::default()
                };
                note(state, kind, app.as_ref(), address, &error, client);
                if !matches!(kind, RefusalKind::Connection(_)) {
                    let pays = state.addresses.charged(&parts.headers, &parts.extensions);
                    // Nothing of the request is kept while its answer waits.
                    drop(parts);
                    state.unauthenticated.wait(pays).await;
                }
                // Reading the body lets the client see the answer: closing with unread bytes would reset the
                // connection.
                discard(body).await;
                return Err(error);
            }
        };
        let refuse = |kind: RefusalKind, error: ApiError| {
            let client = RefusedClient {
                key: query.auth_key().ok(),
                ..RefusedClient::default()
            };
            note(state, kind, Some(&app), address, &error, client);
            error
        };
        let body = read_body(body, state.max_body_bytes)
            .await
            .map_err(|error| refuse(RefusalKind::ApiLimit, error.into()))?;
        query
            .verify_body(&body)
            .map_err(|error| refuse(RefusalKind::ApiSignature, error.into()))?;
        let idempotency_key = combined(&parts.headers, "idempotency-key");
        Ok(Self {
            trace: state.traces.publish(&parts.headers),
            address,
            app,
            body,
            idempotency_key,
            query,
            signing,
        })
    }
}

/// Checks everything that the query says. The body needn't be read for that, because the signature covers its MD5.
///
/// Returns [`Denied`] with the status that the client gets.
async fn authenticate(
    parts: &mut Parts,
    state: &AppState,
    address: Option<IpAddr>,
) -> Result<(Arc<App>, SignedQuery, SigningKey), Denied> {
    let path = Path::<AppPath>::from_request_parts(parts, state).await;
    let Path(AppPath { app_id }) = path.map_err(|_| unknown_app(""))?;
    let apps = state.engine.apps();
    let named = app_id
        .map(|id| apps.by_id(&id).ok_or_else(|| unknown_app(&id)))
        .transpose()?;
    let denied = |error| Denied::from((named.clone(), error));
    let mut query = SignedQuery::parse(parts.uri.query().unwrap_or_default()).map_err(denied)?;
    let key = query.auth_key().map_err(denied)?;
    let had_key = || apps.by_former_key(key).map(|(app, _)| app);
    let app = named
        .clone()
        .or_else(|| apps.by_key(key))
        .or_else(had_key)
        .ok_or_else(|| unknown_key(None, key))?;
    let signing = app
        .signing_key(key)
        .ok_or_else(|| unknown_key(Some(&app), key))?;
    // Backends sign the path as hosted Pusher knows it, without the prefix under which this server is reached. The
    // routers have removed that from it.
    query
        .verify(
            parts.method.as_str(),
            parts.uri.path(),
            &signing,
            unix_seconds(),
        )
        .map_err(|error| Denied::from((Some(Arc::clone(&app)), error)))?;
    // After the signature was verified: a stranger must not make a key look used.
    app.note_key_use(query.auth_key().map_err(denied)?, address);
    // Checked last, so that only the app's own backend learns that it is disabled.
    if !app.settings().enabled {
        return Err(Denied {
            kind: RefusalKind::Connection(CloseCode::AppDisabled),
            error: ApiError::new(403, format!("App {} is disabled", app.id())),
            app: Some(app),
        });
    }
    Ok((app, query, signing))
}

fn unknown_key(app: Option<&Arc<App>>, key: &str) -> Denied {
    let message = match app.and_then(|app| app.former_key(key)) {
        Some(former) => format!("Invalid auth_key: {former}"),
        None => {
            let key = excerpt(key);
            format!("Invalid auth_key: {key:?} isn't an active key of this app")
        }
    };
    Denied {
        kind: RefusalKind::ApiKey,
        app: app.cloned(),
        error: ApiError::new(401, message),
    }
}

fn unknown_app(id: &str) -> Denied {
    let id = excerpt(id);
    Denied {
        kind: RefusalKind::ApiKey,
        app: None,
        error: ApiError::new(404, format!("There is no app with id {id:?}")),
    }
}
