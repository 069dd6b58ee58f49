//! Signs for clients with a token of the app's identity provider, in apps that have no auth endpoint of their own
//! (docs/protocol.md#channel-signatures).

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use fanfare_engine::{App, RefusalKind, Refused};
use fanfare_protocol::api::AuthRequest;
use fanfare_protocol::excerpt;
use fanfare_protocol::identity::Claims;
use fanfare_protocol::signature::SigningKey;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app_state::AppState;
use crate::auth_endpoint::{
    ChannelAuth, MAX_BODY, Signer, UserAuth, channel, check_member, check_user,
};
use crate::body::{RequestBody, discard, read_pending};
use crate::http::cors::Cors;
use crate::http::error::ApiError;
use crate::http::headers::{self, media_type};
use crate::identity::CompiledIdentity;

type Key = Result<Path<String>, PathRejection>;

/// The request of pusher-js to sign a subscription.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what fanfare_protocol::api reads")]
pub(crate) struct ClientChannelAuth {
    /// The connection.
    #[schema(example = "123.456", pattern = r"^[0-9]+\.[0-9]+$")]
    socket_id: String,
    /// The channel to subscribe to.
    #[schema(example = "private-orders", max_length = 200)]
    channel_name: String,
}

/// The request of pusher-js to sign a sign-in.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what fanfare_protocol::api reads")]
pub(crate) struct ClientUserAuth {
    /// The connection.
    #[schema(example = "123.456", pattern = r"^[0-9]+\.[0-9]+$")]
    socket_id: String,
}

/// Sign a subscription for the bearer of a token
///
/// The request of pusher-js with `channelAuthorization`, in apps that have an identity (see the tag Identity). The token names
/// the user, and the app's grants name the channels that it opens. Cross-origin requests are answered for the app's allowed
/// origins.
#[utoipa::path(
    post, path = "/app/{key}/auth", tag = "Clients", operation_id = "authorize_own_channel",
    params(("key" = String, Path, description = "A key of the app")),
    request_body(content((ClientChannelAuth = "application/x-www-form-urlencoded"), (ClientChannelAuth = "application/json"))),
    responses(
        (status = 200, body = ChannelAuth),
        (status = 403, description = "No grant opens that channel to this token, or the app takes none"),
        (status = 404, description = "There is no app with this key"),
        (status = 503, description = "The identity provider's keys cannot be fetched at this moment"),
    ),
)]
pub(crate) async fn for_bearer(
    State(state): State<AppState>,
    key: Key,
    request: Request,
) -> Response {
    answer(&state, key, request, Bearer::authorize_channel).await
}

/// Sign the sign-in of the bearer of a token
///
/// The request of pusher-js with `userAuthentication`, in apps that have an identity with `sign_in`.
#[utoipa::path(
    post, path = "/app/{key}/user-auth", tag = "Clients", operation_id = "authorize_own_user",
    params(("key" = String, Path, description = "A key of the app")),
    request_body(content((ClientUserAuth = "application/x-www-form-urlencoded"), (ClientUserAuth = "application/json"))),
    responses(
        (status = 200, body = UserAuth),
        (status = 403, description = "The app doesn't let the bearer of this token sign in, or takes none"),
        (status = 404, description = "There is no app with this key"),
        (status = 503, description = "The identity provider's keys cannot be fetched at this moment"),
    ),
)]
pub(crate) async fn user_for_bearer(
    State(state): State<AppState>,
    key: Key,
    request: Request,
) -> Response {
    answer(&state, key, request, Bearer::authorize_user).await
}

/// Answers the CORS preflight that browsers send before a request with a token.
pub(crate) async fn preflight(
    State(state): State<AppState>,
    key: Key,
    headers: HeaderMap,
) -> Response {
    let key = key.map_or_else(|_| String::new(), |Path(key)| key);
    state.expect_key(&key).await;
    let app = state.engine.apps().by_key(&key);
    match Cors::of(app.as_deref(), &headers) {
        Ok(cors) => cors.allow_post(StatusCode::NO_CONTENT.into_response()),
        Err(error) => error.into_response(),
    }
}

/// A browser's request whose token was verified.
struct Bearer {
    app: Arc<App>,
    key: String,
    signing: SigningKey,
    identity: Arc<CompiledIdentity>,
    claims: Claims,
}

