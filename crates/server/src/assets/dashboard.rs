//! The dashboard, at `/`: one page, and the files that it loads. `dashboard/` has the sources.

use std::sync::LazyLock;

use axum::Router;
use axum::extract::Request;
use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{Redirect, Response};
use axum::routing::get;
use include_dir::{Dir, File, include_dir};

use super::{Asset, Caching};
use crate::app_state::AppState;
use crate::http::headers::members;

static DIST: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../dashboard/dist");
const PAGE: &str = "index.html";

/// Content security policy of the page: its own scripts and styles, connections to this server, and no text that becomes
/// HTML or a script.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'self'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

static INDEX: LazyLock<Asset> = LazyLock::new(|| {
    let page = DIST.get_file(PAGE).expect("the build writes the page");
    asset(page).with_policy(POLICY)
});
static FILES: LazyLock<Vec<(String, Asset)>> = LazyLock::new(|| {
    let loaded = DIST.files().filter(|file| content_type(file).is_some());
    let loaded = loaded.filter(|file| name(file) != PAGE);
    loaded
        .map(|file| (format!("/dashboard/{}", name(file)), asset(file)))
        .collect()
});

/// Returns the routes of the files, whose names have a hash of their content.
pub(crate) fn router() -> Router<AppState> {
    let router = Router::new()
        .route("/dashboard", get(async || Redirect::temporary("./")))
        .route("/dashboard/", get(async || Redirect::temporary("../")));
    FILES.iter().fold(router, |router, (path, file)| {
        router.route(
            path,
            get(async move |headers: HeaderMap| file.respond(&headers, Caching::Immutable)),
        )
    })
}

/// Answers with the page, if the client is a browser that wants one.
pub(crate) fn page(request: &Request) -> Option<Response> {
    let headers = request.headers();
    members(headers, ACCEPT)
        .any(|kind| kind.starts_with("text/html"))
        .then(|| INDEX.respond(headers, Caching::Revalidate))
}

fn asset(file: &'static File<'static>) -> Asset {
    let kind = content_type(file).expect("a kind of file that browsers load");
    Asset::new(HeaderValue::from_static(kind), file.contents()).compressed()
}

fn name(file: &File<'static>) -> &'static str {
    file.path().to_str().expect("the build writes plain names")
}

/// Returns the media type of a file that browsers load.
fn content_type(file: &File<'static>) -> Option<&'static str> {
    Some(match file.path().extension()?.to_str()? {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_page_loads_files_that_are_served_and_nothing_else() {
        let page = DIST.get_file(PAGE).expect("the page");
        let text = page.contents_utf8().expect("text");
        let loaded: Vec<_> = ["src=\"", "href=\"dashboard"]
            .iter()
            .flat_map(|start| text.match_indices(start))
            .collect();
        assert!(loaded.len() >= 2, "{text}");
        for (path, _) in FILES.iter() {
            // A hash may have hyphens, and names have none.
            let hash = path.split_once('-').map(|(_, hash)| hash);
            assert!(hash.is_some_and(|hash| hash.len() > 8), "{path}");
        }
        for part in text
            .split('"')
            .filter(|part| part.starts_with("dashboard/"))
        {
            let path = format!("/{part}");
            assert!(FILES.iter().any(|(served, _)| *served == path), "{path}");
        }
        assert!(!text.contains("http://") || text.contains("http://www.w3.org/2000/svg"));
        assert!(!text.contains("https://"), "{text}");
    }

    /// The build writes the hash of each source beside its output, so that this needs no Node.
    #[test]
    fn the_built_files_are_as_new_as_their_sources() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dashboard");
        let list = DIST
            .get_file("SOURCES.sha256")
            .expect("the build writes it");
        let list = list.contents_utf8().expect("text");
        assert!(list.lines().count() > 10, "{list}");
        for line in list.lines() {
            let (hash, name) = line.split_once("  ").expect("HASH  NAME");
            let content = std::fs::read(folder.join(name));
            let is_same = content.is_ok_and(|content| hex::encode(Sha256::digest(content)) == hash);
            assert!(
                is_same,
                "dashboard/{name} has changed since dashboard/dist was built: run `npm ci && npm run build` in dashboard/"
            );
        }
        let sources = std::fs::read_dir(folder.join("src")).expect("sources");
        for source in sources.map(|entry| entry.expect("an entry").file_name()) {
            let source = format!("  src/{}", source.to_str().expect("a plain name"));
            assert!(
                list.contains(&source),
                "dashboard/dist was built without{source}"
            );
        }
    }
}
