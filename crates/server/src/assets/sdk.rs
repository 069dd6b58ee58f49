//! The browser SDK for script tags.

use std::sync::LazyLock;

use axum::Router;
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_LOCATION};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;

use super::{Asset, Caching};
use crate::app_state::AppState;

const PLAIN: &str = include_str!("../../../../sdk/js/dist/fanfare.js");
const ENCRYPTED: &str = include_str!("../../../../sdk/js/dist/fanfare-encrypted.js");

const RECOVER: &str = include_str!("../../../../sdk/js/dist/recover.js");

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new("fanfare", PLAIN));
static ENCRYPTED_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::new("fanfare-encrypted", ENCRYPTED));
static RECOVER_SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new("recover", RECOVER));
static SOURCE_MAP: LazyLock<Asset> = LazyLock::new(|| {
    let map = include_str!("../../../../sdk/js/dist/fanfare.js.map");
    Asset::new(HeaderValue::from_static("application/json"), map)
});

/// A script and its two paths.
struct Script {
    file: Asset,
    /// Name in `/sdk` that always stands for the newest version.
    lasting: String,
    /// Name in `/sdk` with the fingerprint of the text.
    hashed: String,
}

impl Script {
    fn new(name: &str, text: &'static str) -> Self {
        let kind = HeaderValue::from_static("text/javascript; charset=utf-8");
        let file = Asset::new(kind, text);
        Self {
            lasting: format!("{name}.js"),
            hashed: format!("{name}.{}.js", file.fingerprint()),
            file,
        }
    }
}

/// Returns the routes of each script at both paths, and of the source map.
pub(crate) fn router() -> Router<AppState> {
    [&*SCRIPT, &*ENCRYPTED_SCRIPT, &*RECOVER_SCRIPT]
        .into_iter()
        .fold(Router::new(), |router, script| {
            let answer = move |caching| {
                get(move |headers: HeaderMap| async move { respond(script, &headers, caching) })
            };
            router
                .route(&path(&script.hashed), answer(Caching::Immutable))
                .route(&path(&script.lasting), answer(Caching::Hour))
        })
        .route("/sdk/fanfare.js.map", get(source_map))
        .route(
            "/sdk",
            get(|| async { Redirect::temporary(&format!("sdk/{}", SCRIPT.hashed)) }),
        )
}

fn path(name: &str) -> String {
    format!("/sdk/{name}")
}

/// Answers with a script, and with the address at which it never changes. That is relative, because a proxy may serve
/// this server below a path of which it knows nothing.
fn respond(script: &'static Script, request: &HeaderMap, caching: Caching) -> Response {
    let location = [(CONTENT_LOCATION, &*script.hashed)];
    let response = share(script.file.respond(request, caching));
    (location, response).into_response()
}

async fn source_map(request: HeaderMap) -> Response {
    share(SOURCE_MAP.respond(&request, Caching::Hour))
}

/// Lets pages of every origin load a file, also with `integrity`, which needs `crossorigin`.
fn share(response: Response) -> Response {
    ([(ACCESS_CONTROL_ALLOW_ORIGIN, "*")], response).into_response()
}
