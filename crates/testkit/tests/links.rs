//! Every reference to a document leads to a file and a heading that exist: links of Markdown files, source files that these
//! name, and paths below `docs/` that comments, scripts and deployment files name.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fmt, fs};

use fanfare_book::anchors;
use pulldown_cmark::{Event, Options, Parser, Tag};

/// The folder whose files other files name by their path from the root of the repository.
const DOCS: &str = "docs/";
/// Extensions of the documents there. A name without one is a folder.
const DOCUMENTS: [&str; 2] = [".md", ".json"];
/// The folder of the source code.
const SOURCES: &str = "crates/";

#[test]
fn every_reference_to_a_document_leads_somewhere() {
    let repository = Repository::read();
    let mut checked = 0;
    let mut broken = BTreeSet::new();
    for (path, text) in &repository.texts {
        for target in references(path, text) {
            checked += 1;
            if let Err(reason) = repository.check(&target) {
                broken.insert(format!("{path}: {target}: {reason}"));
            }
        }
    }
    let lines: Vec<String> = broken.into_iter().collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
    assert!(
        checked > 300,
        "only {checked} references were found; has their form changed?"
    );
}

/// A place in the repository that a file refers to.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    /// The path from the root of the repository.
    path: String,
    /// The heading, without `#`.
    anchor: Option<String>,
}

impl Target {
    /// Splits `PATH#ANCHOR`.
    fn new(reference: &str) -> Self {
        match reference.split_once('#') {
            Some((path, anchor)) => Self {
                path: path.into(),
                anchor: Some(anchor.into()),
            },
            None => Self {
                path: reference.into(),
                anchor: None,
            },
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        match &self.anchor {
            Some(anchor) => write!(f, "#{anchor}"),
            None => Ok(()),
        }
    }
}

/// The tracked files.
struct Repository {
    files: BTreeSet<String>,
    texts: BTreeMap<String, String>,
    anchors: HashMap<String, BTreeSet<String>>,
}

impl Repository {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let files = tracked_files(&root);
        let text = |path: &String| Some((path.clone(), fs::read_to_string(root.join(path)).ok()?));
        let texts: BTreeMap<String, String> = files.iter().filter_map(text).collect();
        let documents = texts.iter().filter(|(path, _)| path.ends_with(".md"));
        Self {
            anchors: documents
                .map(|(path, text)| (path.clone(), anchors(text)))
                .collect(),
            files,
            texts,
        }
    }

    fn check(&self, target: &Target) -> Result<(), String> {
        let path = target.path.trim_end_matches('/');
        let folder = format!("{path}/");
        if !self.files.contains(path) && !self.files.iter().any(|file| file.starts_with(&folder)) {
            return Err("there is no such file".into());
        }
        let Some(anchor) = &target.anchor else {
            return Ok(());
        };
        match self.anchors.get(path) {
            Some(anchors) if anchors.contains(anchor) => Ok(()),
            Some(_) => Err("the file has no such heading".into()),
            None => Err("only Markdown files have headings".into()),
        }
    }
}

/// Returns the paths of all files in the index of git, and of new ones that are not ignored.
fn tracked_files(root: &Path) -> BTreeSet<String> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root)
        .output()
        .expect("git runs");
    assert!(output.status.success(), "{output:?}");
    let paths = String::from_utf8(output.stdout).expect("paths are UTF-8");
    let paths = paths.split_terminator('\0').map(str::to_owned);
    paths.filter(|path| root.join(path).exists()).collect()
}

/// Returns what the text of a file refers to.
fn references(path: &str, text: &str) -> Vec<Target> {
    let mut targets = named_documents(text);
    if path.ends_with(".md") {
        targets.extend(links(path, text));
        targets.extend(named_sources(text));
    }
    targets
}

