//! Markdown as HTML, with anchors on headings and rows, and the sections that the search knows.

use std::borrow::Cow;
use std::collections::BTreeSet;

use pulldown_cmark::{
    CodeBlockKind, CowStr, Event, HeadingLevel, OffsetIter, Options, Parser, Tag, TagEnd, html,
};

use crate::anchors::{Anchors, anchors, slug};
use crate::links::Links;

/// Alignment of a cell as it is written, and as the content security policy allows it.
const ALIGNMENTS: [(&str, &str); 3] = [
    (" style=\"text-align: left\"", ""),
    (" style=\"text-align: center\"", " class=\"center\""),
    (" style=\"text-align: right\"", " class=\"right\""),
];
/// Bytes of a row's anchor, at most.
const MAX_ROW_ANCHOR: usize = 60;

/// A page of the book.
#[derive(Debug)]
pub(crate) struct Document {
    path: String,
    source: String,
    title: String,
    sections: Vec<Section>,
}

/// A part of a page that the search finds: what is below a heading, or a row of a table.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Section {
    /// 1 to 6; 0 for a row.
    pub(crate) level: u8,
    /// Its anchor.
    pub(crate) anchor: String,
    /// Its heading, or the first cell of the row.
    pub(crate) heading: String,
    /// The number of its line in the page, from 0.
    pub(crate) line: usize,
    /// Of a row: what is written as code in all cells but the last, which explains it.
    pub(crate) codes: Vec<String>,
}

impl Document {
    pub(crate) fn new(path: &str, source: &str) -> Self {
        let (_, sections) = anchored(source);
        let title = sections.iter().find(|section| section.level == 1);
        Self {
            path: path.to_owned(),
            source: source.to_owned(),
            title: title
                .map(|section| section.heading.clone())
                .unwrap_or_default(),
            sections,
        }
    }

    /// Returns its path from the root of the repository.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Returns it as Markdown.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// Returns its first heading.
    pub(crate) fn title(&self) -> &str {
        &self.title
    }

    /// Returns what the search finds of it, in the order of the page.
    pub(crate) fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Returns its first paragraph.
    pub(crate) fn summary(&self) -> String {
        let mut summary = String::new();
        let mut inside = false;
        for event in Parser::new_ext(&self.source, options()) {
            match event {
                Event::Start(Tag::Paragraph) => inside = true,
                Event::End(TagEnd::Paragraph) => break,
                event if inside => push_text(&mut summary, &event),
                _ => {}
            }
        }
        summary
    }

    /// Returns the targets of its links and images, as they are written.
    pub(crate) fn references(&self) -> Vec<String> {
        let events = Parser::new_ext(&self.source, options());
        let urls = events.filter_map(|event| match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                Some(dest_url)
            }
            _ => None,
        });
        urls.filter(|url| !url.contains(':'))
            .map(CowStr::into_string)
            .collect()
    }

    /// Returns it as Markdown whose links to files outside `docs/` lead to where the book shows these.
    pub(crate) fn markdown(&self, links: &Links) -> String {
        let others = self
            .references()
            .into_iter()
            .filter(|it| it.starts_with("../"));
        others.fold(self.source.clone(), |text, reference| {
            match links.shown(&self.path, &reference) {
                Some(url) => text.replace(&format!("]({reference})"), &format!("]({url})")),
                None => text,
            }
        })
    }

    /// Returns its content as HTML.
    pub(crate) fn html(&self, links: &Links) -> String {
        let (events, _) = anchored(&self.source);
        let mut left_out = false;
        let events = events.into_iter().map(|event| match event {
            Event::Start(Tag::Link {
                link_type,
                dest_url,
                title,
                id,
            }) => match links.url(&self.path, &dest_url) {
                Some(url) => Event::Start(Tag::Link {
                    link_type,
                    dest_url: url.into(),
                    title,
                    id,
                }),
                // In the source, but not in the book.
                None => {
                    left_out = true;
                    let path = escaped(&dest_url);
                    Event::InlineHtml(format!("<span title=\"in the source: {path}\">").into())
                }
            },
            Event::End(TagEnd::Link) if left_out => {
                left_out = false;
                Event::InlineHtml("</span>".into())
            }
            Event::Start(Tag::Image {
                link_type,
                dest_url,
                title,
                id,
            }) => Event::Start(Tag::Image {
                link_type,
                dest_url: links
                    .url(&self.path, &dest_url)
                    .map_or(dest_url, CowStr::from),
                title,
                id,
            }),
            event => event,
        });
        let mut page = String::new();
        html::push_html(&mut page, events);
        for (written, allowed) in ALIGNMENTS {
            page = page.replace(written, allowed);
        }
        let parts = page
            .replace("<img ", "<img loading=\"lazy\" ")
            .replace("</table>", "</table></div>")
            // A cell without words is the heading of nothing.
            .replace("<th></th>", "<td></td>");
        let mut parts = parts.split("<table>");
        let before = parts.next().unwrap_or_default().to_owned();
        parts.fold(before, |page, table| {
            page + "<div class=\"table\"><table>" + &rows_named(table)
        })
    }
}

