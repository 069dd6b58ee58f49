//! Signs subscriptions and sign-ins as an app's auth endpoint would (docs/protocol.md#channel-signatures): for the
//! app's backend, and for clients with a token of the app's identity provider.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use fanfare_engine::{App, RefusalKind, Refused};
use fanfare_protocol::api::AuthRequest;
use fanfare_protocol::identity::Claims;
use fanfare_protocol::presence::Member;
use fanfare_protocol::signature::{SigningKey, channel_auth_text, user_auth_text};
use fanfare_protocol::user::parse_user_data;
use fanfare_protocol::{ChannelKind, ChannelName, SocketId, excerpt};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};

use super::auth::SignedRequest;
use crate::access::Caller;
use crate::admin::problem::Problem;
use crate::app_state::AppState;
use crate::body::{discard, read_body, read_pending};
use crate::http::cors::Cors;
use crate::http::error::ApiError;
use crate::http::headers::{self, media_type};
use crate::identity::CompiledIdentity;

/// Largest body of a request, in bytes. pusher-js sends a fraction of it.
const MAX_BODY: usize = 16 * 1024;

type Key = Result<Path<String>, PathRejection>;

/// An active key and its secret.
pub(crate) struct Signer<'a> {
    pub(crate) key: &'a str,
    pub(crate) signing: &'a SigningKey,
}

/// Who joins a presence channel.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what fanfare_protocol::presence reads")]
pub(crate) struct MemberData {
    /// The user's id, at most `limits.user_id` characters; a number stands for its digits.
    #[schema(schema_with = user_id_schema)]
    user_id: String,
    /// What others on the channel see of the user.
    #[schema(value_type = Option<Object>, example = json!({"name": "Ada"}))]
    user_info: Option<String>,
}

fn user_id_schema() -> Schema {
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Number]))
        .description(Some(
            "The user's id, at most `limits.user_id` characters; a number stands for its digits.",
        ))
        .min_length(Some(1))
        .max_length(Some(128))
        .examples(["ada"])
        .into()
}

/// Who signs in.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what fanfare_protocol::user reads")]
pub(crate) struct UserData {
    /// The user's id.
    #[schema(example = "ada", max_length = 128, pattern = "^[-a-zA-Z0-9_=@,.;]+$")]
    id: String,
    /// What others see of the user.
    #[schema(value_type = Option<Object>, example = json!({"name": "Ada"}))]
    user_info: Option<String>,
    /// The users of whom this one is told whether they are online.
    #[schema(example = json!(["bob"]))]
    watchlist: Option<Vec<String>>,
}

/// Which subscription is to be signed.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what fanfare_protocol::api reads")]
pub(crate) struct ChannelAuthRequest {
    /// The connection.
    #[schema(example = "123.456", pattern = r"^[0-9]+\.[0-9]+$")]
    socket_id: String,
    /// What it wants to subscribe to.
    #[schema(example = "presence-room-1", max_length = 200)]
    channel_name: String,
    /// Who it is there, on presence channels.
    #[schema(value_type = Option<MemberData>)]
    user: Option<String>,
}

/// Which sign-in is to be signed.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what fanfare_protocol::api reads")]
pub(crate) struct UserAuthRequest {
    /// The connection.
    #[schema(example = "123.456", pattern = r"^[0-9]+\.[0-9]+$")]
    socket_id: String,
    /// Who signs in.
    #[schema(value_type = UserData)]
    user: String,
}

/// What pusher-js sends to have a subscription signed.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what fanfare_protocol::api reads")]
pub(crate) struct ClientChannelAuth {
    /// The connection.
    #[schema(example = "123.456", pattern = r"^[0-9]+\.[0-9]+$")]
    socket_id: String,
    /// What it wants to subscribe to.
    #[schema(example = "private-orders", max_length = 200)]
    channel_name: String,
}

/// What pusher-js sends to have a sign-in signed.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what fanfare_protocol::api reads")]
pub(crate) struct ClientUserAuth {
    /// The connection.
    #[schema(example = "123.456", pattern = r"^[0-9]+\.[0-9]+$")]
    socket_id: String,
}

/// What pusher-js subscribes with.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChannelAuth {
    /// Key and signature, for `pusher:subscribe`.
    #[schema(
        example = "278d425bdf160c739803:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"
    )]
    auth: String,
    /// Who the client is on the channel, as it was signed; on presence channels.
    #[schema(nullable = false, example = r#"{"user_id":"ada"}"#)]
    #[serde(skip_serializing_if = "Option::is_none")]
    channel_data: Option<String>,
}

