//! The table at the top of a crate names its modules, and the list of findings its scripts: all of them and no others.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const ROOTS: [&str; 7] = [
    "protocol/src/lib.rs",
    "engine/src/lib.rs",
    "cluster/src/lib.rs",
    "store/src/lib.rs",
    "server/src/main.rs",
    "testkit/src/lib.rs",
    "bench/src/main.rs",
];

#[test]
fn the_table_of_a_crate_names_its_modules() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for root in ROOTS {
        let source = fs::read_to_string(crates.join(root)).expect("the root of a crate");
        let (modules, named) = (modules(&source), named(&source));
        assert!(!modules.is_empty(), "{root}");
        assert_eq!(named, modules, "{root}");
    }
}

#[test]
fn the_list_of_findings_names_each_script() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../findings");
    let list = fs::read_to_string(folder.join("README.md")).expect("the list");
    let listed: BTreeSet<_> = list
        .split("](")
        .filter_map(|rest| rest.split(')').next())
        .filter(|link| !link.contains('/'))
        .map(str::to_owned)
        .collect();
    let files = fs::read_dir(folder).expect("the findings");
    let names = files.map(|file| file.expect("a finding").file_name());
    let scripts: BTreeSet<_> = names
        .map(|name| name.into_string().expect("a name"))
        .filter(|name| name != "README.md")
        .collect();
    assert_eq!(listed, scripts);
}

/// Returns the modules that a file declares.
fn modules(source: &str) -> BTreeSet<&str> {
    let declared = source.lines().filter_map(|line| {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        line.strip_prefix("mod ")?.strip_suffix(';')
    });
    declared.collect()
}

/// Returns the names in the first column of the table in a file's documentation.
fn named(source: &str) -> BTreeSet<&str> {
    let rows = source.lines().filter_map(|line| line.strip_prefix("//! |"));
    let cells = rows.filter_map(|row| row.split('|').next());
    cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect()
}
