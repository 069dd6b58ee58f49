//! Which pages may read an answer: those of the app's allowed origins.

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

/// Seconds for which a browser need not ask again.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The origin of a page that may read the answer; none where the caller is no page.
#[derive(Debug)]
pub(crate) struct Cors(Option<HeaderValue>);

impl Cors {
    /// Looks at who asks. Without an app there is nobody who could have restricted its origins, and a page should be able
    /// to read what is wrong.
    ///
    /// # Errors
    ///
    /// The app does not allow that origin.
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

    /// Lets the page send a token.
    pub(crate) fn allow_post(self, mut answer: Response) -> Response {
        let headers = answer.headers_mut();
        headers.insert(
            ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("POST"),
        );
        headers.insert(
            ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("authorization, content-type"),
        );
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        self.allow(answer)
    }
}