/// Answers a browser. Every answer carries the CORS headers, so that the page can read errors too, if the app allows
/// its origin.
async fn answer<T: Serialize>(
    state: &AppState,
    key: Key,
    request: Request,
    authorize: impl FnOnce(&Bearer, &AuthRequest) -> Result<T, ApiError>,
) -> Response {
    let key = key.map_or_else(|_| String::new(), |Path(key)| key);
    state.expect_key(&key).await;
    let apps = state.engine.apps();
    let had_key = || apps.by_former_key(&key).map(|(app, _)| app);
    let app = apps.by_key(&key).or_else(had_key);
    let (parts, body) = request.into_parts();
    let body = RequestBody::new(&parts.headers, body);
    let from = state.addresses.of(&parts.headers, &parts.extensions);
    let note = |kind: RefusalKind, error: &ApiError| {
        state.engine.refusals().note(Refused {
            kind,
            app: app.as_ref().map(|app| app.id().as_str()),
            address: from,
            reason: error.message(),
        });
    };
    // The origin comes first, because it decides whether the page may read the answer.
    let cors = match Cors::of(app.as_deref(), &parts.headers) {
        Ok(cors) => cors,
        Err(error) => {
            note(RefusalKind::Origin, &error);
            discard(body).await;
            return error.into_response();
        }
    };
    let pays = state.addresses.charged(&parts.headers, &parts.extensions);
    let answered = async {
        // The token is verified first, so that no body is kept for a client without one.
        let bearer = match Bearer::of(state, app.clone(), key, &parts.headers).await {
            Ok(bearer) => bearer,
            Err(error) => {
                state.unauthenticated.wait(pays).await;
                discard(body).await;
                return Err(error);
            }
        };
        let body = read_pending(state.engine.ledger(), body, MAX_BODY, pays).await?;
        let request = browser_request(&parts.headers, &body.bytes)?;
        authorize(&bearer, &request)
    };
    let answered = answered.await;
    if let Err(error) = &answered {
        note(RefusalKind::UserToken, error);
    }
    cors.allow(answered.map(Json).into_response())
}

/// Parses the body that pusher-js sends: a form, or JSON if the content type says so.
fn browser_request(headers: &HeaderMap, body: &Bytes) -> Result<AuthRequest, ApiError> {
    #[derive(Deserialize)]
    struct Form {
        socket_id: Option<String>,
        channel_name: Option<String>,
    }
    if media_type(headers).as_deref() == Some("application/json") {
        return Ok(AuthRequest::parse(body)?);
    }
    let form: Form = serde_urlencoded::from_bytes(body).map_err(|error| {
        ApiError::new(
            400,
            format!("Invalid body: {error}; expected a form or JSON"),
        )
    })?;
    Ok(AuthRequest::of_form(
        form.socket_id.as_deref(),
        form.channel_name,
    )?)
}

impl Bearer {
    async fn of(
        state: &AppState,
        app: Option<Arc<App>>,
        key: String,
        headers: &HeaderMap,
    ) -> Result<Self, ApiError> {
        let shown = excerpt(&key);
        let unknown = || ApiError::new(404, format!("Could not find an app with key {shown:?}"));
        let app = app.ok_or_else(unknown)?;
        let no_longer_active = || match app.former_key(&key) {
            Some(former) => ApiError::new(404, former.to_string()),
            None => unknown(),
        };
        let signing = app.signing_key(&key).ok_or_else(no_longer_active)?;
        if !app.settings().enabled {
            return Err(ApiError::new(403, format!("App {} is disabled", app.id())));
        }
        let identity = state.identities.of(app.id()).ok_or_else(|| {
            ApiError::new(
                403,
                "This app takes no tokens: it has no identity provider configured",
            )
        })?;
        let claims = identity.verify(bearer_token(headers)?).await?;
        Ok(Self {
            app,
            key,
            signing,
            identity,
            claims,
        })
    }

    fn signer(&self) -> Signer<'_> {
        Signer {
            key: &self.key,
            signing: &self.signing,
        }
    }

    fn authorize_channel(&self, request: &AuthRequest) -> Result<ChannelAuth, ApiError> {
        let channel = channel(&self.app, request)?;
        let granted = self.identity.grant(&self.claims, &channel).ok_or_else(|| {
            ApiError::new(
                403,
                format!("No grant of the app opens {channel} to the bearer of this token"),
            )
        })?;
        if let Some(channel_data) = &granted.channel_data {
            check_member(&self.app, channel_data, 403)?;
        }
        Ok(self
            .signer()
            .channel(request.socket_id, &channel, granted.channel_data))
    }

    fn authorize_user(&self, request: &AuthRequest) -> Result<UserAuth, ApiError> {
        let user_data = self.identity.user_data(&self.claims).ok_or_else(|| {
            ApiError::new(
                403,
                "The app doesn't let the bearer of this token sign in (sign_in)",
            )
        })?;
        check_user(&self.app, &user_data, 403)?;
        Ok(self.signer().user(request.socket_id, user_data))
    }
}

/// Returns the token of the `Authorization` header. The header must come once: with two, a proxy in front may have
/// checked the other one.
fn bearer_token(headers: &HeaderMap) -> Result<&str, ApiError> {
    headers::bearer_token(headers).ok_or_else(|| {
        ApiError::new(
            401,
            "Missing token: send the header Authorization: Bearer TOKEN, once",
        )
    })
}

#[cfg(test)]
mod tests;
