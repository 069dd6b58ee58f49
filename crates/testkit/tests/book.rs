//! Every page of `docs/` is in the table of contents, once, and what that names is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use fanfare_book::{Contents, DOCS};

/// Folders whose files aren't pages of the book: decisions explain the source.
const LEFT_OUT: [&str; 1] = ["adr"];
const CONTENTS: &str = "SUMMARY.md";

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(DOCS)
}

/// Returns the paths of all pages from `docs/`.
fn pages() -> BTreeSet<String> {
    let mut pages = BTreeSet::new();
    let mut folders = vec![docs()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() && !LEFT_OUT.contains(&&*name) {
                folders.push(path);
            } else if name.ends_with(".md") && name != CONTENTS {
                let path = path.strip_prefix(docs()).expect("below docs");
                pages.insert(path.to_string_lossy().into_owned());
            }
        }
    }
    pages
}

fn contents() -> Contents {
    let text = fs::read_to_string(docs().join(CONTENTS)).expect("the table of contents");
    Contents::parse(&text)
}

#[test]
fn every_page_is_in_the_table_of_contents_once() {
    let mut listed: BTreeMap<String, usize> = BTreeMap::new();
    for chapter in contents().chapters() {
        *listed.entry(chapter.file.clone()).or_default() += 1;
    }
    let pages = pages();
    assert!(pages.len() > 40, "only {} pages were found", pages.len());
    for page in &pages {
        let times = listed.get(page).copied().unwrap_or_default();
        assert_eq!(times, 1, "{page} is {times} times in docs/{CONTENTS}");
    }
    for file in listed.keys() {
        assert!(pages.contains(file), "{file} is in docs/{CONTENTS} only");
    }
}

#[test]
fn the_parts_are_those_of_the_readers_way() {
    let contents = contents();
    let titles: Vec<&str> = contents
        .parts
        .iter()
        .map(|part| part.title.as_str())
        .collect();
    assert_eq!(titles, ["Start", "Use", "Operate", "Reference", "Move"]);
}

/// A screen reader reads a cell's heading before the cell.
#[test]
fn every_column_of_a_table_has_a_heading() {
    let is_rule = |line: &str| {
        line.starts_with('|') && line.contains("---") && !line.contains(char::is_alphanumeric)
    };
    let is_headed = |line: &str| {
        let cells = line.trim().strip_prefix('|').unwrap_or(line);
        let cells = cells.strip_suffix('|').unwrap_or(cells);
        cells.split('|').all(|cell| !cell.trim().is_empty())
    };
    let mut tables = 0;
    for page in pages() {
        let text = fs::read_to_string(docs().join(&page)).expect("a page");
        let lines: Vec<&str> = text.lines().collect();
        for (head, rule) in lines.iter().zip(lines.iter().skip(1)) {
            if is_rule(rule) {
                tables += 1;
                assert!(is_headed(head), "docs/{page}: {head}");
            }
        }
    }
    assert!(tables > 100, "only {tables} tables were found");
}
