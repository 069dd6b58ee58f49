//! Known-answer vectors of the protocol, shared with every other implementation of its signatures.

use fanfare_protocol::signature::{SignedQuery, SigningKey};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors.json")).expect("vectors.json is JSON")
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().expect(field)
}

#[test]
fn signatures_reproduce_the_published_vectors() {
    let vectors = vectors();
    let key = SigningKey::new(text(&vectors, "secret"));
    for vector in vectors["signatures"].as_array().expect("signatures") {
        assert_eq!(key.sign(text(vector, "text")), text(vector, "hex"));
        assert!(key.verify(text(vector, "text"), text(vector, "hex")));
        assert!(!key.verify(text(vector, "text"), &text(vector, "hex").to_uppercase()));
    }
}

#[test]
fn signed_requests_of_the_vectors_verify() {
    let vectors = vectors();
    let key = SigningKey::new(text(&vectors, "secret"));
    let now = vectors["timestamp"].as_u64().expect("timestamp");
    for request in vectors["requests"].as_array().expect("requests") {
        let md5 = request["body_md5"]
            .as_str()
            .map_or_else(String::new, |md5| format!("&body_md5={md5}"));
        let raw = format!(
            "auth_key={}&auth_timestamp={now}&auth_version=1.0{md5}&{}&auth_signature={}",
            text(&vectors, "key"),
            text(request, "query"),
            text(request, "signature"),
        );
        let mut query = SignedQuery::parse(&raw).expect("a signed query");
        assert_eq!(
            query.verify(text(request, "method"), text(request, "path"), &key, now),
            Ok(()),
            "{raw}"
        );
        assert_eq!(
            query.verify_body(text(request, "body").as_bytes()),
            Ok(()),
            "{raw}"
        );
    }
}
