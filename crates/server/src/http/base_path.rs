//! The path below which everything is (`http.base_path`), for proxies that pass it on in requests.

use std::sync::Arc;

use axum::Router;
use axum::extract::{OriginalUri, Request};
use axum::http::uri::PathAndQuery;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Redirect, Response};
use tower::ServiceExt;

use super::paths::RequestedUri;
use crate::http::headers::is_upgrade;

/// Returns routes that are those of `router` below `base`.
///
/// They stay at their own paths as well. Orchestrators and other programs that ask this node itself know nothing of the
/// path, and a proxy may remove it, in which case it still belongs in the links that people are shown.
pub(crate) fn below(base: Arc<str>, router: Router) -> Router {
    Router::new()
        .fallback(move |request: Request| serve(Arc::clone(&base), router.clone(), request))
}

async fn serve(base: Arc<str>, router: Router, mut request: Request) -> Response {
    if is_page(&request) && request.uri().path() == &*base {
        return with_slash(&base);
    }
    if let Some(uri) = without_base(&base, request.uri()) {
        let requested = std::mem::replace(request.uri_mut(), uri);
        let extensions = request.extensions_mut();
        extensions.insert(RequestedUri(requested));
        // The outer router's. The inner one adds its own, which handlers compare with their routes.
        extensions.remove::<OriginalUri>();
    }
    let answer = router.oneshot(request).await;
    answer.unwrap_or_else(|never| match never {})
}

fn is_page(request: &Request) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD) && !is_upgrade(request.headers())
}

/// Sends a browser to the base path with a slash at its end, from which relative addresses of the page lead below it.
/// The address is relative, because another proxy may remove what precedes it.
fn with_slash(base: &str) -> Response {
    let last = base.rsplit('/').next().unwrap_or_default();
    Redirect::temporary(&format!("{last}/")).into_response()
}

/// Returns an address without the base path, or `None` if it isn't below it.
fn without_base(base: &str, uri: &Uri) -> Option<Uri> {
    let rest = uri.path_and_query()?.as_str().strip_prefix(base)?;
    let path = match rest.as_bytes().first() {
        Some(b'/') => PathAndQuery::try_from(rest),
        None | Some(b'?') => PathAndQuery::try_from(format!("/{rest}")),
        // A longer first segment that begins with the same letters.
        Some(_) => return None,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path.ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_segments_are_removed() {
        for (uri, expected) in [
            ("/rt/app/k?a=b", Some("/app/k?a=b")),
            ("/rt/", Some("/")),
            ("/rt", Some("/")),
            ("/rt?a", Some("/?a")),
            ("/rt//x", Some("//x")),
            ("/rt/rt/x", Some("/rt/x")),
            ("https://h/rt/x", Some("https://h/x")),
            ("/rtx/app", None),
            ("/app/rt/x", None),
            ("/RT/x", None),
            ("/", None),
        ] {
            let uri: Uri = uri.parse().expect("an address");
            let found = without_base("/rt", &uri).map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), expected, "{uri}");
        }
    }
}
