//! What is around the text of each page: navigation, search, the pages before and after.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::contents::{Chapter, Contents};
use crate::document::{Document, Section, escaped};
use crate::links::{self, Links};

/// The folder of scripts and styles, below `/docs/`.
pub(crate) const ASSETS: &str = "assets/";
const PAGE: &str = include_str!("frame.html");
/// A page with fewer headings has no outline.
const MIN_OUTLINE: usize = 2;

/// What the frames of all pages are made of.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) contents: &'a Contents,
    pub(crate) assets: &'a BTreeMap<String, Vec<u8>>,
    pub(crate) links: &'a Links,
}

impl Frame<'_> {
    /// Returns a document as a whole page.
    pub(crate) fn around(&self, document: &Document) -> String {
        let root = links::root(&links::page(document.path()));
        let asset = |begin: &str, end: &str| {
            let is_meant = |name: &&String| name.starts_with(begin) && name.ends_with(end);
            let name = self.assets.keys().find(is_meant);
            format!("{root}{ASSETS}{}", name.map_or("", String::as_str))
        };
        let chapters: Vec<&Chapter> = self.contents.chapters().collect();
        let at = chapters
            .iter()
            .position(|chapter| chapter.source() == document.path());
        let before = at.and_then(|at| at.checked_sub(1)).map(|at| chapters[at]);
        let after = at.and_then(|at| chapters.get(at + 1)).copied();
        let values = [
            ("title", escaped(document.title()).into_owned()),
            ("summary", escaped(&document.summary()).into_owned()),
            ("style", asset("book-", ".css")),
            ("scheme", asset("scheme-", ".js")),
            ("script", asset("book-", ".js")),
            (
                "markdown",
                format!("{root}{}", links::below_docs(document.path())),
            ),
            ("contents", self.navigation(document, &root)),
            ("previous", turn("prev", "Before", before, &root)),
            ("next", turn("next", "Next", after, &root)),
            ("outline", outline(document.sections())),
            ("root", root.clone()),
            // Last, because it may have the words of placeholders.
            ("body", document.html(self.links)),
        ];
        values.iter().fold(PAGE.to_owned(), |page, (name, value)| {
            page.replace(&format!("{{{{{name}}}}}"), value)
        })
    }

    fn navigation(&self, document: &Document, root: &str) -> String {
        let mut html = String::new();
        for part in &self.contents.parts {
            let _ = writeln!(html, "<h2>{}</h2>\n<ul>", escaped(&part.title));
            for chapter in &part.chapters {
                let source = chapter.source();
                let class = ["", " class=\"below\""][chapter.level.min(1)];
                let current = if source == document.path() {
                    " aria-current=\"page\""
                } else {
                    ""
                };
                let page = links::page(&source);
                let title = escaped(&chapter.title);
                let _ = writeln!(
                    html,
                    "<li{class}><a href=\"{root}{page}\"{current}>{title}</a></li>"
                );
            }
            html.push_str("</ul>\n");
        }
        html
    }
}

/// Returns the link to the page before or after.
fn turn(rel: &str, label: &str, chapter: Option<&Chapter>, root: &str) -> String {
    let Some(chapter) = chapter else {
        return String::new();
    };
    let page = links::page(&chapter.source());
    let title = escaped(&chapter.title);
    format!("<a rel=\"{rel}\" href=\"{root}{page}\"><small>{label}</small>{title}</a>")
}

/// Returns the links to the headings of a page.
fn outline(sections: &[Section]) -> String {
    let headings = || {
        sections
            .iter()
            .filter(|section| matches!(section.level, 2 | 3))
    };
    if headings().count() < MIN_OUTLINE {
        return String::new();
    }
    let mut html = String::from("<h2>On this page</h2>\n<ul>\n");
    for Section {
        level,
        anchor,
        heading,
        ..
    } in headings()
    {
        let class = if *level == 3 { " class=\"below\"" } else { "" };
        let heading = escaped(heading);
        let _ = writeln!(html, "<li{class}><a href=\"#{anchor}\">{heading}</a></li>");
    }
    html.push_str("</ul>\n");
    html
}
