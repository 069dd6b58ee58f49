//! The table of contents, `docs/SUMMARY.md`: parts, each a heading and a list of links, as mdBook takes it.

use pulldown_cmark::{Event, Parser, Tag, TagEnd};

use crate::DOCS;

/// The parts of the book, in their order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The parts, in their order.
    pub parts: Vec<Part>,
}

/// A part, such as *Operate*.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Its heading.
    pub title: String,
    /// Its chapters, in their order; those below another come after it.
    pub chapters: Vec<Chapter>,
}

/// A page in the table of contents.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Chapter {
    /// What the navigation calls it.
    pub title: String,
    /// Its file, from `docs/`.
    pub file: String,
    /// 0, or 1 for a chapter below another.
    pub level: usize,
}

impl Chapter {
    /// Returns its file from the root of the repository.
    #[must_use]
    pub fn source(&self) -> String {
        format!("{DOCS}/{}", self.file)
    }
}

impl Contents {
    /// Reads a table of contents. Text that is no heading and no link in a list is for readers of the file.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut parts: Vec<Part> = Vec::new();
        let mut depth = 0_usize;
        let mut title = None;
        let mut file = String::new();
        for event in Parser::new(text) {
            match event {
                Event::Start(Tag::Heading { .. }) => title = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => parts.push(Part {
                    title: title.take().unwrap_or_default(),
                    chapters: Vec::new(),
                }),
                Event::Start(Tag::List(_)) => depth += 1,
                Event::End(TagEnd::List(_)) => depth -= 1,
                Event::Start(Tag::Link { dest_url, .. }) if depth > 0 => {
                    file = dest_url.into_string();
                    title = Some(String::new());
                }
                Event::End(TagEnd::Link) if depth > 0 => {
                    let chapter = Chapter {
                        title: title.take().unwrap_or_default(),
                        file: std::mem::take(&mut file),
                        level: depth - 1,
                    };
                    if let Some(part) = parts.last_mut() {
                        part.chapters.push(chapter);
                    }
                }
                Event::Text(text) | Event::Code(text) => {
                    if let Some(title) = &mut title {
                        title.push_str(&text);
                    }
                }
                _ => {}
            }
        }
        // The heading of the file itself has no chapters.
        parts.retain(|part| !part.chapters.is_empty());
        Self { parts }
    }

    /// Returns all chapters in their order.
    pub fn chapters(&self) -> impl Iterator<Item = &Chapter> {
        self.parts.iter().flat_map(|part| &part.chapters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_the_chapters_of_their_lists() {
        let text = "# Book\n\nText with a [link](x.md).\n\n# Use\n\n- [A `b`](a.md)\n  - [C](c/d.md)\n\n# Operate\n\n- [E](e.md)\n";
        let chapter = |title: &str, file: &str, level| Chapter {
            title: title.into(),
            file: file.into(),
            level,
        };
        let part = |title: &str, chapters| Part {
            title: title.into(),
            chapters,
        };
        let expected = vec![
            part(
                "Use",
                vec![chapter("A b", "a.md", 0), chapter("C", "c/d.md", 1)],
            ),
            part("Operate", vec![chapter("E", "e.md", 0)]),
        ];
        assert_eq!(Contents::parse(text).parts, expected);
    }
}
