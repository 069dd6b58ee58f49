//! The book for assistants: `llms.txt` (llmstxt.org) names the pages, each of which is there as Markdown as well, and
//! `llms-full.txt` has all of them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;

use crate::contents::Contents;
use crate::document::Document;
use crate::links::{self, Links};

/// Where the overview is, below `/docs/`.
pub(crate) const PATH: &str = "llms.txt";
/// Where the whole text is, below `/docs/`.
pub const WHOLE: &str = "llms-full.txt";

pub(crate) fn overview(contents: &Contents, documents: &BTreeMap<String, Document>) -> String {
    let mut text = String::from(
        "# Fanfare\n\n\
         > A self-hosted realtime server that speaks the Pusher Channels protocol: backends publish events over HTTP, clients \
         subscribe over WebSockets.\n\n\
         Each page is Markdown; [llms-full.txt](llms-full.txt) has all of them. The HTTP APIs are described in \
         [openapi.json](../openapi.json).\n",
    );
    for part in &contents.parts {
        let _ = write!(text, "\n## {}\n\n", part.title);
        for chapter in &part.chapters {
            let summary = documents.get(&chapter.source()).map(Document::summary);
            let _ = writeln!(
                text,
                "- [{}]({}): {}",
                chapter.title,
                links::below_docs(&chapter.source()),
                summary.unwrap_or_default()
            );
        }
    }
    text
}

/// Returns the text of all pages in their order, and where each is in it, in bytes.
pub(crate) fn whole(
    contents: &Contents,
    documents: &BTreeMap<String, Document>,
    links: &Links,
) -> (String, Vec<(String, Range<usize>)>) {
    let mut text = String::new();
    let mut places = Vec::new();
    for chapter in contents.chapters() {
        let Some(document) = documents.get(&chapter.source()) else {
            continue;
        };
        let start = text.len();
        text.push_str(&document.markdown(links));
        places.push((links::below_docs(document.path()), start..text.len()));
    }
    (text, places)
}
