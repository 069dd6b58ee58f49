//! The URL of a client that doesn't speak Pusher's protocol: `/ws/KEY?channels=a,b` or `/ws/KEY?raw=CHANNEL`
//! (docs/any-client.md#plain-websocket).

use axum::http::{HeaderMap, Uri};
use fanfare_engine::{Arrival, Refusal};
use fanfare_protocol::{CloseCode, Framing};

use crate::app_state::AppState;
use crate::edge::url_subscriptions::{UrlQuery, UrlRequest, UrlSubscriptions};
use crate::http::error::ApiError;

/// What a plain client's URL asks for.
#[derive(Debug)]
pub(crate) struct PlainQuery {
    pub(crate) framing: Framing,
    query: UrlQuery,
}

impl PlainQuery {
    pub(crate) fn parse(query: Option<&str>) -> Self {
        let query = UrlQuery::parse(query.unwrap_or_default());
        let framing = match query.raw {
            Some(_) => Framing::Raw,
            None => Framing::Object,
        };
        Self { framing, query }
    }

    /// Checks that the client may have the channels that it asks for. Waits for keys of the identity provider.
    ///
    /// # Errors
    ///
    /// Returns a [`Refusal`] whose close code tells the client whether to come back.
    pub(crate) async fn subscriptions(
        &self,
        state: &AppState,
        arrival: Arrival<'_>,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Option<Box<UrlSubscriptions>>, Refusal> {
        self.check()?;
        // Before anything is read for the client. It is admitted last, so that one without rights takes no place.
        state.engine.admit_pending(arrival)?;
        let Some(app) = state.engine.apps().by_key(arrival.key) else {
            return Ok(None);
        };
        let url = UrlRequest {
            path: uri.path(),
            query: uri.query().unwrap_or_default(),
            headers,
            is_backend: false,
            subscribes_later: self.framing == Framing::Object,
            charged_address: arrival.charged_address,
        };
        let subscriptions = UrlSubscriptions::of(state, &app, arrival.key, &self.query, &url).await;
        let subscriptions = subscriptions.map_err(|error| refusal_of(&error))?;
        Ok(Some(Box::new(subscriptions)))
    }

    fn check(&self) -> Result<(), Refusal> {
        let message = match (self.query.raw.as_deref(), &self.query.channels) {
            (Some(_), Some(_)) => {
                "raw and channels exclude each other: a raw connection is for one channel"
            }
            (Some(""), None) => "raw is empty: name the channel, for example ?raw=chat",
            _ => return Ok(()),
        };
        Err(Refusal::new(CloseCode::Refused, message))
    }
}

/// Returns how a client is told over a WebSocket what it would be told over HTTP.
fn refusal_of(error: &ApiError) -> Refusal {
    let code = match error.status() {
        503 => CloseCode::OverCapacity,
        400 => CloseCode::Refused,
        _ => CloseCode::Unauthorized,
    };
    Refusal::new(code, error.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_can_not_ask_for_is_refused() {
        for (query, words) in [
            ("raw=a&channels=b", "exclude each other"),
            ("raw=", "name the channel"),
        ] {
            let refusal = PlainQuery::parse(Some(query)).check().expect_err(query);
            assert!(refusal.message.contains(words), "{query}: {refusal}");
            assert_eq!(refusal.code, CloseCode::Refused);
        }
        for (query, framing) in [
            (None, Framing::Object),
            (Some("channels=a,b"), Framing::Object),
            (Some("raw=a%2Cb"), Framing::Raw),
        ] {
            let read = PlainQuery::parse(query);
            assert_eq!((read.framing, read.check()), (framing, Ok(())));
        }
    }

    #[test]
    fn a_client_that_may_come_back_is_told_so() {
        let code = |status| refusal_of(&ApiError::new(status, "no")).code;
        assert_eq!(
            [503, 400, 403, 401].map(code),
            [
                CloseCode::OverCapacity,
                CloseCode::Refused,
                CloseCode::Unauthorized,
                CloseCode::Unauthorized
            ]
        );
    }
}
