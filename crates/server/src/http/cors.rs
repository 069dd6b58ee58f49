//! CORS: only pages of the app's allowed origins may read an answer.

use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use fanfare_engine::App;
use fanfare_protocol::excerpt;

use super::error::ApiError;
use super::headers::combined;

/// Seconds for which a browser may cache a preflight.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// Headers that a page may send with a request for a stream: a token, and what clients of streams send by themselves.
const SSE_HEADERS: &str = "authorization, cache-control, last-event-id, x-requested-with";

/// Origin of the page that may read the answer, or `None` if the caller isn't a page.
#[derive(Debug, Default)]
pub(crate) struct Cors(Option<HeaderValue>);

impl Cors {
    /// Checks the request's origin against the app's. If there is no app, every origin is allowed, so that a page can
    /// read what is wrong.
    ///
    /// # Errors
    ///
    /// Returns 403 if the app doesn't allow the origin.
    pub(crate) fn of(app: Option<&App>, headers: &HeaderMap) -> Result<Self, ApiError> {
        let origin = combined(headers, ORIGIN);
        if let (Some(origin), Some(app)) = (&origin, app)
            && !app.settings().allows_origin(origin)
        {
            let origin = excerpt(origin);
            return Err(ApiError::new(
                403,
                format!("Origin {origin:?} is not allowed to ask for auth (allowed_origins)"),
            ));
        }
        Ok(Self(origin.and_then(|origin| origin.try_into().ok())))
    }

    /// Lets the page read an answer.
    pub(crate) fn allow(self, mut answer: Response) -> Response {
        if let Some(origin) = self.0 {
            let headers = answer.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        answer
    }

    /// Answers a preflight so that the page may send a token.
    pub(crate) fn allow_post(self, answer: Response) -> Response {
        self.allow_request(answer, "POST", "authorization, content-type")
    }

    /// Answers a preflight so that the page may send a token, and the id of the last event that it got.
    pub(crate) fn allow_get(self, answer: Response) -> Response {
        self.allow_request(answer, "GET", SSE_HEADERS)
    }

    fn allow_request(
        self,
        mut answer: Response,
        method: &'static str,
        names: &'static str,
    ) -> Response {
        let headers = answer.headers_mut();
        headers.insert(
            ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static(method),
        );
        headers.insert(
            ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static(names),
        );
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        self.allow(answer)
    }
}
