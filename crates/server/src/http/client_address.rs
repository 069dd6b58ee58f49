//! The client of a request: its address and its user agent.

use std::convert::Infallible;
use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::header::USER_AGENT;
use axum::http::request::Parts;

use super::headers::combined;
use crate::app_state::AppState;

/// Longest `User-Agent` that is kept, in bytes.
const MAX_AGENT: usize = 200;

/// A request's client.
#[derive(Debug, Clone)]
pub(crate) struct ClientAddress {
    /// `None` if the request came over no network.
    pub(crate) address: Option<IpAddr>,
    /// The `User-Agent`, cut to [`MAX_AGENT`] bytes.
    pub(crate) agent: Option<String>,
}

impl FromRequestParts<AppState> for ClientAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Infallible> {
        let agent = combined(&parts.headers, USER_AGENT);
        Ok(Self {
            address: state.addresses.of(&parts.headers, &parts.extensions),
            agent: agent.map(|agent| agent[..agent.floor_char_boundary(MAX_AGENT)].to_owned()),
        })
    }
}
