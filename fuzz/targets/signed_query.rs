//! Queries that claim to be signed. The first line of the input is a query of a stranger, who may have seen a request
//! that was signed for the parameters in the other lines, `KEY=VALUE` each; the last line is the body of that request.
#![no_main]

use std::collections::BTreeMap;

use fanfare_protocol::signature::{
    AuthError, Credential, MAX_PARAMETERS, MAX_QUERY, SignedQuery, SigningKey, TIMESTAMP_WINDOW,
    sign_request,
};
use libfuzzer_sys::fuzz_target;

const CREDENTIAL: Credential<'_> = Credential {
    key: "a key&",
    secret: "a secret",
};
const PATH: &str = "/apps/3/events";
const NOW: u64 = 1_353_088_179;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (raw, rest) = text.split_once('\n').unwrap_or((text, ""));
    let (lines, body) = rest.rsplit_once('\n').unwrap_or((rest, ""));
    let params: Vec<(&str, &str)> = lines
        .split('\n')
        .filter_map(|line| line.split_once('='))
        .filter(|(key, _)| is_an_endpoints(key))
        .take(MAX_PARAMETERS - 5)
        .collect();
    let key = SigningKey::new(CREDENTIAL.secret);
    if rest.len() > MAX_QUERY / 4 {
        // Percent-encoded, it may be longer than any query is.
        return;
    }

    unsigned_is_refused(raw, &key);
    let signed = sign_request("POST", PATH, &params, body.as_bytes(), CREDENTIAL, NOW);
    signed_is_taken_as_it_is_only(&signed, &params, body, &key);
    what_is_taken_means_what_was_signed(raw, &signed, &key);
    lists_come_in_each_form(&params);
});

/// What endpoints call their parameters. Those of the signature itself are set while signing.
fn is_an_endpoints(key: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_[]-.".contains(c);
    key.chars().all(plain) && !key.is_empty() && !key.starts_with("auth_") && key != "body_md5"
}

fn unsigned_is_refused(raw: &str, key: &SigningKey) {
    let mut query = match SignedQuery::parse(raw) {
        Ok(query) => query,
        Err(AuthError::TooManyParameters(count)) => return assert!(count > MAX_PARAMETERS),
        Err(AuthError::QueryTooLong(length)) => return assert!(length > MAX_QUERY),
        Err(error) => return assert_eq!(error, AuthError::Missing("auth_signature")),
    };
    assert!(query.verify("POST", PATH, key, NOW).is_err());
    assert_eq!(query.auth_key().ok(), query.get("auth_key"));
    let _ = query.verify_body(raw.as_bytes());
}

fn signed_is_taken_as_it_is_only(
    signed: &str,
    params: &[(&str, &str)],
    body: &str,
    key: &SigningKey,
) {
    let mut query = SignedQuery::parse(signed).expect("a signed query");
    assert_eq!(query.verify("POST", PATH, key, NOW), Ok(()), "{signed}");
    assert_eq!(query.auth_key(), Ok(CREDENTIAL.key));
    for (name, value) in params {
        let same = |(other, _): &&(&str, &str)| other == name;
        if params.iter().filter(same).count() == 1 {
            assert_eq!(query.get(name), Some(*value));
        }
    }
    let mut verify = |method: &str, path: &str, key: &SigningKey, now: u64| {
        query.verify(method, path, key, now).is_ok()
    };
    assert!(!verify("GET", PATH, key, NOW) && !verify("POST", "/apps/4/events", key, NOW));
    assert!(!verify("POST", PATH, key, NOW + TIMESTAMP_WINDOW));
    assert!(!verify("POST", PATH, &SigningKey::new("a secreT"), NOW));

    assert_eq!(query.verify_body(body.as_bytes()), Ok(()));
    assert!(query.verify_body(format!("{body} ").as_bytes()).is_err());

    // One change each time; which one depends on the input.
    let choice = signed.len() + params.len() + body.len();
    let at = signed.len() - 1 - choice % 64;
    let flipped = if signed.as_bytes()[at] == b'0' {
        "1"
    } else {
        "0"
    };
    let tampered = match choice % 12 {
        0 => format!("{signed}0"),
        1 => signed[..signed.len() - 2].to_owned(),
        2 => format!("{signed}&added=1"),
        3 => format!("added=1&{signed}"),
        4 => signed.replace(&format!("stamp={NOW}"), &format!("stamp={}", NOW + 1)),
        5 => signed.replace("auth_key=a", "auth_key=b"),
        _ => [&signed[..at], flipped, &signed[at + 1..]].concat(),
    };
    assert!(refused(&tampered, key), "{tampered}");
}