/// What pusher-js signs in with.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UserAuth {
    /// Key and signature, for `pusher:signin`.
    #[schema(
        example = "278d425bdf160c739803:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"
    )]
    auth: String,
    /// Who the user is, as it was signed.
    #[schema(example = r#"{"id":"ada"}"#)]
    user_data: String,
}

/// Sign a subscription
///
/// For a backend that would rather ask than sign. Signed like any other request, or with an API token that may change the
/// app, in `Authorization: Bearer`.
#[utoipa::path(
    post, path = "/apps/{app_id}/auth", tag = "Backend", operation_id = "authorize_channel",
    params(("app_id" = String, Path, description = "The app's id")),
    request_body = ChannelAuthRequest,
    security(("signed" = []), ("bearer" = [])),
    responses((status = 200, body = ChannelAuth)),
)]
pub(crate) async fn for_backend(backend: TrustedBackend) -> Result<Json<ChannelAuth>, ApiError> {
    authorize_channel(&backend.app, &backend.signer(), &backend.body).map(Json)
}

/// Sign a user's sign-in
///
/// For a backend that would rather ask than sign. Signed like any other request, or with an API token that may change the
/// app, in `Authorization: Bearer`.
#[utoipa::path(
    post, path = "/apps/{app_id}/user-auth", tag = "Backend", operation_id = "authorize_user",
    params(("app_id" = String, Path, description = "The app's id")),
    request_body = UserAuthRequest,
    security(("signed" = []), ("bearer" = [])),
    responses((status = 200, body = UserAuth)),
)]
pub(crate) async fn user_for_backend(backend: TrustedBackend) -> Result<Json<UserAuth>, ApiError> {
    authorize_user(&backend.app, &backend.signer(), &backend.body).map(Json)
}

/// A backend that may say who an app's clients are: it signed with the app's secret, or sent an API token that may
/// change the app.
pub(crate) struct TrustedBackend {
    app: Arc<App>,
    key: String,
    signing: SigningKey,
    body: Bytes,
}

impl TrustedBackend {
    fn signer(&self) -> Signer<'_> {
        Signer {
            key: &self.key,
            signing: &self.signing,
        }
    }

    async fn of_token(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        // The token is checked first, so that no body is kept for a caller without one.
        let caller = match Caller::from_request_parts(&mut parts, state).await {
            Ok(caller) => caller,
            Err(problem) => {
                discard(body).await;
                return Err(problem.into());
            }
        };
        let body = read_body(body, MAX_BODY).await?;
        let path = Path::<String>::from_request_parts(&mut parts, state).await;
        let id = path.map_or_else(|_| String::new(), |Path(id)| id);
        caller.change(&id)?;
        let shown = excerpt(&id);
        let unknown = || ApiError::new(404, format!("There is no app with id {shown:?}"));
        let app = state.engine.apps().by_id(&id).ok_or_else(unknown)?;
        if !app.settings().enabled {
            return Err(ApiError::new(403, format!("App {} is disabled", app.id())));
        }
        let no_key = || ApiError::new(403, format!("App {} has no active key", app.id()));
        let (key, signing) = app.newest_key().ok_or_else(no_key)?;
        Ok(Self {
            key: key.to_string(),
            signing,
            body,
            app,
        })
    }
}

impl FromRequest<AppState> for TrustedBackend {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        if request.headers().contains_key(AUTHORIZATION) {
            return Self::of_token(request, state).await;
        }
        let signed = SignedRequest::from_request(request, state).await?;
        Ok(Self {
            key: signed.signer().key.to_owned(),
            signing: signed.signer().signing.clone(),
            body: signed.body,
            app: signed.app,
        })
    }
}

/// Sign a subscription for the bearer of a token
///
/// What pusher-js asks with `channelAuthorization`, in apps that have an identity (see the tag Identity): the token says who it
/// is, the app's grants say which channels that opens. Cross-origin requests are answered for the app's allowed origins.
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
/// What pusher-js asks with `userAuthentication`, in apps that have an identity with `sign_in`.
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
    let app = key
        .ok()
        .and_then(|Path(key)| state.engine.apps().by_key(&key));
    match Cors::of(app.as_deref(), &headers) {
        Ok(cors) => cors.allow_post(StatusCode::NO_CONTENT.into_response()),
        Err(error) => error.into_response(),
    }
}