fn options() -> Options {
    Options::ENABLE_TABLES | Options::ENABLE_GFM | Options::ENABLE_STRIKETHROUGH
}

/// Returns `text` with what HTML would take for markup replaced.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"']) {
        return text.into();
    }
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;").into()
}

/// Adds what a reader sees of an event.
fn push_text(text: &mut String, event: &Event<'_>) {
    match event {
        Event::Text(part) | Event::Code(part) => text.push_str(part),
        Event::SoftBreak | Event::HardBreak => text.push(' '),
        _ => {}
    }
}

/// Returns the events of a page with anchors on headings and rows, and the sections that they begin.
fn anchored(source: &str) -> (Vec<Event<'_>>, Vec<Section>) {
    let mut headings = Anchors::default();
    let mut rows = RowAnchors(anchors(source));
    let mut sections: Vec<Section> = Vec::new();
    let mut done: Vec<Event<'_>> = Vec::new();
    let line_of = |at: usize| source[..at].matches('\n').count();
    let mut events = Parser::new_ext(source, options()).into_offset_iter();
    while let Some((event, range)) = events.next() {
        match event {
            Event::Start(Tag::Heading { level, .. }) => {
                let inner = until(&mut events, TagEnd::Heading(level));
                let section = Section {
                    level: level as u8,
                    heading: text_of(&inner),
                    anchor: headings.next(&text_of(&inner)),
                    line: line_of(range.start),
                    ..Section::default()
                };
                done.extend(heading(level, &section.anchor, inner));
                sections.push(section);
            }
            Event::Start(Tag::TableRow) => {
                let inner = until(&mut events, TagEnd::TableRow);
                let section = Section {
                    line: line_of(range.start),
                    ..row(&inner, &mut rows)
                };
                let anchor = &section.anchor;
                // For the mouse alone: nobody wants to hear it, or to pass it, in hundreds of rows.
                let link = format!(
                    "<a class=\"anchor\" id=\"{anchor}\" href=\"#{anchor}\" tabindex=\"-1\" aria-hidden=\"true\">#</a>"
                );
                done.push(event);
                let mut inner = inner.into_iter();
                done.extend(inner.next());
                done.push(Event::InlineHtml(link.into()));
                done.extend(inner);
                done.push(Event::End(TagEnd::TableRow));
                sections.push(section);
            }
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                // Words after the language are for the tests.
                let language = info.split(' ').next().unwrap_or_default().to_owned();
                let kind = CodeBlockKind::Fenced(language.into());
                done.push(Event::Start(Tag::CodeBlock(kind)));
            }
            event => done.push(event),
        }
    }
    (done, sections)
}

/// The anchors of a page's headings, and of the rows so far. A heading keeps its own, whatever rows come before it.
struct RowAnchors(BTreeSet<String>);

impl RowAnchors {
    /// Returns `wanted`, if it is free.
    fn take(&mut self, wanted: &str) -> Option<String> {
        let is_kept = |c: &char| c.is_alphanumeric() || "-_.".contains(*c);
        let wanted: String = wanted.to_lowercase().chars().filter(is_kept).collect();
        let is_free = !wanted.is_empty() && self.0.insert(wanted.clone());
        is_free.then_some(wanted)
    }

    /// Returns the slug of a text, with a number if others have it.
    fn next(&mut self, text: &str) -> String {
        let slug = slug(text);
        let numbered = (1..).map(|number| format!("{slug}-{number}"));
        let mut names = std::iter::once(slug.clone()).chain(numbered);
        names
            .find(|name| self.0.insert(name.clone()))
            .expect("numbers don't end")
    }
}

/// Takes the events before the end of what has begun.
fn until<'a>(events: &mut OffsetIter<'a>, end: TagEnd) -> Vec<Event<'a>> {
    let events = events.map(|(event, _)| event);
    events
        .take_while(|event| !matches!(event, Event::End(tag) if *tag == end))
        .collect()
}

fn text_of(events: &[Event<'_>]) -> String {
    let mut text = String::new();
    events.iter().for_each(|event| push_text(&mut text, event));
    text
}

/// Returns a heading with its anchor. It is a link to itself, whose name is then that of the heading.
fn heading<'a>(level: HeadingLevel, anchor: &str, inner: Vec<Event<'a>>) -> Vec<Event<'a>> {
    let (before, after) = match level {
        HeadingLevel::H1 => (String::new(), ""),
        _ => (format!("<a class=\"anchor\" href=\"#{anchor}\">"), "</a>"),
    };
    let open = format!("<{level} id=\"{anchor}\">{before}");
    let close = format!("{after}</{level}>\n");
    let mut events = vec![Event::Html(open.into())];
    events.extend(inner);
    events.push(Event::Html(close.into()));
    events
}

