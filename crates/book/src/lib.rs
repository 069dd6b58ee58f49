//! The documentation as a book. [`Book::read`] takes `docs/` of the repository as it is, and [`Book::files`] gives what a
//! server shows at `/docs`: a page for each document, the data of the search, images, and plain text for assistants. All of
//! it happens while the program is built, so the book that a server shows is the one of its version.
//!
//! | module | content |
//! |---|---|
//! | `anchors` | the anchors of headings, as GitHub makes them |
//! | `catalogue` | the rows of `docs/errors.md`: which message is explained where |
//! | `contents` | the table of contents, `docs/SUMMARY.md` |
//! | `document` | Markdown as HTML, with anchors on headings and rows, and the sections that the search knows |
//! | `frame` | what is around the text of each page |
//! | `links` | where a reference leads within the book |
//! | `plain` | `llms.txt`, and pages as Markdown |
//! | `search` | the data of the search |

mod anchors;
mod catalogue;
mod contents;
mod document;
mod frame;
mod links;
mod plain;
mod search;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub use crate::anchors::{anchors, slug};
pub use crate::catalogue::{Entry, entries};
pub use crate::contents::{Chapter, Contents, Part};
pub use crate::plain::WHOLE as WHOLE_TEXT;

use crate::document::Document;
use crate::links::Links;

/// The folder of the documents, from the root of the repository.
pub const DOCS: &str = "docs";
/// Where the scripts and styles of the pages are, from the root of the repository.
const ASSETS: &str = "dashboard/dist/book";

/// Why there is no book.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// A file that belongs to the book can't be read.
    #[error("{path}: {error}")]
    Unreadable {
        /// The file, from the root of the repository.
        path: String,
        /// What the system says.
        error: io::Error,
    },
    /// A page refers to an image that doesn't exist.
    #[error("{page} shows {image}, which doesn't exist")]
    NoImage {
        /// The page, from the root of the repository.
        page: String,
        /// The image, from the root of the repository.
        image: String,
    },
}

/// A file below `/docs`.
#[derive(Debug)]
pub struct File {
    /// Its path below `/docs/`, as in a URL. Empty for the first page.
    pub path: String,
    /// Its media type.
    pub media_type: &'static str,
    /// Its content, not compressed.
    pub content: Vec<u8>,
}

/// The documents, read and linked to each other.
#[derive(Debug)]
pub struct Book {
    contents: Contents,
    /// By their path from the root of the repository.
    documents: BTreeMap<String, Document>,
    /// Images, and files that pages refer to, by their path from the root of the repository.
    others: BTreeMap<String, Vec<u8>>,
    /// Scripts and styles, by their name, which has a hash of the content.
    assets: BTreeMap<String, Vec<u8>>,
}

impl Book {
    /// Reads the documents that the table of contents names, and what they refer to.
    ///
    /// # Errors
    ///
    /// Returns which file can't be read, or which image is missing.
    pub fn read(root: &Path) -> Result<Self, BookError> {
        let contents = Contents::parse(&text(root, &format!("{DOCS}/SUMMARY.md"))?);
        let mut waiting: Vec<String> = contents.chapters().map(Chapter::source).collect();
        let mut seen: BTreeSet<String> = waiting.iter().cloned().collect();
        let mut documents = BTreeMap::new();
        let mut others = BTreeMap::new();
        while let Some(path) = waiting.pop() {
            let document = Document::new(&path, &text(root, &path)?);
            for target in document.references() {
                let target = links::in_repository(&path, &target);
                if !seen.insert(target.clone()) {
                    continue;
                }
                // A page that only others refer to belongs to the book, too.
                if links::is_document(&target) && root.join(&target).is_file() {
                    waiting.push(target);
                } else if links::is_image(&target) {
                    let content = std::fs::read(root.join(&target));
                    let missing = |_| BookError::NoImage {
                        page: path.clone(),
                        image: target.clone(),
                    };
                    others.insert(target.clone(), content.map_err(missing)?);
                } else if let Some(file) = links::shown_file(root, &target) {
                    others.insert(file.clone(), read(root, &file)?);
                }
            }
            documents.insert(path, document);
        }
        Ok(Self {
            contents,
            documents,
            others,
            assets: assets(root)?,
        })
    }

