//! The demo page and its small backend, which does what an app's own server would do.

use std::net::IpAddr;

use axum::Json;
use axum::extract::{Form, FromRequestParts, State};
use axum::http::HeaderMap;
use axum::http::header::HOST;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use fanfare_protocol::SocketId;
use fanfare_protocol::signature::{SigningKey, channel_auth_text};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::error::ApiError;
use crate::app_state::AppState;
use crate::assets::{Caching, DEMO_PAGE};
use crate::demo::{Demo, PRESENCE_CHANNEL};

/// Credentials that the page connects with.
#[derive(Serialize)]
pub(crate) struct DemoApp {
    id: String,
    key: String,
    path_prefix: String,
}

/// Form that pusher-js sends to an auth endpoint, with a name for the member list.
#[derive(Deserialize)]
pub(crate) struct AuthRequest {
    socket_id: String,
    channel_name: String,
    user_id: String,
    name: String,
}

/// Headers that proxies add to forwarded requests.
const FORWARDING: [&str; 6] = [
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

/// Extractor that refuses requests from elsewhere. The demo gives away its key and signs for every caller, so it
/// answers this machine only, even if a proxy or a tunnel forwards requests.
pub(crate) struct FromThisMachine;

impl FromRequestParts<AppState> for FromThisMachine {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        let host = parts.uri.authority().map(|authority| authority.as_str());
        let host = host.or_else(|| parts.headers.get(HOST)?.to_str().ok());
        if is_forwarded(&parts.headers) || !host.is_some_and(is_loopback) {
            return Err(ApiError::new(
                403,
                "The demo answers this machine only, because it signs for anybody: open it at http://localhost and this \
                 server's port, without a proxy. For others, create an app with an auth endpoint of its own",
            ));
        }
        Ok(Self)
    }
}

fn is_forwarded(headers: &HeaderMap) -> bool {
    FORWARDING.iter().any(|name| headers.contains_key(*name))
}

/// Returns whether a `Host` header names this machine's loopback.
fn is_loopback(host: &str) -> bool {
    // A port comes after the last colon that isn't part of an IPv6 address.
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => {
            name
        }
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let address = name.parse::<IpAddr>();
    address.is_ok_and(|address| address.to_canonical().is_loopback())
        || name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
}

pub(crate) async fn page(_: FromThisMachine, headers: HeaderMap) -> Response {
    DEMO_PAGE.respond(&headers, Caching::Revalidate)
}

pub(crate) async fn app(
    State(state): State<AppState>,
    _: FromThisMachine,
) -> Result<Json<DemoApp>, ApiError> {
    let demo = demo(&state)?;
    let (id, key) = (demo.app_id.clone(), demo.key.clone());
    Ok(Json(DemoApp {
        id,
        key,
        path_prefix: state.path_prefix.to_string(),
    }))
}

/// Signs for every caller on this machine, for the page's presence channel only, under the name they give.
pub(crate) async fn auth(
    State(state): State<AppState>,
    _: FromThisMachine,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_its_own() {
        for host in [
            "localhost",
            "LOCALHOST:6001",
            "demo.localhost:6001",
            "127.0.0.1",
            "127.0.0.1:6001",
            "127.1.2.3:80",
            "[::1]:6001",
            "[::1]",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "example.com",
            "example.com:6001",
            "localhost.example.com",
            "notlocalhost",
            "192.168.1.5:6001",
            "127.0.0.1.example.com",
            "0.0.0.0:6001",
            "[::2]:6001",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_request_through_a_proxy_is_forwarded() {
        let mut headers = HeaderMap::new();
        assert!(!is_forwarded(&headers));
        headers.insert("x-forwarded-for", "203.0.113.9".parse().expect("a value"));
        assert!(is_forwarded(&headers));
    }
}
