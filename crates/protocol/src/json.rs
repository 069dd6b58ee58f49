//! JSON text that is passed through: written once, never parsed and written again.

use std::borrow::Cow;

use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::excerpt::excerpt;

/// Appends `text` to `out` as a JSON string literal, quotes included.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    write_literal(out, text.as_bytes());
}

/// Bytes that are looked at together: most blocks of a text have nothing to escape, and most of JSON within JSON have something.
const BLOCK: usize = 32;
/// Most bytes that one byte becomes.
const LONGEST_ESCAPE: usize = 6;

/// For each byte, what stands behind the backslash in a JSON string, or 0 if the byte stands for itself.
const ESCAPES: [u8; 256] = {
    let mut escapes = [0; 256];
    let mut control = 0;
    while control < 0x20 {
        escapes[control] = b'u';
        control += 1;
    }
    escapes[0x08] = b'b';
    escapes[0x09] = b't';
    escapes[0x0a] = b'n';
    escapes[0x0c] = b'f';
    escapes[0x0d] = b'r';
    escapes[b'"' as usize] = b'"';
    escapes[b'\\' as usize] = b'\\';
    escapes
};

/// Appends UTF-8 text to `out` as a JSON string literal. `serde_json` writes the same in more instructions, and wants to know that
/// the text is UTF-8, which JSON that was written here is.
pub(crate) fn write_literal(out: &mut Vec<u8>, text: &[u8]) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    for block in text.chunks(BLOCK) {
        // Without a branch, so that the compiler looks at many bytes at a time.
        let is_dirty = |dirty, &byte: &u8| dirty | (byte < 0x20) | (byte == b'"') | (byte == b'\\');
        if block.iter().fold(false, is_dirty) {
            write_escaped(out, block);
        } else {
            out.extend_from_slice(block);
        }
    }
    out.push(b'"');
}

/// Appends a block as it is written within a JSON string.
fn write_escaped(out: &mut Vec<u8>, block: &[u8]) {
    // Filled first and copied at once, because the vector would check its capacity for each byte.
    let mut escaped = [0; LONGEST_ESCAPE * BLOCK];
    let mut length = 0;
    for &byte in block {
        match ESCAPES[usize::from(byte)] {
            0 => {
                escaped[length] = byte;
                length += 1;
            }
            b'u' => {
                let code = format!("\\u{byte:04x}");
                escaped[length..length + LONGEST_ESCAPE].copy_from_slice(code.as_bytes());
                length += LONGEST_ESCAPE;
            }
            escape => {
                escaped[length..length + 2].copy_from_slice(&[b'\\', escape]);
                length += 2;
            }
        }
    }
    out.extend_from_slice(&escaped[..length]);
}

/// Returns `data` as the string in which it travels: the content of a JSON string, or the compact
/// JSON text of any other value.
///
/// # Errors
///
/// Returns an error if the string has an escape that isn't text, for example a lone surrogate.
pub fn as_text(raw: &RawValue) -> Result<Cow<'_, str>, serde_json::Error> {
    let text = raw.get();
    if text.starts_with('"') {
        string(text)
    } else {
        Ok(Cow::Owned(compact(text)))
    }
}

/// Returns the content of a JSON string literal, borrowed if it has no escapes.
///
/// # Errors
///
/// Returns an error if the text isn't a JSON string.
pub fn string(literal: &str) -> Result<Cow<'_, str>, serde_json::Error> {
    serde_json::from_str::<Text<'_>>(literal).map(|text| text.0)
}

/// The content of a JSON string, borrowed if it has no escapes.
#[derive(serde::Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

impl AsRef<str> for Text<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Returns valid JSON text without the white space between its tokens. Numbers keep their digits,
/// objects their order.
#[must_use]
pub fn compact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_string = false;
    let mut escaped = false;
    for c in text.chars() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = c == '\\' && !escaped;
        } else if c.is_ascii_whitespace() {
            continue;
        } else {
            in_string = c == '"';
        }
        out.push(c);
    }
    out
}