    /// Returns the files on which the book depends, from the root of the repository. A folder stands for what is in it.
    #[must_use]
    pub fn sources(&self) -> Vec<String> {
        let others = self.others.keys().filter(|path| !path.starts_with(DOCS));
        [DOCS.to_owned(), ASSETS.to_owned()]
            .into_iter()
            .chain(others.cloned())
            .collect()
    }

    /// Returns everything that is below `/docs`.
    #[must_use]
    pub fn files(&self) -> Vec<File> {
        let links = Links::new(self.documents.keys(), self.others.keys());
        let pages = self.documents.values().map(|document| {
            let frame = frame::Frame {
                contents: &self.contents,
                assets: &self.assets,
                links: &links,
            };
            File {
                path: links::page(document.path()),
                media_type: "text/html; charset=utf-8",
                content: frame.around(document).into_bytes(),
            }
        });
        let others = self.others.iter().map(|(path, content)| File {
            path: links::file(path),
            media_type: links::media_type(path),
            content: content.clone(),
        });
        let assets = self.assets.iter().map(|(name, content)| File {
            path: format!("{}{name}", frame::ASSETS),
            media_type: links::media_type(name),
            content: content.clone(),
        });
        let mut files: Vec<File> = pages.chain(others).chain(assets).collect();
        files.push(File {
            path: search::PATH.into(),
            media_type: "application/json",
            content: search::data(&self.contents, &self.documents),
        });
        files.push(File {
            path: plain::PATH.into(),
            media_type: "text/plain; charset=utf-8",
            content: plain::overview(&self.contents, &self.documents).into_bytes(),
        });
        let (whole, _) = plain::whole(&self.contents, &self.documents, &links);
        files.push(File {
            path: WHOLE_TEXT.into(),
            media_type: "text/plain; charset=utf-8",
            content: whole.into_bytes(),
        });
        files
    }

    /// Returns the path of each page as Markdown, and where it is in [`WHOLE_TEXT`], in bytes. They aren't files of their own,
    /// because the search and assistants want the whole text, and once is enough.
    #[must_use]
    pub fn markdown(&self) -> Vec<(String, Range<usize>)> {
        let links = Links::new(self.documents.keys(), self.others.keys());
        let (_, places) = plain::whole(&self.contents, &self.documents, &links);
        places
    }

    /// Returns which message is explained where in the catalogue of errors.
    #[must_use]
    pub fn catalogue(&self) -> Vec<Entry> {
        let page = self.documents.get(&format!("{DOCS}/errors.md"));
        page.map(|page| entries(page.source())).unwrap_or_default()
    }
}

/// Returns the digits that identify a file's content.
#[must_use]
pub fn fingerprint(content: &[u8]) -> String {
    /// Bytes of the SHA-256 that are enough to tell the versions of a file apart.
    const BYTES: usize = 8;
    hex::encode(&Sha256::digest(content)[..BYTES])
}

fn assets(root: &Path) -> Result<BTreeMap<String, Vec<u8>>, BookError> {
    let mut assets = BTreeMap::new();
    for entry in std::fs::read_dir(root.join(ASSETS)).map_err(unreadable(ASSETS))? {
        let path: PathBuf = entry.map_err(unreadable(ASSETS))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let content = std::fs::read(&path).map_err(unreadable(ASSETS))?;
        assets.insert(name.into_owned(), content);
    }
    Ok(assets)
}

fn read(root: &Path, path: &str) -> Result<Vec<u8>, BookError> {
    std::fs::read(root.join(path)).map_err(unreadable(path))
}

fn text(root: &Path, path: &str) -> Result<String, BookError> {
    std::fs::read_to_string(root.join(path)).map_err(unreadable(path))
}

/// Returns what makes an error of what the system says about a file.
fn unreadable(path: &str) -> impl Fn(io::Error) -> BookError {
    move |error| BookError::Unreadable {
        path: path.into(),
        error,
    }
}
