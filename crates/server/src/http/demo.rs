//! The demo page and the little backend it needs: what an app's own server would do.

use axum::Json;
use axum::extract::{Form, State};
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use fanfare_protocol::SocketId;
use fanfare_protocol::signature::{SigningKey, channel_auth_text};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::AppState;
use super::error::ApiError;
use crate::demo::{Demo, PRESENCE_CHANNEL};

const PAGE: &str = include_str!("../../assets/demo.html");
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self' ws: wss:; img-src data:";

/// What the page needs to know to connect.
#[derive(Serialize)]
pub(crate) struct DemoApp {
    id: String,
    key: String,
    path_prefix: String,
}

/// What pusher-js sends to an auth endpoint, and a name for the member list.
#[derive(Deserialize)]
pub(crate) struct AuthRequest {
    socket_id: String,
    channel_name: String,
    user_id: String,
    name: String,
}

pub(crate) async fn page() -> Response {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, PAGE_POLICY),
    ];
    (headers, PAGE).into_response()
}

pub(crate) async fn app(State(state): State<AppState>) -> Result<Json<DemoApp>, ApiError> {
    let demo = demo(&state)?;
    let (id, key) = (demo.app_id.clone(), demo.key.clone());
    Ok(Json(DemoApp {
        id,
        key,
        path_prefix: state.path_prefix.to_string(),
    }))
}

/// Lets anybody into the one presence channel of the page, under the name they give.
pub(crate) async fn auth(
    State(state): State<AppState>,
    Form(request): Form<AuthRequest>,
) -> Result<Response, ApiError> {
    let demo = demo(&state)?;
    if request.channel_name != PRESENCE_CHANNEL {
        return Err(ApiError::new(
            403,
            format!("The demo lets people into {PRESENCE_CHANNEL} only"),
        ));
    }
    let socket_id = SocketId::parse(&request.socket_id)
        .map_err(|error| ApiError::new(400, format!("Invalid socket_id: {error}")))?;
    let channel_data =
        json!({"user_id": request.user_id, "user_info": {"name": request.name}}).to_string();
    let text = channel_auth_text(socket_id, PRESENCE_CHANNEL, Some(&channel_data));
    let signature = SigningKey::new(demo.secret()).sign(&text);
    Ok(
        Json(json!({"auth": format!("{}:{signature}", demo.key), "channel_data": channel_data}))
            .into_response(),
    )
}

fn demo(state: &AppState) -> Result<&Demo, ApiError> {
    state
        .demo
        .as_deref()
        .ok_or_else(|| ApiError::new(404, "The demo is off"))
}
