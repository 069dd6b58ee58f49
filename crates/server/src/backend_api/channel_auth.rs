//! Signs for an app's backend as the app's auth endpoint would (docs/protocol.md#channel-signatures).

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::AUTHORIZATION;
use fanfare_engine::App;
use fanfare_protocol::api::AuthRequest;
use fanfare_protocol::excerpt;
use fanfare_protocol::signature::SigningKey;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};

use super::auth::SignedRequest;
use crate::access::Caller;
use crate::admin::problem::Problem;
use crate::app_state::AppState;
use crate::auth_endpoint::{
    ChannelAuth, MAX_BODY, Signer, UserAuth, channel, check_member, check_user,
};
use crate::body::{RequestBody, discard, read_body};
use crate::http::error::ApiError;

/// The user who joins a presence channel.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what fanfare_protocol::presence reads")]
pub(crate) struct MemberData {
    /// The user's id, at most `limits.user_id` characters; a number stands for its digits.
    #[schema(schema_with = user_id_schema)]
    user_id: String,
    /// The data that other members of the channel get.
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

/// The user who signs in.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what fanfare_protocol::user reads")]
pub(crate) struct UserData {
    /// The user's id.
    #[schema(example = "ada", max_length = 128, pattern = "^[-a-zA-Z0-9_=@,.;]+$")]
    id: String,
    /// The data that others get.
    #[schema(value_type = Option<Object>, example = json!({"name": "Ada"}))]
    user_info: Option<String>,
    /// The users whose coming online and going offline this user is sent.
    #[schema(example = json!(["bob"]))]
    watchlist: Option<Vec<String>>,
}

/// The subscription to sign.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what fanfare_protocol::api reads")]
pub(crate) struct ChannelAuthRequest {
    /// The connection.
    #[schema(example = "123.456", pattern = r"^[0-9]+\.[0-9]+$")]
    socket_id: String,
    /// The channel to subscribe to.
    #[schema(example = "presence-room-1", max_length = 200)]
    channel_name: String,
    /// The user on the channel, for presence channels.
    #[schema(value_type = Option<MemberData>)]
    user: Option<String>,
}

/// The sign-in to sign.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what fanfare_protocol::api reads")]
pub(crate) struct UserAuthRequest {
    /// The connection.
    #[schema(example = "123.456", pattern = r"^[0-9]+\.[0-9]+$")]
    socket_id: String,
    /// The user who signs in.
    #[schema(value_type = UserData)]
    user: String,
}

/// Sign a subscription
///
/// For a backend that doesn't sign by itself. The request is signed like any other, or has an API token that may change
/// the app, in `Authorization: Bearer`.
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
/// For a backend that doesn't sign by itself. The request is signed like any other, or has an API token that may change
/// the app, in `Authorization: Bearer`.
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
        let body = RequestBody::new(&parts.headers, body);
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
        let app = state.find_app(&id).await.ok_or_else(unknown)?;
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

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        let body = problem.body();
        Self::new(body.status, body.detail)
    }
}

#[cfg(test)]
mod tests;