/// Makes headings of the first cells of a table whose first column has none: they name the rows, and the corner names nothing.
fn rows_named(table: &str) -> String {
    let Some(rest) = table.strip_prefix("<thead><tr><td></td>") else {
        return table.to_owned();
    };
    let rows = rest
        .split("<tr><td>")
        .enumerate()
        .map(|(at, row)| match at {
            0 => format!("<thead><tr><td></td>{row}"),
            _ => format!(
                "<tr><th scope=\"row\">{}",
                row.replacen("</td>", "</th>", 1)
            ),
        });
    rows.collect()
}

/// Returns the section of a row. Its anchor is the first cell, if that is one name or number that no row before has, or else
/// the first words of the first code in it.
fn row(events: &[Event<'_>], anchors: &mut RowAnchors) -> Section {
    let is_end = |event: &Event<'_>| matches!(event, Event::End(TagEnd::TableCell));
    let mut cells: Vec<&[Event<'_>]> = events.split(is_end).collect();
    // What follows the end of the last cell.
    cells.pop();
    let explained = &cells[..cells.len().saturating_sub(1)];
    let codes: Vec<String> = explained.concat().iter().filter_map(code).collect();
    let heading = cells.first().map(|cell| text_of(cell)).unwrap_or_default();
    let name = (!heading.contains(' ')).then(|| anchors.take(&heading));
    let first = codes.first().unwrap_or(&heading);
    let anchor = name
        .flatten()
        .unwrap_or_else(|| anchors.next(&shortened(first)));
    Section {
        anchor,
        heading,
        codes,
        ..Section::default()
    }
}

fn code(event: &Event<'_>) -> Option<String> {
    match event {
        Event::Code(code) => Some(code.to_string()),
        _ => None,
    }
}

/// Returns the words at the beginning of a text that fit into a row's anchor.
fn shortened(text: &str) -> String {
    let mut short = String::new();
    for word in text.split_whitespace() {
        if short.len() + word.len() >= MAX_ROW_ANCHOR {
            break;
        }
        if !short.is_empty() {
            short.push(' ');
        }
        short.push_str(word);
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DOCS;

    fn anchors_of(source: &str) -> Vec<(u8, String)> {
        let (_, sections) = anchored(source);
        let anchors = sections.into_iter();
        anchors
            .map(|section| (section.level, section.anchor))
            .collect()
    }

    #[test]
    fn a_row_has_the_anchor_of_its_name_or_of_its_first_code() {
        let source = "# Errors\n\n| code | message | meaning |\n|---|---|---|\n| 4009 | `Not authorized` | - |\n| 4009 | `The app … has …` | - |\n| `a.b_c` | x | - |\n| two words | y | - |\n\n## 4009\n";
        let expected = [
            (1, "errors"),
            (0, "not-authorized"),
            (0, "the-app--has-"),
            (0, "a.b_c"),
            (0, "two-words"),
            (2, "4009"),
        ];
        let expected = expected.map(|(level, anchor)| (level, anchor.to_owned()));
        assert_eq!(anchors_of(source), expected);
        let first = anchors_of(&source.replace("\n## 4009\n", ""));
        assert_eq!(first[1], (0, "4009".to_owned()));
    }

    #[test]
    fn sections_know_their_lines() {
        let source = "# One\n\nBefore.\n\n| a | x |\n|---|---|\n| b | c |\n\n## Two\n";
        let (_, sections) = anchored(source);
        let lines: Vec<usize> = sections.iter().map(|section| section.line).collect();
        assert_eq!(lines, [0, 6, 8]);
    }

    #[test]
    fn the_first_cells_of_a_column_without_a_heading_name_their_rows() {
        let source = "# One\n\n| | a |\n|---|--:|\n| b | c |\n\n| d | e |\n|---|---|\n| f | g |\n";
        let page = Document::new(&format!("{DOCS}/one.md"), source)
            .html(&Links::new([].iter(), [].iter()));
        assert!(
            page.contains("<thead><tr><td></td><th class=\"right\">a</th></tr></thead>"),
            "{page}"
        );
        assert!(page.contains("b</th><td class=\"right\">c</td>"), "{page}");
        assert!(page.contains("f</td><td>g</td>"), "{page}");
    }

    #[test]
    fn html_has_no_inline_style_and_no_words_for_the_tests() {
        let source = "# One\n\n| a |\n|--:|\n| b |\n\n```sh not-run\nls <dir>\n```\n\nSee [the code](../crates/x.rs).\n";
        let document = Document::new(&format!("{DOCS}/one.md"), source);
        let page = document.html(&Links::new([].iter(), [].iter()));
        assert!(!page.contains("style="), "{page}");
        assert!(
            page.contains("<code class=\"language-sh\">ls &lt;dir&gt;"),
            "{page}"
        );
        assert!(
            page.contains("<span title=\"in the source: ../crates/x.rs\">the code</span>"),
            "{page}"
        );
    }
}
