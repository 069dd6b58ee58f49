//! Errors of the admin API as problem details (RFC 9457), with a `code` that doesn't change between versions.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use fanfare_engine::RosterError;
use fanfare_store::StoreError;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::help;

/// Seconds after which a caller should try again if the request can't be done now.
const RETRY_AFTER_SECONDS: u64 = 1;

/// Why a request was refused. Nothing was changed.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    retry_after: Option<u64>,
}

/// The text of a problem, as an extension of its response, for the operator's log.
#[derive(Debug, Clone)]
pub(crate) struct ProblemDetail(pub(crate) String);

/// Problem details (RFC 9457).
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// `urn:fanfare:problem:` and the code.
    #[serde(rename = "type")]
    #[schema(example = "urn:fanfare:problem:not_found")]
    pub(crate) kind: String,
    /// The status in words.
    #[schema(example = "Not Found")]
    pub(crate) title: String,
    /// The HTTP status.
    #[schema(example = 404)]
    pub(crate) status: u16,
    /// The kind of problem, for programs: a code of docs/errors.md.
    #[schema(example = "not_found")]
    pub(crate) code: String,
    /// The problem and what to do, for people.
    #[schema(example = "there is no app with id \"1\"")]
    pub(crate) detail: String,
    /// The address of what explains it, from the root of this server. Missing where `docs.enabled` is false.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "/docs/errors#problems-of-the-admin-api")]
    pub(crate) help: Option<String>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            retry_after: None,
        }
    }

    /// Returns 400: the request isn't valid.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", detail)
    }

    /// Returns 401: the caller isn't known.
    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    /// Returns 403: the caller's rights aren't enough.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// Returns 404: the resource doesn't exist, or this caller may not see it.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// Returns 404 with the same words for an app that doesn't exist and for one that the caller may not see.
    pub(crate) fn no_app(id: &str) -> Self {
        Self::not_found(format!("there is no app with id {id:?}"))
    }

    /// Returns 409: the request conflicts with something that exists.
    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// Returns 412: the resource was changed since the caller read it.
    pub(crate) fn stale(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "stale", detail)
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        let detail = format!("The body is too large: at most {limit} bytes are allowed");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    pub(crate) fn wrong_media_type() -> Self {
        let detail = "the body must be JSON, with the header `Content-Type: application/json`";
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "wrong_media_type",
            detail,
        )
    }

    /// Returns 405: the path exists, but not for this method.
    pub(crate) fn wrong_method(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
    }

    /// Returns 429: the caller should wait `retry_after` seconds.
    pub(crate) fn too_many(detail: impl Into<String>, retry_after: u64) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many", detail)
        }
    }

    /// Returns 503: the request can't be done now.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self {
            retry_after: Some(RETRY_AFTER_SECONDS),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn body(&self) -> ProblemBody {
        ProblemBody {
            kind: format!("urn:fanfare:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or_default().into(),
            status: self.status.as_u16(),
            code: self.code.into(),
            detail: self.detail.clone(),
            help: help::of_problem(&self.detail),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Invalid(detail) => Self::invalid(detail),
            StoreError::Conflict(detail) => Self::conflict(detail),
            StoreError::Stale(detail) => Self::stale(format!(
                "{detail}; read it again, and send If-Match with its new ETag"
            )),
            StoreError::NotFound(detail) => Self::not_found(detail),
            StoreError::WrongMasterKey => Self::unavailable(
                "the master key was replaced, and this process has the one before: restart it with the new one",
            ),
            StoreError::DiskFull => Self::unavailable(
                "the disk that holds the store is full, so nothing was changed: make room on it, then send this again",
            ),
            StoreError::ReadOnly => {
                tracing::error!(%error, "the admin API cannot use the store");
                Self::unavailable(error.to_string())
            }
            StoreError::Uncertain => {
                tracing::error!(%error, "the admin API cannot say whether a change was made");
                Self::unavailable(
                    "the connection to the database was lost while it took the change: look whether it was made before you \
                     send this again",
                )
            }
            StoreError::Missing
            | StoreError::Newer { .. }
            | StoreError::Migrate(_)
            | StoreError::NotADatabase(_)
            | StoreError::Configured(_)
            | StoreError::Late
            | StoreError::Unreachable(_)
            | StoreError::Database(_) => {
                tracing::error!(%error, "the admin API cannot use the store");
                Self::unavailable("the store does not answer; the server's log says more")
            }
        }
    }
}

impl From<RosterError> for Problem {
    fn from(error: RosterError) -> Self {
        Self::unavailable(error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.body()).expect("a problem is JSON");
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        // For the operator's log, to which `admin::finish` writes it.
        response.extensions_mut().insert(ProblemDetail(self.detail));
        response
    }
}