/// Signs a subscription to a private or presence channel. The caller has checked that the backend may ask for it.
///
/// # Errors
///
/// Returns 400 for a body that isn't valid, and for channels that need no signature or that only the app can sign.
pub(crate) fn authorize_channel(
    app: &App,
    signer: &Signer<'_>,
    body: &[u8],
) -> Result<ChannelAuth, ApiError> {
    let request = AuthRequest::parse(body)?;
    let channel = channel(app, &request)?;
    match (channel.kind().has_members(), &request.user) {
        (true, None) => {
            let message = "Missing parameter: user, who joins the presence channel";
            return Err(ApiError::new(400, message));
        }
        (true, Some(channel_data)) => check_member(app, channel_data, 400)?,
        (_, Some(_)) => {
            let message = format!("Invalid user: it is for presence channels, {channel} isn't one");
            return Err(ApiError::new(400, message));
        }
        (_, None) => {}
    }
    Ok(signer.channel(request.socket_id, &channel, request.user))
}

/// Signs a user's sign-in. The caller has checked that the backend may ask for it.
///
/// # Errors
///
/// Returns 400 if the body or the user isn't valid.
pub(crate) fn authorize_user(
    app: &App,
    signer: &Signer<'_>,
    body: &[u8],
) -> Result<UserAuth, ApiError> {
    let request = AuthRequest::parse(body)?;
    let user_data = request
        .user
        .ok_or_else(|| ApiError::new(400, "Missing parameter: user, who signs in"))?;
    check_user(app, &user_data, 400)?;
    Ok(signer.user(request.socket_id, user_data))
}

impl Signer<'_> {
    fn channel(
        &self,
        socket_id: SocketId,
        channel: &ChannelName,
        channel_data: Option<String>,
    ) -> ChannelAuth {
        let text = channel_auth_text(socket_id, channel.as_str(), channel_data.as_deref());
        ChannelAuth {
            auth: self.auth(&text),
            channel_data,
        }
    }

    fn user(&self, socket_id: SocketId, user_data: String) -> UserAuth {
        let auth = self.auth(&user_auth_text(socket_id, &user_data));
        UserAuth { auth, user_data }
    }

    fn auth(&self, text: &str) -> String {
        format!("{}:{}", self.key, self.signing.sign(text))
    }
}

/// Returns the channel of a request, or 400 if a signature of this server doesn't open it.
fn channel(app: &App, request: &AuthRequest) -> Result<ChannelName, ApiError> {
    let refuse = |message: String| ApiError::new(400, message);
    let name = request.channel_name.as_deref();
    let name = name.ok_or_else(|| ApiError::new(400, "Missing parameter: channel_name"))?;
    let channel = ChannelName::parse(name, app.settings().limits.channel_name)
        .map_err(|error| refuse(error.to_string()))?;
    match channel.kind() {
        ChannelKind::Public => Err(ApiError::new(
            400,
            format!("{channel} is public: anybody may subscribe to it without auth"),
        )),
        ChannelKind::ServerToUser => Err(ApiError::new(
            400,
            format!("{channel} needs no auth of its own: it is for the user it names, signed in"),
        )),
        // Subscribers also need the channel's `shared_secret`, derived from a master key that only the app has.
        ChannelKind::Encrypted => Err(ApiError::new(
            400,
            format!(
                "{channel} is encrypted: it needs the app's own auth endpoint, which makes its shared_secret"
            ),
        )),
        ChannelKind::Private | ChannelKind::Presence => Ok(channel),
    }
}

fn check_member(app: &App, channel_data: &str, status: u16) -> Result<(), ApiError> {
    Member::parse(channel_data, &app.settings().limits)
        .map(drop)
        .map_err(|error| ApiError::new(status, error.to_string()))
}

fn check_user(app: &App, user_data: &str, status: u16) -> Result<(), ApiError> {
    parse_user_data(user_data, &app.settings().limits)
        .map(drop)
        .map_err(|error| ApiError::new(status, error.to_string()))
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
    let app = state.engine.apps().by_key(&key);
    let (parts, body) = request.into_parts();
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
    let answered = async {
        // The token is verified first, so that no body is kept for a client without one.
        let bearer = match Bearer::of(state, app.clone(), key, &parts.headers).await {
            Ok(bearer) => bearer,
            Err(error) => {
                discard(body).await;
                return Err(error);
            }
        };
        let pays = state.addresses.charged(&parts.headers, &parts.extensions);
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
        let signing = app.signing_key(&key).ok_or_else(unknown)?;
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

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        let body = problem.body();
        Self::new(body.status, body.detail)
    }
}

#[cfg(test)]
mod tests;
