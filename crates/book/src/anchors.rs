//! The anchors of headings, as GitHub makes them.

use std::collections::{BTreeSet, HashMap};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// Gives each heading of a page an anchor of its own.
#[derive(Debug, Default)]
pub(crate) struct Anchors {
    seen: HashMap<String, usize>,
}

impl Anchors {
    /// Returns the anchor of the next heading, or of something else that should have one.
    pub(crate) fn next(&mut self, heading: &str) -> String {
        let slug = slug(heading);
        let count = self.seen.entry(slug.clone()).or_default();
        *count += 1;
        match *count {
            1 => slug,
            count => format!("{slug}-{}", count - 1),
        }
    }
}

/// Returns the anchors of a Markdown file: one for each heading, and those of `<a id="…">`.
#[must_use]
pub fn anchors(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut anchors = Anchors::default();
    let mut heading = None;
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => {
                found.insert(anchors.next(&heading.take().unwrap_or_default()));
            }
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&text);
                }
            }
            Event::Html(html) | Event::InlineHtml(html) => {
                let id = html
                    .split_once("<a id=\"")
                    .and_then(|(_, rest)| rest.split_once('"'));
                found.extend(id.map(|(id, _)| id.to_owned()));
            }
            _ => {}
        }
    }
    found
}

/// Letters, digits, `-` and `_` stay, spaces become `-`, everything else goes.
#[must_use]
pub fn slug(heading: &str) -> String {
    let characters = heading.trim().to_lowercase();
    let characters = characters.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
        _ => None,
    });
    characters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_those_of_github() {
        let text = "# One, two: `three_four` & [five](x)\n\n## Same\n\n```sh\n# not a heading\n```\n\n## Same\n\n1. <a id=\"rule-1\"></a>x\n";
        let expected = ["one-two-three_four--five", "same", "same-1", "rule-1"];
        assert_eq!(anchors(text), expected.map(str::to_owned).into());
    }
}
