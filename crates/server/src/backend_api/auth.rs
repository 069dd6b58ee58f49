//! Signed requests. The app, the clock, the signature and then the body are checked (docs/http-api.md#signed-requests),
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
use crate::traces::PublishTrace;

/// A request whose signature was verified.
pub(crate) struct SignedRequest {
    pub(crate) app: Arc<App>,
    pub(crate) body: Bytes,
    /// The header `Idempotency-Key`.
    pub(crate) idempotency_key: Option<String>,
    /// The publish that this is, if publishes are traced.
    pub(crate) trace: Option<PublishTrace>,
    pub(crate) address: Option<IpAddr>,
    query: SignedQuery<'static>,
    signing: SigningKey,
}

/// What a signed request says before its body.
pub(crate) struct SignedHead<'a> {
    pub(crate) method: &'a str,
    /// The path as on the wire, without the prefix under which this server is reached: backends sign it as hosted
    /// Pusher knows it.
    pub(crate) path: &'a str,
    /// The id in the path, decoded; `None` where the key alone identifies the app.
    pub(crate) app_id: Option<&'a str>,
    pub(crate) query: &'a str,
    /// The client's address, if it came over a network.
    pub(crate) address: Option<IpAddr>,
}

/// What a valid signature proves: the app, and all but the body, whose MD5 is in the query.
pub(crate) struct Authenticated<'a> {
    pub(crate) app: Arc<App>,
    pub(crate) query: SignedQuery<'a>,
    signing: SigningKey,
}

/// Why a request was refused, and the app it named, for the operator's log.
pub(crate) struct Denied {
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

    /// Returns the key that signed the request, with its secret.
    pub(crate) fn signer(&self) -> Signer<'_> {
        Signer {
            key: self.query.auth_key().unwrap_or_default(),
            signing: &self.signing,
        }
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

/// Records for the operator that a request of an app's backend was authenticated and then refused.
pub(crate) fn note_refusal(
    state: &AppState,
    app: &Arc<App>,
    address: Option<IpAddr>,
    error: &ApiError,
) {
    let kind = match error.status() {
        403 | 413 | 429 | 503 => RefusalKind::ApiLimit,
        _ => RefusalKind::ApiRequest,
    };
    note(
        state,
        kind,
        Some(app),
        address,
        error,
        RefusedClient::default(),
    );
}

impl FromRequest<AppState> for SignedRequest {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let body = RequestBody::new(&parts.headers, body);
        let address = state.addresses.of(&parts.headers, &parts.extensions);
        let path = Path::<AppPath>::from_request_parts(&mut parts, state).await;
        let head = |app_id| SignedHead {
            method: parts.method.as_str(),
            // The routers have removed the prefix from it.
            path: parts.uri.path(),
            app_id,
            query: parts.uri.query().unwrap_or_default(),
            address,
        };
        let mut authenticated = match &path {
            Ok(Path(AppPath { app_id })) => authenticate(state, &head(app_id.as_deref())),
            Err(_) => Err(unknown_app("")),
        };
        if let (Ok(Path(AppPath { app_id })), Err(denied)) = (&path, &authenticated)
            && denied.kind == RefusalKind::ApiKey
        {
            state.config_barrier.wait_for_unknown().await;
            authenticated = authenticate(state, &head(app_id.as_deref()));
        }
        let Authenticated {
            app,
            query,
            signing,
        } = match authenticated {
            Ok(authenticated) => authenticated,
            Err(denied) => return Err(deny(state, denied, parts, address, body).await),
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
        let trace = parts.headers.get("traceparent");
        Ok(Self {
            trace: state
                .traces
                .publish(trace.and_then(|value| value.to_str().ok())),
            idempotency_key: combined(&parts.headers, "idempotency-key"),
            query: query.into_owned(),
            address,
            app,
            body,
            signing,
        })
    }
}

/// Notes that a request proves nothing, and returns its answer once it may be sent.
async fn deny(
    state: &AppState,
    denied: Denied,
    parts: Parts,
    address: Option<IpAddr>,
    body: RequestBody,
) -> ApiError {
    let Denied { kind, app, error } = denied;
    {
        let query = SignedQuery::parse(parts.uri.query().unwrap_or_default()).ok();
        let key = query.as_ref().and_then(|query| query.auth_key().ok());
        let key = key.map(excerpt);
        let client = RefusedClient {
            key: key.as_deref(),
            ..RefusedClient::default()
        };
        note(state, kind, app.as_ref(), address, &error, client);
    }
    let is_connection = matches!(kind, RefusalKind::Connection(_));
    let pays = state.addresses.charged(&parts.headers, &parts.extensions);
    // Nothing of the request is kept while its answer waits.
    drop(parts);
    if !is_connection {
        state.unauthenticated.wait(pays).await;
    }
    // Reading the body lets the client see the answer: closing with unread bytes would reset the connection.
    discard(body).await;
    error
}

/// Checks everything that the head says. The body needn't be read for that, because the signature covers its MD5.
///
/// # Errors
///
/// Returns [`Denied`] with the status that the client gets.
pub(crate) fn authenticate<'a>(
    state: &AppState,
    head: &SignedHead<'a>,
) -> Result<Authenticated<'a>, Denied> {
    let apps = state.engine.apps();
    let named = head
        .app_id
        .map(|id| apps.by_id(id).ok_or_else(|| unknown_app(id)))
        .transpose()?;
    let mut query = match SignedQuery::parse(head.query) {
        Ok(query) => query,
        Err(error) => return Err(Denied::from((named, error))),
    };
    let key = match query.auth_key() {
        Ok(key) => key,
        Err(error) => return Err(Denied::from((named, error))),
    };
    let had_key = || apps.by_former_key(key).map(|(app, _)| app);
    let app = named
        .or_else(|| apps.by_key(key))
        .or_else(had_key)
        .ok_or_else(|| unknown_key(None, key))?;
    let signing = app
        .signing_key(key)
        .ok_or_else(|| unknown_key(Some(&app), key))?;
    query
        .verify(head.method, head.path, &signing, unix_seconds())
        .map_err(|error| Denied::from((Some(Arc::clone(&app)), error)))?;
    // After the signature was verified: a stranger must not make a key look used.
    if let Ok(key) = query.auth_key() {
        app.note_key_use(key, head.address);
    }
    // Checked last, so that only the app's own backend learns that it is disabled.
    if !app.settings().enabled {
        return Err(Denied {
            kind: RefusalKind::Connection(CloseCode::AppDisabled),
            error: ApiError::new(403, format!("App {} is disabled", app.id())),
            app: Some(app),
        });
    }
    Ok(Authenticated {
        app,
        query,
        signing,
    })
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
