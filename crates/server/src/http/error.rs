//! The only place that maps errors to statuses. Bodies are plain text, as SDKs show them
//! (docs/http-api.md#http-errors).

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use fanfare_engine::{BusError, OverQuota, PublishError, RosterError};
use fanfare_protocol::api::BadRequest;
use fanfare_protocol::signature::AuthError;

use crate::body::BodyError;
use crate::identity::TokenError;

/// Seconds after which a backend should try again.
const RETRY_SECONDS: &str = "1";

/// An error with its HTTP status.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    status: u16,
    message: String,
}

impl ApiError {
    pub(crate) fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    /// Returns the HTTP status.
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// Returns the text of the answer.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        Self::new(401, error.to_string())
    }
}

impl From<BadRequest> for ApiError {
    fn from(error: BadRequest) -> Self {
        let status = match error {
            BadRequest::Invalid(_) => 400,
            BadRequest::TooLarge(_) => 413,
        };
        Self::new(status, error.to_string())
    }
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        let status = match error {
            TokenError::Unavailable => 503,
            _ => 401,
        };
        Self::new(status, error.to_string())
    }
}

impl From<PublishError> for ApiError {
    fn from(error: PublishError) -> Self {
        let status = match error {
            PublishError::Bus(error) => return error.into(),
            PublishError::OverRate { .. } => 429,
            PublishError::OverQuota(OverQuota::Unknown) => 503,
            // Sent again before the quota begins again, it would be refused again.
            PublishError::OverQuota(OverQuota::UsedUp(_)) => {
                return Self::new(403, format!("Nothing was published: {error}"));
            }
        };
        Self::new(
            status,
            format!("Nothing was published: {error}; try again later"),
        )
    }
}

impl From<BusError> for ApiError {
    fn from(error: BusError) -> Self {
        match error {
            BusError::Overloaded | BusError::Disconnected | BusError::Late => Self::new(
                503,
                format!("Nothing was published: {error}; try again later"),
            ),
            BusError::Unanswered => Self::new(
                503,
                format!(
                    "The events may have been delivered, or not: {error}; sent again with the same Idempotency-Key, they are \
                     delivered once"
                ),
            ),
            BusError::OtherRequest => Self::new(400, format!("Nothing was published: {error}")),
        }
    }
}

impl From<RosterError> for ApiError {
    fn from(error: RosterError) -> Self {
        Self::new(503, format!("Not known now: {error}; try again later"))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, format!("{}\n", self.message)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        // Some messages quote the request, so no browser may take them for a page.
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if matches!(self.status, 429 | 503) {
            response
                .headers_mut()
                .insert(RETRY_AFTER, RETRY_SECONDS.parse().expect("a header value"));
        }
        response
    }
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        let status = match error {
            BodyError::TooLarge(_) => 413,
            BodyError::Late => 408,
            BodyError::Busy(_) => 503,
            BodyError::Broken(_) => 400,
        };
        Self::new(status, error.to_string())
    }
}