fn refused(raw: &str, key: &SigningKey) -> bool {
    SignedQuery::parse(raw)
        .and_then(|mut query| query.verify("POST", PATH, key, NOW))
        .is_err()
}

/// Signatures are compared in several forms, because SDKs differ. None may let another request pass.
fn what_is_taken_means_what_was_signed(raw: &str, signed: &str, key: &SigningKey) {
    let (_, signature) = signed.rsplit_once('=').expect("the signature");
    let auth = format!("auth_key=a%20key%26&auth_timestamp={NOW}&auth_version=1.0");
    for raw in [
        format!("{raw}&{auth}&auth_signature={signature}"),
        format!("{raw}&auth_signature={signature}"),
    ] {
        let Ok(mut query) = SignedQuery::parse(&raw) else {
            continue;
        };
        if query.verify("POST", PATH, key, NOW).is_ok() {
            assert_eq!(meaning(&raw), meaning(signed), "{raw}\n{signed}");
        }
    }
}

/// The values of each parameter in their order. What the signature's form cannot tell apart is one: `&` within a value, `+`
/// and a space, `a[]=1&a[]=2` and `a=1,2`.
fn meaning(raw: &str) -> BTreeMap<String, Vec<String>> {
    let decoded: Vec<u8> = decode(raw.as_bytes());
    let text = String::from_utf8_lossy(&decoded).replace('+', " ");
    let mut values = BTreeMap::<String, Vec<String>>::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = name.split('[').next().unwrap_or_default().to_lowercase();
        let list = values.entry(name).or_default();
        list.extend(value.split(',').map(str::to_owned));
    }
    values.remove("auth_signature");
    values
}

fn decode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if let (b'%', [high, low, after @ ..]) = (byte, tail)
            && let Ok(code) = std::str::from_utf8(&[*high, *low])
            && high.is_ascii_hexdigit()
            && let Ok(byte) = u8::from_str_radix(code, 16)
        {
            out.push(byte);
            rest = after;
        } else {
            out.push(*byte);
        }
    }
    out
}

fn lists_come_in_each_form(params: &[(&str, &str)]) {
    let values: Vec<String> = params.iter().map(|(_, value)| encode(value)).collect();
    if values.is_empty() {
        return;
    }
    let plain: Vec<&str> = params.iter().map(|(_, value)| *value).collect();
    let each = |form: &dyn Fn(usize, &str) -> String| {
        let pairs: Vec<String> = values
            .iter()
            .enumerate()
            .map(|(n, value)| form(n, value))
            .collect();
        let raw = format!("other[]=1&{}&info2=2&auth_signature=0", pairs.join("&"));
        SignedQuery::parse(&raw).expect("a query").list("info")
    };
    let joined = Some(plain.join(","));
    assert_eq!(each(&|_, value| format!("info[]={value}")), joined);
    assert_eq!(each(&|n, value| format!("info%5B{n}%5D={value}")), joined);
    let raw = format!("info={}&auth_signature=0", values.join(","));
    assert_eq!(
        SignedQuery::parse(&raw).expect("a query").list("info"),
        joined
    );
}

fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
