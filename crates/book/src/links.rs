//! Where a reference leads within the book. The document `a/b.md` is the page `a/b`, a `README.md` the page of its folder.
//! Files outside `docs/` that pages refer to, such as configurations of proxies, are shown as they are, below `source/`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::DOCS;

/// Where files are shown that belong to no page.
const SOURCE: &str = "source/";
/// The description of the HTTP API, which the server sends itself, beside `/docs`.
const DESCRIPTION: &str = "docs/openapi.json";
/// Folders and files outside `docs/` that are shown.
const SHOWN: [&str; 6] = [
    "deploy/",
    "findings/",
    "docker-compose.yml",
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
];
/// Decisions, which explain the source.
const DECISIONS: &str = "docs/adr/";
/// The page of a folder.
const README: &str = "README.md";

/// The addresses of everything in the book.
#[derive(Debug)]
pub(crate) struct Links {
    documents: BTreeSet<String>,
    others: BTreeSet<String>,
}

impl Links {
    pub(crate) fn new<'a>(
        documents: impl Iterator<Item = &'a String>,
        others: impl Iterator<Item = &'a String>,
    ) -> Self {
        Self {
            documents: documents.cloned().collect(),
            others: others.cloned().collect(),
        }
    }

    /// Returns the URL of a reference to a file that the book shows as it is, relative to its page.
    pub(crate) fn shown(&self, from: &str, reference: &str) -> Option<String> {
        let url = self.url(from, reference)?;
        url.contains(SOURCE).then_some(url)
    }

    /// Returns the URL of a reference in a document, relative to its page, or `None` if it leads out of the book.
    pub(crate) fn url(&self, from: &str, reference: &str) -> Option<String> {
        if reference.starts_with('#') || reference.contains(':') {
            return Some(reference.to_owned());
        }
        let (file, anchor) = match reference.split_once('#') {
            Some((file, anchor)) => (file, format!("#{anchor}")),
            None => (reference, String::new()),
        };
        let target = resolve(from, file);
        let root = root(&page(from));
        if target == DESCRIPTION {
            return Some(format!("{root}../openapi.json"));
        }
        let readme = format!("{target}/{README}");
        [target, readme].into_iter().find_map(|path| {
            if self.documents.contains(&path) {
                return Some(format!("{root}{}{anchor}", page(&path)));
            }
            let is_file = self.others.contains(&path);
            is_file.then(|| format!("{root}{}", self::file(&path)))
        })
    }
}

/// Returns the page of a document, below `/docs/`.
pub(crate) fn page(document: &str) -> String {
    let path = below_docs(document);
    let path = path.strip_suffix(".md").unwrap_or(&path);
    path.strip_suffix("README").unwrap_or(path).to_owned()
}

/// Returns the way from a page to `/docs/`.
pub(crate) fn root(page: &str) -> String {
    match page.matches('/').count() {
        0 => "./".into(),
        depth => "../".repeat(depth),
    }
}

/// Returns the path below `/docs/` of a file that isn't a document.
pub(crate) fn file(path: &str) -> String {
    match path.strip_prefix(DOCS) {
        Some(path) => path.trim_start_matches('/').to_owned(),
        None => format!("{SOURCE}{path}"),
    }
}

/// Returns the path of a document from `docs/`.
pub(crate) fn below_docs(path: &str) -> String {
    let path = path.strip_prefix(DOCS).unwrap_or(path);
    path.trim_start_matches('/').to_owned()
}

/// Returns the path from the root of the repository of a reference in the document at `from`, without its anchor.
pub(crate) fn in_repository(from: &str, reference: &str) -> String {
    let file = reference.split('#').next().unwrap_or_default();
    if file.is_empty() {
        return from.to_owned();
    }
    resolve(from, file)
}

fn resolve(from: &str, reference: &str) -> String {
    let mut path = PathBuf::from(from);
    path.pop();
    for part in reference.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                path.pop();
            }
            part => path.push(part),
        }
    }
    path.to_string_lossy().into_owned()
}

/// Returns whether a path is that of a document. Decisions are for those who read the source.
pub(crate) fn is_document(path: &str) -> bool {
    path.starts_with(DOCS) && path.ends_with(".md") && !path.starts_with(DECISIONS)
}

/// Returns whether a path is that of an image of a document.
pub(crate) fn is_image(path: &str) -> bool {
    path.starts_with(DOCS) && media_type(path).starts_with("image/")
}

/// Returns the file that is shown for a path outside `docs/`, if there is one: itself, or the `README.md` of a folder.
pub(crate) fn shown_file(root: &Path, path: &str) -> Option<String> {
    let is_shown = SHOWN
        .iter()
        .any(|shown| path.starts_with(shown) || path == shown.trim_end_matches('/'));
    if !is_shown {
        return None;
    }
    [path.to_owned(), format!("{path}/{README}")]
        .into_iter()
        .find(|path| root.join(path).is_file())
}

/// Returns the media type of a file, by its name. What is none of those that browsers show otherwise is text.
pub(crate) fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("svg") => "image/svg+xml",
        Some("webp") => "image/webp",
        Some("png") => "image/png",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_lead_from_page_to_page_below_any_path() {
        let documents = [
            "docs/README.md",
            "docs/history.md",
            "docs/quickstart/README.md",
            "docs/quickstart/node.md",
        ]
        .map(str::to_owned);
        let others = ["docs/images/a.svg", "deploy/nginx.conf", "deploy/README.md"];
        let others = others.map(str::to_owned);
        let links = Links::new(documents.iter(), others.iter());
        for (from, reference, url) in [
            ("docs/history.md", "#x", Some("#x")),
            ("docs/history.md", "https://a/b", Some("https://a/b")),
            (
                "docs/history.md",
                "quickstart/node.md#x",
                Some("./quickstart/node#x"),
            ),
            ("docs/history.md", "quickstart", Some("./quickstart/")),
            ("docs/history.md", "README.md", Some("./")),
            (
                "docs/quickstart/README.md",
                "node.md",
                Some("../quickstart/node"),
            ),
            (
                "docs/quickstart/node.md",
                "../history.md",
                Some("../history"),
            ),
            (
                "docs/quickstart/node.md",
                "../images/a.svg",
                Some("../images/a.svg"),
            ),
            (
                "docs/history.md",
                "../deploy/nginx.conf",
                Some("./source/deploy/nginx.conf"),
            ),
            (
                "docs/history.md",
                "../deploy",
                Some("./source/deploy/README.md"),
            ),
            ("docs/history.md", "openapi.json", Some("./../openapi.json")),
            ("docs/history.md", "../crates/protocol/src/lib.rs", None),
        ] {
            assert_eq!(links.url(from, reference).as_deref(), url, "{reference}");
        }
    }
}
