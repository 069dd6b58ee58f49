//! Makes the book of `docs/`, compressed, for `assets::docs` to send.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::{env, fs};

use fanfare_book::{Book, File, WHOLE_TEXT, fingerprint};
use flate2::Compression;
use flate2::write::GzEncoder;

#[expect(
    clippy::disallowed_methods,
    reason = "Cargo tells a build script where to write in its environment"
)]
fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let out = env::var("OUT_DIR").expect("Cargo sets it");
    let out = Path::new(&out);
    println!("cargo::rerun-if-changed=build.rs");
    let book = Book::read(&root).unwrap_or_else(|error| panic!("docs/ is no book: {error}"));
    for source in book.sources() {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    let files = files(&book.files(), out);
    let tables = files + &markdown(&book) + &catalogue(&book);
    fs::write(out.join("book.rs"), tables).expect("the folder can be written");
}

/// Returns the table of files as Rust, and writes each file beside it.
fn files(files: &[File], out: &Path) -> String {
    let mut table = String::from("pub(super) static FILES: &[Embedded] = &[\n");
    for (number, file) in files.iter().enumerate() {
        let is_packed = !file.media_type.starts_with("image/") || file.path.ends_with(".svg");
        let content = if is_packed {
            packed(&file.content)
        } else {
            file.content.clone()
        };
        let name = format!("book-{number}");
        fs::write(out.join(&name), content).expect("the folder can be written");
        let _ = writeln!(
            table,
            "Embedded {{ path: {:?}, media_type: {:?}, fingerprint: {:?}, is_packed: {is_packed}, content: include_bytes!({name:?}) }},",
            file.path,
            file.media_type,
            fingerprint(&file.content),
        );
    }
    table + "];\n"
}

fn packed(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(content).and_then(|()| encoder.finish());
    written.expect("memory takes everything")
}

/// Returns where each page is in the whole text, as Rust.
fn markdown(book: &Book) -> String {
    let mut table = format!("pub(super) const WHOLE_TEXT: &str = {WHOLE_TEXT:?};\n");
    table += "pub(super) static MARKDOWN: &[(&str, std::ops::Range<usize>)] = &[\n";
    for (path, range) in book.markdown() {
        let _ = writeln!(table, "({path:?}, {}..{}),", range.start, range.end);
    }
    table + "];\n"
}

/// Returns the messages of the catalogue of errors as Rust.
fn catalogue(book: &Book) -> String {
    let mut table = String::from("pub(super) static CATALOGUE: &[(&[&str], &str)] = &[\n");
    for entry in book.catalogue() {
        let _ = writeln!(table, "(&{:?}, {:?}),", entry.pieces, entry.anchor);
    }
    table + "];\n"
}