/// Returns the targets of Markdown links within the repository.
fn links(path: &str, text: &str) -> Vec<Target> {
    let events = Parser::new_ext(text, Options::ENABLE_TABLES);
    let urls = events.filter_map(|event| match event {
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => Some(dest_url),
        _ => None,
    });
    let inner = urls.filter(|url| !url.contains(':'));
    inner
        .map(|url| match url.strip_prefix('#') {
            Some(anchor) => Target::new(&format!("{path}#{anchor}")),
            None => Target::new(&resolve(path, &url)),
        })
        .collect()
}

/// Returns the source files that a Markdown file names as code, by their path from the root of the repository.
fn named_sources(text: &str) -> Vec<Target> {
    let events = Parser::new_ext(text, Options::ENABLE_TABLES);
    let names = events.filter_map(|event| match event {
        Event::Code(code) => Some(code),
        _ => None,
    });
    let is_path = |name: &str| {
        name.starts_with(SOURCES) && !name.contains(|c: char| c.is_whitespace() || c == '*')
    };
    let paths = names.filter(|name| is_path(name));
    paths.map(|path| Target::new(&path)).collect()
}

/// Returns the path from the root of the repository of a link in the file at `from`.
fn resolve(from: &str, link: &str) -> String {
    let mut path = PathBuf::from(from);
    path.pop();
    for part in link.split('/') {
        match part {
            "." => {}
            ".." => {
                path.pop();
            }
            part => path.push(part),
        }
    }
    path.to_str().expect("paths are UTF-8").to_owned()
}

/// Returns the documents that a text names by their path from the root of the repository: `docs/…`, also with `../` before
/// it.
fn named_documents(text: &str) -> Vec<Target> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "._-/#".contains(c);
    let mut targets = Vec::new();
    for (at, _) in text.match_indices(DOCS) {
        let mut before = &text[..at];
        while let Some(shorter) = before.strip_suffix("../") {
            before = shorter;
        }
        // A path of a URL, or of another folder.
        if before.ends_with(is_part) {
            continue;
        }
        let rest = &text[at..];
        let name = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
        let target = Target::new(name.trim_end_matches(['.', '/', '#']));
        let file = target.path.rsplit('/').next().unwrap_or_default();
        let is_document = DOCUMENTS.iter().any(|end| file.ends_with(end));
        if is_document || !file.contains('.') {
            targets.push(target);
        }
    }
    targets
}

#[test]
fn a_reference_that_leads_nowhere_is_found() {
    let page = format!("{DOCS}page.md");
    let repository = Repository {
        files: [page.clone()].into(),
        texts: BTreeMap::new(),
        anchors: [(page.clone(), ["there".to_owned()].into())].into(),
    };
    let broken = |path: &str, text: String| {
        let targets = references(path, &text).into_iter();
        let broken = targets.filter(|target| repository.check(target).is_err());
        broken.map(|target| target.to_string()).collect::<Vec<_>>()
    };
    let nothing: [&str; 0] = [];
    for good in [
        format!("// See {page}#there, and {page}."),
        format!("include_str!(\"../../../{page}\")"),
        "GET /docs/gone.md, https://example.com/docs/gone.md, old-docs/gone.md".into(),
    ] {
        assert_eq!(broken("src/a.rs", good), nothing);
    }
    let bad = format!("// ({page}#gone) and {DOCS}gone.md, {DOCS}gone");
    let expected = ["page.md#gone", "gone.md", "gone"].map(|name| format!("{DOCS}{name}"));
    assert_eq!(broken("src/a.rs", bad), expected);
    let sources = "`crates/gone.rs` and `crates/*/src` and `cargo test crates/gone`";
    assert_eq!(broken("README.md", sources.into()), ["crates/gone.rs"]);
    let links = "[a](page.md#there) [b](./page.md) [c](#here) [d](gone.md) [e][f] [g](https://x/y)\n\n[f]: page.md#gone\n";
    let expected = ["other.md#here", "gone.md", "page.md#gone"].map(|name| format!("{DOCS}{name}"));
    assert_eq!(broken(&format!("{DOCS}other.md"), links.into()), expected);
}