/// Reads a JSON object. An array of the fields' values, which serde would accept, is refused.
///
/// # Errors
///
/// Returns an error if the text isn't a JSON object of this shape; [`reason`] puts it in words.
pub fn object<'a, T: serde::Deserialize<'a>>(text: &'a str) -> Result<T, serde_json::Error> {
    if text.trim_ascii_start().starts_with('{') {
        return serde_json::from_str(text);
    }
    // serde would name the type that it wanted, which tells a client nothing.
    let raw: &RawValue = serde_json::from_str(text)?;
    Err(serde::de::Error::custom(format!("it is {}", kind(raw))))
}

/// Returns what is wrong with a text that was read as JSON, in words for its sender.
#[must_use]
pub fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = excerpt(&text);
    let (line, column) = (error.line(), error.column());
    match error.classify() {
        Category::Syntax => {
            // serde's word for a text that begins like `true`, `false` or `null`.
            let words = text.split(" at line ").next().unwrap_or_default();
            let words = match words {
                "expected ident" => "a word that is not true, false or null",
                other => other,
            };
            format!("it is not JSON (line {line}, column {column}: {words})")
        }
        Category::Eof if (line, column) == (1, 0) => "it is empty".into(),
        Category::Eof => format!("it is JSON that ends too early ({text})"),
        Category::Data | Category::Io => text.into_owned(),
    }
}

/// Returns the name of a JSON value's type for an error message.
#[must_use]
pub fn kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn strings_are_written_as_serde_json_writes_them(text in prop_oneof!["\\PC{0,40}", "[\0-\x7f]{0,40}", "(?s).{0,40}"]) {
            let mut out = Vec::new();
            write_string(&mut out, &text);
            prop_assert_eq!(out, serde_json::to_vec(&text).unwrap());
        }
    }

    #[test]
    fn compact_keeps_strings_numbers_and_order() {
        let text = " { \"b\" : [ 1.50 , 9007199254740993 ] ,\n\t\"a \\\" b\" : \"x \\\\\" } ";
        assert_eq!(
            compact(text),
            r#"{"b":[1.50,9007199254740993],"a \" b":"x \\"}"#
        );
    }

    #[test]
    fn data_that_is_a_string_gives_its_content_and_any_other_value_its_text() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        assert_eq!(as_text(&raw(r#""a\u00e9\"""#)).unwrap(), "aé\"");
        assert_eq!(as_text(&raw("{\"a\": 1}")).unwrap(), "{\"a\":1}");
        assert_eq!(as_text(&raw("null")).unwrap(), "null");
    }

    #[test]
    fn an_array_of_the_fields_is_no_object() {
        #[derive(Debug, serde::Deserialize)]
        struct Pair {
            a: u8,
        }
        assert_eq!(object::<Pair>(" {\"a\": 1}").unwrap().a, 1);
        for text in ["[1]", " [1]", "7", "\"x\"", "null", "{", ""] {
            assert!(object::<Pair>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_words_of_json_and_not_of_serde() {
        #[derive(Debug, serde::Deserialize)]
        struct Named {
            #[expect(dead_code, reason = "it is never read")]
            name: String,
        }
        for (text, words) in [
            (
                "nope",
                "it is not JSON (line 1, column 2: a word that is not true, false or null)",
            ),
            (
                "{a:1}",
                "it is not JSON (line 1, column 2: key must be a string)",
            ),
            ("", "it is empty"),
            ("{\"name\":", "it is JSON that ends too early (EOF while"),
            ("\"x\"", "it is a string"),
            ("[1]", "it is an array"),
            ("7", "it is a number"),
            ("null", "it is null"),
            ("{}", "missing field `name`"),
            (
                "{\"name\":7}",
                "invalid type: integer `7`, expected a string",
            ),
        ] {
            let said = reason(&object::<Named>(text).unwrap_err());
            assert!(said.starts_with(words), "{text}: {said}");
            assert!(!said.contains("struct"), "{text}: {said}");
        }
        let long = format!("{{\"name\":{}}}", "7".repeat(10_000));
        assert!(reason(&object::<Named>(&long).unwrap_err()).len() < 500);
    }

    #[test]
    fn a_lone_surrogate_is_refused() {
        let raw = RawValue::from_string(r#""\ud800""#.to_owned()).unwrap();
        assert!(as_text(&raw).is_err());
    }
}
