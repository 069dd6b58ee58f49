//! The claims of a token about its bearer.

use serde_json::{Map, Value};

/// The claims of a verified token.
#[derive(Debug, Clone, Default)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// Returns the claims in a token's payload.
    #[must_use]
    pub fn new(claims: Map<String, Value>) -> Self {
        Self(claims)
    }

    /// Returns the claim of this name. Without one, `a.b` is `b` within `a`. A `null` counts as no
    /// claim.
    ///
    /// The whole name comes first because providers use names with dots, such as `https://example.com/team`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        let found = self.0.get(name).or_else(|| {
            let (first, rest) = name.split_once('.')?;
            rest.split('.')
                .try_fold(self.0.get(first)?, |value, part| value.get(part))
        });
        found.filter(|value| !value.is_null())
    }

    /// Returns a claim that is text or a whole number, as text. Other numbers have more than one
    /// spelling, so they can't name a user.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        match self.get(name)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) if !number.is_f64() => Some(number.to_string()),
            _ => None,
        }
    }

    /// Returns the texts of a claim that is a list, and skips other values in it.
    pub fn list(&self, name: &str) -> impl Iterator<Item = &str> {
        let list = self.get(name).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str)
    }

    /// Returns whether a claim is this value, or a list that has it.
    #[must_use]
    pub fn has(&self, name: &str, value: &Value) -> bool {
        match self.get(name) {
            Some(Value::Array(list)) => list.contains(value),
            found => found == Some(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: &Value) -> Claims {
        Claims::new(value.as_object().unwrap().clone())
    }

    #[test]
    fn a_name_is_a_claim_as_a_whole_or_a_path() {
        let claims = claims(&json!({
            "sub": "1", "a": {"b": {"c": "deep"}}, "a.x": "whole", "https://example.com/team": "red", "none": null,
        }));
        for (name, text) in [
            ("sub", Some("1")),
            ("a.b.c", Some("deep")),
            ("a.x", Some("whole")),
            ("https://example.com/team", Some("red")),
            ("a.b", None),
            ("a.b.c.d", None),
            ("none", None),
            ("nothing", None),
            ("", None),
        ] {
            assert_eq!(claims.text(name).as_deref(), text, "{name}");
        }
    }

    #[test]
    fn only_texts_and_whole_numbers_are_text() {
        let value = |value: Value| claims(&json!({"v": value})).text("v");
        assert_eq!(value(json!(42)).as_deref(), Some("42"));
        assert_eq!(value(json!(u64::MAX)).unwrap(), u64::MAX.to_string());
        let large: Value = serde_json::from_str("123456789012345678901234567890").unwrap();
        for other in [
            large,
            json!(1.5),
            json!(true),
            json!([]),
            json!({}),
            json!(""),
        ] {
            assert_eq!(value(other.clone()), None, "{other}");
        }
    }

    #[test]
    fn a_value_is_had_as_it_is_or_in_a_list() {
        let claims = claims(&json!({"role": "admin", "roles": ["user", 7], "paid": true}));
        for (name, value, has) in [
            ("role", json!("admin"), true),
            ("role", json!("adm"), false),
            ("roles", json!("user"), true),
            ("roles", json!(7), true),
            ("roles", json!("7"), false),
            ("paid", json!(true), true),
            ("paid", json!("true"), false),
            ("none", json!(null), false),
        ] {
            assert_eq!(claims.has(name, &value), has, "{name} {value}");
        }
    }
}
