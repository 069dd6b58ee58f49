//! The documentation, at `/docs`: pages that were made of `docs/` and compressed while the program was built.

use std::collections::HashMap;
use std::io::Read;
use std::sync::LazyLock;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use flate2::read::GzDecoder;

use super::{Asset, Caching, dashboard, secure};
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

/// The pages as Markdown, which are parts of the whole text.
static MARKDOWN: LazyLock<HashMap<&'static str, Asset>> = LazyLock::new(|| {
    let kind = HeaderValue::from_static("text/markdown; charset=utf-8");
    let whole = FILES[made::WHOLE_TEXT].plain();
    let pages = made::MARKDOWN.iter();
    pages
        .map(|(path, range)| (*path, Asset::new(kind.clone(), whole.slice(range.clone()))))
        .collect()
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
        .route("/docs", get(async || redirect("docs/")))
        .route("/docs/", get(answer))
        .route("/docs/{*path}", get(answer))
        .route("/llms.txt", get(async || redirect("docs/llms.txt")))
}

/// Answers with a file. Paths are compared as they were sent, because none in the book needs an encoding.
async fn answer(state: State<AppState>, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().strip_prefix("/docs/").unwrap_or_default();
    let Some(file) = FILES.get(path).or_else(|| MARKDOWN.get(path)) else {
        return absent(&state, path);
    };
    let caching = if path.starts_with("assets/") {
        Caching::Immutable
    } else {
        Caching::Revalidate
    };
    file.respond(&headers, caching)
}

/// Leads to the page that was probably meant, with or without a slash at the end, or says that there is none.
fn absent(state: &AppState, path: &str) -> Response {
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    if FILES.contains_key(&*format!("{path}/")) {
        return redirect(&format!("{}/", last(path)));
    }
    if let Some(page) = path
        .strip_suffix('/')
        .filter(|page| FILES.contains_key(page))
    {
        return redirect(&format!("../{}", last(page)));
    }
    let message = format!(
        "There is no page {} in the documentation: look for it at {}/docs/",
        paths::truncated(path),
        state.base_path
    );
    ApiError::new(404, message).into_response()
}

/// Leads elsewhere, relative to the address that was asked for.
fn redirect(to: &str) -> Response {
    secure(
        Redirect::temporary(to).into_response(),
        Some(dashboard::POLICY),
    )
}

/// Unpacks a file, for the few clients that don't accept gzip.
pub(super) fn unpacked(content: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let read = GzDecoder::new(content).read_to_end(&mut plain);
    read.expect("the build compressed it");
    plain
}

/// Returns the anchor in `docs/errors.md` of the row that explains a message, if it has one: of the row that begins as the
/// message does, or else of one that is in it after something else, such as what was being done.
pub(crate) fn anchor_of(message: &str) -> Option<&'static str> {
    /// Fewer bytes are in many messages by chance.
    const MIN_WITHIN: usize = 16;
    let anchor = |fits: &dyn Fn(&[&str]) -> bool| {
        let mut entries = made::CATALOGUE.iter();
        entries
            .find(|(pieces, _)| fits(pieces))
            .map(|(_, anchor)| *anchor)
    };
    anchor(&|pieces| message.starts_with(pieces[0]) && has_all(message, pieces)).or_else(|| {
        anchor(&|pieces| {
            let length: usize = pieces.iter().map(|piece| piece.len()).sum();
            length >= MIN_WITHIN && has_all(message, pieces)
        })
    })
}

/// Returns whether a message has all pieces in their order.
fn has_all(message: &str, pieces: &[&str]) -> bool {
    let mut rest = Some(message);
    for piece in pieces {
        rest = rest
            .and_then(|rest| rest.split_once(piece))
            .map(|(_, after)| after);
    }
    rest.is_some()
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
        let chosen = "there is no app with id \"the store does not answer: apps and keys stay as they are until it does\"";
        assert_ne!(
            anchor_of(chosen),
            Some("the-store-does-not-answer-apps-and-keys-stay-as-they-are"),
            "words of a caller count less than those of the program"
        );
        for message in [
            "all is well",
            "connection reset",
            "connections.max",
            "handshake",
        ] {
            assert_eq!(anchor_of(message), None, "{message}");
        }
    }
}
