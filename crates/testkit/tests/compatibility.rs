//! `docs/compatibility.md` says which test proves which assertion of the contract. It must not say it in vain.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const ASSERTIONS: usize = 105;

#[test]
fn every_assertion_has_a_line_and_every_test_named_there_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let document =
        fs::read_to_string(root.join("docs/compatibility.md")).expect("docs/compatibility.md");
    let rows: Vec<&str> = document
        .lines()
        .filter(|line| line.starts_with("| C-"))
        .collect();
    let numbers: BTreeSet<String> = rows.iter().map(|row| row[2..7].to_owned()).collect();
    assert_eq!(
        numbers,
        (1..=ASSERTIONS)
            .map(|number| format!("C-{number:03}"))
            .collect()
    );
    assert_eq!(rows.len(), ASSERTIONS, "one line each");
    let tests = test_sources(&root.join("crates"));
    let others = document.lines().filter(|line| line.starts_with("| A-"));
    for row in rows.into_iter().chain(others) {
        let proof = row.rsplit('|').nth(1).expect("a third column");
        let named: Vec<&str> = proof.split('`').skip(1).step_by(2).collect();
        for name in named
            .iter()
            .filter(|name| name.contains(['_', ' ']) && **name != "terminate_connections")
        {
            assert!(
                tests.contains(*name),
                "{}: there is no test {name:?}",
                &row[2..7]
            );
        }
        assert!(!named.is_empty() || proof.contains("Later"), "{row}");
    }
}

/// The text of everything that may hold tests.
fn test_sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("node_modules") {
            text += &test_sources(&path);
        } else if path
            .extension()
            .is_some_and(|extension| ["rs", "mjs", "py"].iter().any(|known| extension == *known))
        {
            text += &fs::read_to_string(&path).expect("a source file");
        }
    }
    text
}
