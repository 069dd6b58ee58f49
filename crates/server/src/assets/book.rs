//! The documentation, at `/docs`: pages that were made of `docs/` and compressed while the program was built.

use std::collections::HashMap;
use std::io::Read;
use std::sync::LazyLock;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use flate2::read::GzDecoder;

use super::{Asset, Caching, dashboard};
use crate::app_state::AppState;
use crate::http::error::ApiError;
use crate::http::paths;

/// What the build made: every file, and the messages of `docs/errors.md`.
mod made {
    use super::Embedded;

    include!(concat!(env!("OUT_DIR"), "/book.rs"));
}

/// A file of the book, as the build embeds it.
struct Embedded {
    /// Below `/docs/`.
    path: &'static str,
    media_type: &'static str,
    fingerprint: &'static str,
    /// Whether `content` is compressed with gzip.
    is_packed: bool,
    content: &'static [u8],
}

static FILES: LazyLock<HashMap<&'static str, Asset>> = LazyLock::new(|| {
    let files = made::FILES.iter();
    files.map(|file| (file.path, file.asset())).collect()
});

impl Embedded {
    fn asset(&self) -> Asset {
        let kind = HeaderValue::from_static(self.media_type);
        let file = if self.is_packed {
            Asset::packed(kind, self.fingerprint, self.content)
        } else {
            Asset::new(kind, self.content)
        };
        file.with_policy(match self.media_type {
            // Opened by itself it is a document, whose style is its own.
            "image/svg+xml" => "default-src 'none'; style-src 'unsafe-inline'",
            _ => dashboard::POLICY,
        })
    }
}

/// Returns the routes of the book.
pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/docs", get(async || Redirect::temporary("docs/")))
        .route("/docs/", get(first))
        .route("/docs/{*path}", get(page))
        .route(
            "/llms.txt",
            get(async || Redirect::temporary("docs/llms.txt")),
        )
}

async fn first(state: State<AppState>, headers: HeaderMap) -> Response {
    respond(&state, "", &headers)
}

async fn page(state: State<AppState>, Path(path): Path<String>, headers: HeaderMap) -> Response {
    respond(&state, &path, &headers)
}

fn respond(state: &AppState, path: &str, headers: &HeaderMap) -> Response {
    if let Some(page) = markdown(path) {
        return page.respond(headers, Caching::Revalidate);
    }
    let Some(file) = FILES.get(path) else {
        // The page of a folder, which has a slash at its end.
        if FILES.contains_key(&*format!("{path}/")) {
            let last = path.rsplit('/').next().unwrap_or(path);
            return Redirect::temporary(&format!("{last}/")).into_response();
        }
        let message = format!(
            "There is no page {} in the documentation: look for it at {}/docs/",
            paths::truncated(path),
            state.base_path
        );
        return ApiError::new(404, message).into_response();
    };
    let caching = if path.starts_with("assets/") {
        Caching::Immutable
    } else {
        Caching::Revalidate
    };
    file.respond(headers, caching)
}

/// Returns a page as Markdown, which is a part of the whole text.
fn markdown(path: &str) -> Option<Asset> {
    let (_, range) = made::MARKDOWN.iter().find(|(page, _)| *page == path)?;
    let kind = HeaderValue::from_static("text/markdown; charset=utf-8");
    let text = FILES[made::WHOLE_TEXT].plain().slice(range.clone());
    Some(Asset::new(kind, text))
}

/// Unpacks a file, for the few clients that don't accept gzip.
pub(super) fn unpacked(content: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let read = GzDecoder::new(content).read_to_end(&mut plain);
    read.expect("the build compressed it");
    plain
}

/// Returns the anchor in `docs/errors.md` of the row that explains a message, if it has one.
pub(crate) fn anchor_of(message: &str) -> Option<&'static str> {
    let fits = |pieces: &[&str]| {
        let mut rest = Some(message);
        for piece in pieces {
            rest = rest
                .and_then(|rest| rest.split_once(piece))
                .map(|(_, after)| after);
        }
        rest.is_some()
    };
    let mut entries = made::CATALOGUE.iter();
    entries
        .find(|(pieces, _)| fits(pieces))
        .map(|(_, anchor)| *anchor)
}

/// Returns the messages that have no values, with the anchors of their rows.
pub(crate) fn whole_messages() -> impl Iterator<Item = (&'static str, &'static str)> {
    let whole = made::CATALOGUE
        .iter()
        .filter_map(|(pieces, anchor)| match pieces {
            [message] => Some((*message, *anchor)),
            _ => None,
        });
    // Of two rows with the same message the first is the one that says more.
    whole.rev()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that the book may add to the program.
    const MAX_BYTES: usize = 1024 * 1024;

    #[test]
    fn the_book_adds_at_most_a_megabyte_to_the_program() {
        let bytes: usize = made::FILES.iter().map(|file| file.content.len()).sum();
        let mut largest: Vec<_> = made::FILES
            .iter()
            .map(|file| (file.content.len(), file.path))
            .collect();
        largest.sort_unstable_by(|a, b| b.cmp(a));
        largest.truncate(30);
        assert!(bytes <= MAX_BYTES, "{bytes} bytes: {largest:?}");
    }

    #[test]
    fn pages_load_only_what_is_in_the_book() {
        for file in made::FILES
            .iter()
            .filter(|file| file.media_type.starts_with("text/html"))
        {
            let page = String::from_utf8(unpacked(file.content)).expect("text");
            assert!(
                !page.contains("{{root}}") && !page.contains("{{body}}"),
                "{}: a placeholder is left",
                file.path
            );
            assert!(
                !page.contains(" style=\"") && !page.contains("<script>"),
                "{}",
                file.path
            );
            let depth = file.path.matches('/').count();
            let root = if depth == 0 {
                "./".to_owned()
            } else {
                "../".repeat(depth)
            };
            for attribute in [
                "<script src=\"",
                "<script type=\"module\" src=\"",
                "<link rel=\"stylesheet\" href=\"",
                "<img loading=\"lazy\" src=\"",
            ] {
                for (at, _) in page.match_indices(attribute) {
                    let url = page[at + attribute.len()..]
                        .split('"')
                        .next()
                        .unwrap_or_default();
                    let path = url.strip_prefix(&root);
                    let path = path.unwrap_or_else(|| panic!("{}: {url}", file.path));
                    assert!(FILES.contains_key(path), "{}: {url}", file.path);
                }
            }
        }
    }

    #[test]
    fn a_message_leads_to_the_row_that_explains_it() {
        for (message, anchor) in [
            (
                "Connection not authorized within timeout",
                "connection-not-authorized-within-timeout",
            ),
            (
                "the store does not answer: apps and keys stay as they are until it does",
                "the-store-does-not-answer-apps-and-keys-stay-as-they-are",
            ),
        ] {
            assert_eq!(anchor_of(message), Some(anchor), "{message}");
        }
        assert_eq!(anchor_of("all is well"), None);
    }
}
