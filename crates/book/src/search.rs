//! The data of the search: where each section and each row of the pages is in the whole text, which the search reads as well.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::contents::Contents;
use crate::document::Document;
use crate::links;

/// Where the data is, below `/docs/`.
pub(crate) const PATH: &str = "search.json";

/// What the search finds. The names are short because there are thousands.
#[derive(Debug, Serialize)]
struct Found<'a> {
    /// The page and the anchor, below `/docs/`.
    u: String,
    /// The part and the page.
    p: String,
    /// The heading, or the first cell of a row.
    h: &'a str,
    /// The number of its line in the whole text, from 0. A section ends where the next one begins.
    l: usize,
    /// 1 for a row, of which a page may have hundreds.
    #[serde(skip_serializing_if = "is_zero")]
    r: u8,
}

pub(crate) fn data(contents: &Contents, documents: &BTreeMap<String, Document>) -> Vec<u8> {
    let mut found = Vec::new();
    let mut before = 0;
    for part in &contents.parts {
        for chapter in &part.chapters {
            let Some(document) = documents.get(&chapter.source()) else {
                continue;
            };
            let page = links::page(document.path());
            found.extend(document.sections().iter().map(|section| Found {
                u: match section.level {
                    1 => page.clone(),
                    _ => format!("{page}#{}", section.anchor),
                },
                p: format!("{} › {}", part.title, chapter.title),
                h: &section.heading,
                l: before + section.line,
                r: u8::from(section.level == 0),
            }));
            before += document.source().matches('\n').count();
        }
    }
    serde_json::to_vec(&found).expect("text is JSON")
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u8) -> bool {
    *number == 0
}
