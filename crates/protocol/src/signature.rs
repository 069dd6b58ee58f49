//! Channel auth (docs/protocol.md#channel-signatures) and HTTP request signatures (docs/http-api.md#signed-requests):
//! HMAC-SHA256 in lowercase hex.

use std::borrow::Cow;
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use memchr::{memchr, memchr2};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use sha2::Sha256;

use crate::excerpt::excerpt;
use crate::ids::SocketId;

/// How far a request's clock may be off, in seconds; at exactly this difference the request is
/// refused.
pub const TIMESTAMP_WINDOW: u64 = 600;

/// Most parameters of a signed query, which is parsed before its signature can be checked.
pub const MAX_PARAMETERS: usize = 100;
/// Most bytes of a signed query on the wire. The longest that an SDK sends has a channel name or a
/// user id in it.
pub const MAX_QUERY: usize = 8 * 1024;
/// Parameters of an ordinary publish, with some to spare.
const USUAL_PARAMETERS: usize = 8;
/// Bytes of the text that an ordinary publish signs, with some to spare.
const USUAL_TEXT: usize = 256;
/// Most characters of the signed text that are repeated to a caller whose signature is wrong.
const MAX_QUOTED_TEXT: usize = 1000;

/// The characters of a query value that must be encoded: they would end a value or be read as
/// something else.
const QUERY: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'+')
    .add(b'<')
    .add(b'>');

/// An app's secret, ready to sign: the work that depends on the key alone is done once.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

impl SigningKey {
    /// Returns the signing key of a secret.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self(Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length"))
    }

    /// Returns the signature of a text.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        hex::encode(self.mac(text).finalize().into_bytes())
    }

    /// Returns whether a signature is right, in constant time. Uppercase hex is wrong.
    #[must_use]
    pub fn verify(&self, text: &str, signature: &str) -> bool {
        let mut expected = [0; 32];
        let lowercase = !signature.bytes().any(|b| b.is_ascii_uppercase());
        lowercase
            && hex::decode_to_slice(signature, &mut expected).is_ok()
            && self.mac(text).verify_slice(&expected).is_ok()
    }

    fn mac(&self, text: &str) -> Hmac<Sha256> {
        self.0.clone().chain_update(text)
    }
}

/// Returns the text that a backend signs to let a connection subscribe to a channel. `channel_data`
/// counts on every kind of channel.
#[must_use]
pub fn channel_auth_text(socket_id: SocketId, channel: &str, channel_data: Option<&str>) -> String {
    match channel_data {
        Some(data) => format!("{socket_id}:{channel}:{data}"),
        None => format!("{socket_id}:{channel}"),
    }
}

/// Returns the text that a backend signs to sign a connection in as a user.
#[must_use]
pub fn user_auth_text(socket_id: SocketId, user_data: &str) -> String {
    format!("{socket_id}::user::{user_data}")
}

/// Returns the MD5 of a request body in lowercase hex, as the parameter `body_md5` has it.
#[must_use]
pub fn body_md5(body: &[u8]) -> String {
    hex::encode(Md5::digest(body))
}

/// Signs a request as a backend does, and returns the whole query, percent-encoded,
/// `auth_signature` last. `path` is signed as given, not encoded; `query` holds the endpoint's own
/// parameters; `now` is Unix time in seconds.
#[must_use]
pub fn sign_request(
    method: &str,
    path: &str,
    query: &[(&str, &str)],
    body: &[u8],
    credential: Credential<'_>,
    now: u64,
) -> String {
    let own = query.iter();
    let mut pairs: Vec<Pair<'_>> = own
        .map(|(key, value)| ((*key).into(), (*value).into()))
        .collect();
    pairs.push(("auth_key".into(), credential.key.into()));
    pairs.push(("auth_timestamp".into(), now.to_string().into()));
    pairs.push(("auth_version".into(), "1.0".into()));
    if !body.is_empty() {
        pairs.push(("body_md5".into(), body_md5(body).into()));
    }
    pairs.sort();
    let signature = SigningKey::new(credential.secret).sign(&text(method, path, &pairs));
    for (_, value) in &mut pairs {
        *value = utf8_percent_encode(value, QUERY).to_string().into();
    }
    pairs.push(("auth_signature".into(), signature.into()));
    let mut encoded = String::with_capacity(USUAL_TEXT);
    join(&mut encoded, &pairs);
    encoded
}

/// A key and its secret, as a backend holds them.
#[derive(Clone, Copy)]
pub struct Credential<'a> {
    /// The public half.
    pub key: &'a str,
    /// The secret.
    pub secret: &'a str,
}

/// Why a request is refused, as text for the caller (docs/http-api.md#http-errors: status 401).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// An auth parameter is missing.
    #[error("Missing parameter: {0}")]
    Missing(&'static str),
    /// Longer than any request is.
    #[error("The query is too long: {0} bytes, at most {MAX_QUERY} are allowed")]
    QueryTooLong(usize),
    /// More parameters than any request has.
    #[error("Too many parameters in the query: {0}, at most {MAX_PARAMETERS} are allowed")]
    TooManyParameters(usize),
    /// Not version 1.0.
    #[error("Version required: auth_version must be 1.0, it is {0:?}")]
    Version(String),
    /// Not a number of seconds.
    #[error("Timestamp required: auth_timestamp must be Unix time in seconds, it is {0:?}")]
    NotATimestamp(String),
    /// Too old, or from the future.
    #[error(
        "Timestamp expired: auth_timestamp is {sent}, the server's clock says {now}; they may differ by less than {TIMESTAMP_WINDOW} seconds"
    )]
    Expired {
        /// The request's Unix time in seconds.
        sent: u64,
        /// The server's Unix time in seconds.
        now: u64,
    },
    /// The body is not the one that was signed.
    #[error("Invalid body_md5: the body's MD5 is {expected}, the query says {sent}")]
    BodyMd5 {
        /// MD5 of the body received.
        expected: String,
        /// The value in the query.
        sent: String,
    },
    /// The signature fits none of the texts that an SDK may have signed.
    #[error(
        "Invalid signature: you should have sent HmacSHA256Hex({text:?}, your_secret_key), but you sent {sent:?}"
    )]
    Signature {
        /// The text to sign.
        text: String,
        /// The value in the query.
        sent: String,
    },
}

/// The percent-decoded query of a request that claims to be signed. What needs no decoding is borrowed.
#[derive(Debug)]
pub struct SignedQuery<'a> {
    raw: Cow<'a, str>,
    /// Pairs as on the wire, without `auth_signature`.
    pairs: Vec<Pair<'a>>,
    signature: Cow<'a, str>,
}

/// A parameter and its value.
type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

impl<'a> SignedQuery<'a> {
    /// Splits and decodes a raw query.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError`] if there is no `auth_signature`, or the query is longer than any
    /// request's.
    pub fn parse(raw: &'a str) -> Result<Self, AuthError> {
        if raw.len() > MAX_QUERY {
            return Err(AuthError::QueryTooLong(raw.len()));
        }
        let mut pairs = Vec::with_capacity(USUAL_PARAMETERS);
        pairs.extend(decode(raw, false).take(MAX_PARAMETERS + 1));
        if pairs.len() > MAX_PARAMETERS {
            return Err(AuthError::TooManyParameters(decode(raw, false).count()));
        }
        let at = pairs
            .iter()
            .position(|(key, _)| key == "auth_signature")
            .ok_or(AuthError::Missing("auth_signature"))?;
        let (_, signature) = pairs.remove(at);
        Ok(Self {
            raw: Cow::Borrowed(raw),
            pairs,
            signature,
        })
    }

    /// Returns the query without what it borrows.
    #[must_use]
    pub fn into_owned(self) -> SignedQuery<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        let pairs = self.pairs.into_iter();
        SignedQuery {
            raw: owned(self.raw),
            pairs: pairs
                .map(|(key, value)| (owned(key), owned(value)))
                .collect(),
            signature: owned(self.signature),
        }
    }

    /// Returns the value of a parameter.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, value)| &**value)
    }

    /// Returns the value of a parameter that may also be an array: `k=a,b`, `k[]=a&k[]=b`,
    /// `k[0]=a&k[1]=b`.
    #[must_use]
    pub fn list(&self, key: &str) -> Option<String> {
        collapse(&self.pairs)
            .into_iter()
            .find(|(k, _)| k.strip_suffix("[]").unwrap_or(k) == key)
            .map(|(_, value)| value.into_owned())
    }

    /// Returns the key that signed.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Missing`] if there is none.
    pub fn auth_key(&self) -> Result<&str, AuthError> {
        self.get("auth_key").ok_or(AuthError::Missing("auth_key"))
    }

    /// Checks version, clock and signature; `now` is Unix time in seconds, `path` is as on the wire.
    /// Afterwards parameters have the values that were signed: a `+` on the wire is a space if the
    /// SDK signed a space.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError`], which says what is wrong.
    pub fn verify(
        &mut self,
        method: &str,
        path: &str,
        key: &SigningKey,
        now: u64,
    ) -> Result<(), AuthError> {
        self.check_version_and_clock(now)?;
        let text = sorted_text(method, path, &self.pairs);
        if key.verify(&text, &self.signature) || self.verify_variants(method, path, key) {
            return Ok(());
        }
        Err(AuthError::Signature {
            text: cut(&text),
            sent: excerpt(&self.signature).into_owned(),
        })
    }

    /// Checks that the body is the one that was signed.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError`] if `body_md5` is missing, or belongs to another body.
    pub fn verify_body(&self, body: &[u8]) -> Result<(), AuthError> {
        let Some(sent) = self.get("body_md5") else {
            return if body.is_empty() {
                Ok(())
            } else {
                Err(AuthError::Missing("body_md5"))
            };
        };
        let mut expected = [0; 32];
        hex::encode_to_slice(Md5::digest(body), &mut expected).expect("an MD5 has 16 bytes");
        if sent.as_bytes() == expected {
            return Ok(());
        }
        Err(AuthError::BodyMd5 {
            expected: body_md5(body),
            sent: excerpt(sent).into_owned(),
        })
    }

    fn check_version_and_clock(&self, now: u64) -> Result<(), AuthError> {
        let version = self
            .get("auth_version")
            .ok_or(AuthError::Missing("auth_version"))?;
        if version != "1.0" {
            return Err(AuthError::Version(excerpt(version).into_owned()));
        }
        let timestamp = self
            .get("auth_timestamp")
            .ok_or(AuthError::Missing("auth_timestamp"))?;
        let sent: u64 = timestamp
            .parse()
            .map_err(|_| AuthError::NotATimestamp(excerpt(timestamp).into_owned()))?;
        if sent.abs_diff(now) >= TIMESTAMP_WINDOW {
            return Err(AuthError::Expired { sent, now });
        }
        Ok(())
    }

    /// Checks the texts that real SDKs sign besides the documented one
    /// (docs/http-api.md#signed-requests): a decoded path, `+` for a space, PHP's collapsed arrays,
    /// and Rust's parameters in wire order. Each is built only where it differs, and only until one
    /// fits, because the caller has proved nothing yet.
    fn verify_variants(&mut self, method: &str, path: &str, key: &SigningKey) -> bool {
        if !is_signature(&self.signature) {
            return false;
        }
        let decoded = path
            .contains('%')
            .then(|| percent_decode_str(path).decode_utf8_lossy());
        let fits = |text: &dyn Fn(&str) -> String| {
            let fits = |path: &str| key.verify(&text(path), &self.signature);
            fits(path) || decoded.as_deref().is_some_and(fits)
        };
        let any_fits = |pairs: &[Pair<'_>], is_new: bool| {
            let has_arrays = || pairs.iter().any(|(key, _)| key.contains('['));
            (is_new || decoded.is_some()) && fits(&|path| sorted_text(method, path, pairs))
                || has_arrays() && {
                    let pairs = collapse(pairs);
                    fits(&|path| sorted_text(method, path, &pairs))
                }
                || !is_sorted(pairs) && fits(&|path| text(method, path, pairs))
        };
        if any_fits(&self.pairs, false) {
            return true;
        }
        if !self.raw.contains('+') {
            return false;
        }
        let mut pairs: Vec<Pair<'static>> = decode(&self.raw, true)
            .map(|(key, value)| (key.into_owned().into(), value.into_owned().into()))
            .collect();
        pairs.retain(|(key, _)| key != "auth_signature");
        let fits = any_fits(&pairs, true);
        if fits {
            self.pairs = pairs;
        }
        fits
    }
}

/// Returns the text that is signed, with the parameters in the order of their keys. The values of a repeated key keep
/// their order.
fn sorted_text(method: &str, path: &str, pairs: &[Pair<'_>]) -> String {
    // Most backends send them in that order.
    if is_sorted(pairs) {
        return text(method, path, pairs);
    }
    let mut sorted: Vec<_> = pairs.iter().collect();
    sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
    text(method, path, sorted)
}

fn is_sorted(pairs: &[Pair<'_>]) -> bool {
    pairs.is_sorted_by(|(a, _), (b, _)| a <= b)
}

/// Returns the text that is signed.
fn text<'a, 'q: 'a>(
    method: &str,
    path: &str,
    pairs: impl IntoIterator<Item = &'a Pair<'q>>,
) -> String {
    let mut text = String::with_capacity(USUAL_TEXT);
    for line in [method, "\n", path, "\n"] {
        text.push_str(line);
    }
    join(&mut text, pairs);
    text
}

/// Returns whether the text has the form of a signature.
fn is_signature(text: &str) -> bool {
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.len() == 64 && text.bytes().all(is_hex)
}

/// Returns the beginning of the signed text, enough to compare it with what an SDK signs.
fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn decode(raw: &str, plus_is_space: bool) -> impl Iterator<Item = Pair<'_>> {
    // Most queries are written as they are, and decoding them costs as much as the rest of the check.
    let is_encoded = memchr2(b'%', b'+', raw.as_bytes()).is_some();
    let text = move |part| match is_encoded {
        true => decode_part(part, plus_is_space),
        false => Cow::Borrowed(part),
    };
    parameters(raw).map(move |(key, value)| (lowercase(text(key)), text(value)))
}

/// Splits a query. Most parts of one are short, so the search is what it costs.
fn parameters(raw: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = Some(raw);
    let pairs = std::iter::from_fn(move || {
        let whole = rest?;
        let end = memchr(b'&', whole.as_bytes());
        rest = end.map(|end| &whole[end + 1..]);
        Some(&whole[..end.unwrap_or(whole.len())])
    });
    pairs
        .filter(|pair| !pair.is_empty())
        .map(|pair| match memchr(b'=', pair.as_bytes()) {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, ""),
        })
}

fn decode_part(part: &str, plus_is_space: bool) -> Cow<'_, str> {
    if plus_is_space && part.contains('+') {
        let part = part.replace('+', " ");
        return Cow::Owned(percent_decode_str(&part).decode_utf8_lossy().into_owned());
    }
    percent_decode_str(part).decode_utf8_lossy()
}

fn lowercase(key: Cow<'_, str>) -> Cow<'_, str> {
    let is_lowercase = |byte: u8| byte.is_ascii() && !byte.is_ascii_uppercase();
    match key.bytes().all(is_lowercase) {
        true => key,
        false => Cow::Owned(key.to_lowercase()),
    }
}

fn join<'a, 'q: 'a>(out: &mut String, pairs: impl IntoIterator<Item = &'a Pair<'q>>) {
    for (number, (key, value)) in pairs.into_iter().enumerate() {
        if number > 0 {
            out.push('&');
        }
        out.push_str(key);
        out.push('=');
        out.push_str(value);
    }
}

/// Turns `info[0]=a&info[1]=b` and `info[]=a&info[]=b` into `info=a,b`.
fn collapse<'a>(pairs: &'a [Pair<'_>]) -> Vec<Pair<'a>> {
    let mut out: Vec<Pair<'a>> = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        let name = key.split_once('[').map_or(&**key, |(name, _)| name);
        match out.iter_mut().find(|(k, _)| k == name && name != key) {
            Some((_, values)) => {
                let values = values.to_mut();
                values.push(',');
                values.push_str(value);
            }
            None => out.push((Cow::Borrowed(name), Cow::Borrowed(value))),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "278d425bdf160c739803";
    const SECRET: &str = "7ad3773142a6692b25b8";
    const NOW: u64 = 1_353_088_179;

    fn key() -> SigningKey {
        SigningKey::new(SECRET)
    }

    /// A query whose signature is of `text`, whatever the query itself says.
    fn signed_as(query: &str, text: &str) -> String {
        format!(
            "{query}&auth_key={KEY}&auth_timestamp={NOW}&auth_version=1.0&auth_signature={}",
            key().sign(text)
        )
    }

    fn verify(method: &str, path: &str, raw: &str) -> Result<(), AuthError> {
        SignedQuery::parse(raw)?.verify(method, path, &key(), NOW)
    }

    #[test]
    fn parameters_percent_encoded_on_the_wire_and_signed_raw_verify() {
        let auth = format!("auth_key={KEY}&auth_timestamp={NOW}&auth_version=1.0");
        let text = format!("GET\n/apps/3/channels\n{auth}&info=user_count,subscription_count");
        for info in [
            "info=user_count%2Csubscription_count",
            "info=user_count,subscription_count",
        ] {
            assert_eq!(
                verify("GET", "/apps/3/channels", &signed_as(info, &text)),
                Ok(())
            );
        }
    }

    #[test]
    fn arrays_verify_as_php_and_as_ruby_sign_them() {
        let auth = format!("auth_key={KEY}&auth_timestamp={NOW}&auth_version=1.0");
        let php = format!("GET\n/apps/3/channels\n{auth}&info=a,b");
        assert_eq!(
            verify(
                "GET",
                "/apps/3/channels",
                &signed_as("info%5B0%5D=a&info%5B1%5D=b", &php)
            ),
            Ok(())
        );
        let ruby = format!("GET\n/apps/3/channels\n{auth}&info[]=a&info[]=b");
        assert_eq!(
            verify(
                "GET",
                "/apps/3/channels",
                &signed_as("info[]=a&info[]=b", &ruby)
            ),
            Ok(())
        );
        let raw = signed_as("info[0]=a&info[1]=b", &php);
        assert_eq!(
            SignedQuery::parse(&raw).unwrap().list("info").as_deref(),
            Some("a,b")
        );
    }

    #[test]
    fn a_path_verifies_as_sent_and_as_decoded() {
        let auth = format!("auth_key={KEY}&auth_timestamp={NOW}&auth_version=1.0");
        for signed in [
            "/apps/3/users/a b%C3%A9",
            "/apps/3/users/a%20b%C3%A9",
            "/apps/3/users/a bé",
        ] {
            let wire = "/apps/3/users/a%20b%C3%A9";
            let ok = verify(
                "POST",
                wire,
                &signed_as("", &format!("POST\n{signed}\n{auth}")),
            )
            .is_ok();
            assert_eq!(ok, signed != "/apps/3/users/a b%C3%A9", "{signed}");
        }
    }

    #[test]
    fn a_plus_is_itself_or_a_space_as_it_was_signed() {
        let auth = format!("auth_key={KEY}&auth_timestamp={NOW}&auth_version=1.0");
        for value in ["a+b", "a b"] {
            let text = format!("GET\n/apps/3/channels\n{auth}&filter_by_prefix={value}");
            let raw = signed_as("filter_by_prefix=a+b", &text);
            let mut query = SignedQuery::parse(&raw).unwrap();
            assert_eq!(query.verify("GET", "/apps/3/channels", &key(), NOW), Ok(()));
            // What the SDK signed is what it was given.
            assert_eq!(query.get("filter_by_prefix"), Some(value));
        }
    }

    #[test]
    fn parameters_in_wire_order_verify() {
        let raw = format!("info=user_count&auth_key={KEY}&auth_timestamp={NOW}&auth_version=1.0");
        let signature = key().sign(&format!("GET\n/apps/3/channels\n{raw}"));
        assert_eq!(
            verify(
                "GET",
                "/apps/3/channels",
                &format!("{raw}&auth_signature={signature}")
            ),
            Ok(())
        );
    }

    #[test]
    fn what_was_tampered_with_is_refused() {
        let raw = sign_request(
            "POST",
            "/apps/3/events",
            &[],
            b"{}",
            Credential {
                key: KEY,
                secret: SECRET,
            },
            NOW,
        );
        let mut query = SignedQuery::parse(&raw).unwrap();
        assert_eq!(query.verify("POST", "/apps/3/events", &key(), NOW), Ok(()));
        assert_eq!(query.verify_body(b"{}"), Ok(()));
        assert!(matches!(
            query.verify_body(b"{ }"),
            Err(AuthError::BodyMd5 { .. })
        ));
        let error = query
            .verify("POST", "/apps/4/events", &key(), NOW)
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("POST\\n/apps/4/events\\nauth_key="),
            "{error}"
        );
        assert!(query.verify("GET", "/apps/3/events", &key(), NOW).is_err());
        assert!(
            query
                .verify("POST", "/apps/3/events", &SigningKey::new("other"), NOW)
                .is_err()
        );
        assert!(verify("POST", "/apps/3/events", &raw.to_uppercase()).is_err());
        let flipped = if raw.ends_with('0') { '1' } else { '0' };
        assert!(
            verify(
                "POST",
                "/apps/3/events",
                &format!("{}{flipped}", &raw[..raw.len() - 1])
            )
            .is_err()
        );
    }

    #[test]
    fn a_body_without_its_md5_is_refused_and_an_empty_one_needs_none() {
        let raw = sign_request(
            "POST",
            "/e",
            &[],
            b"",
            Credential {
                key: KEY,
                secret: SECRET,
            },
            NOW,
        );
        let query = SignedQuery::parse(&raw).unwrap();
        assert_eq!(query.verify_body(b""), Ok(()));
        assert_eq!(query.verify_body(b"x"), Err(AuthError::Missing("body_md5")));
    }

    #[test]
    fn clocks_may_differ_by_less_than_ten_minutes() {
        let raw = sign_request(
            "GET",
            "/c",
            &[],
            b"",
            Credential {
                key: KEY,
                secret: SECRET,
            },
            NOW,
        );
        let mut query = SignedQuery::parse(&raw).unwrap();
        for (now, ok) in [
            (NOW + 599, true),
            (NOW - 599, true),
            (NOW + 600, false),
            (NOW - 600, false),
        ] {
            assert_eq!(query.verify("GET", "/c", &key(), now).is_ok(), ok, "{now}");
        }
    }

    #[test]
    fn a_query_with_more_parameters_than_any_request_has_is_refused_unread() {
        let raw = "a=b&".repeat(MAX_PARAMETERS) + "auth_signature=a";
        assert!(matches!(
            SignedQuery::parse(&raw),
            Err(AuthError::TooManyParameters(101))
        ));
    }

    #[test]
    fn a_query_is_no_longer_than_any_request_is_and_never_told_back_whole() {
        let auth = format!("auth_key={KEY}&auth_timestamp={NOW}&auth_version=1.0&auth_signature=");
        let most = format!("a=&{auth}{}", "0".repeat(64));
        let most = most.replacen(
            "a=",
            &format!("a={}", "x".repeat(MAX_QUERY - most.len())),
            1,
        );
        assert_eq!(most.len(), MAX_QUERY);
        let error = verify("GET", "/c", &most).unwrap_err();
        let AuthError::Signature { .. } = error else {
            panic!("{error}");
        };
        assert!(error.to_string().len() < 1_500, "{error}");
        let more = most.replacen("a=", "a=x", 1);
        let error = verify("GET", "/c", &more).unwrap_err();
        assert_eq!(error, AuthError::QueryTooLong(MAX_QUERY + 1));
        for field in [
            "auth_version=1.0",
            "auth_signature=",
            &format!("auth_timestamp={NOW}"),
        ] {
            let long = format!("{auth}0").replace(field, &format!("{field}{}", "y".repeat(5000)));
            let error = verify("GET", "/c", &long).unwrap_err();
            assert!(error.to_string().len() < 1_500, "{error}");
        }
    }

    #[test]
    fn credentials_of_any_printable_text_sign_and_verify() {
        for key in ["k&y=", "k%41", "k+y", "k#y?", "kü y", "a=b"] {
            let credential = Credential {
                key,
                secret: "my secret",
            };
            let raw = sign_request("GET", "/apps/a b?c/channels", &[], b"", credential, NOW);
            let mut query = SignedQuery::parse(&raw).unwrap();
            assert_eq!(query.auth_key(), Ok(key), "{raw}");
            let verified = query.verify(
                "GET",
                "/apps/a%20b%3Fc/channels",
                &SigningKey::new("my secret"),
                NOW,
            );
            assert_eq!(verified, Ok(()), "{raw}");
        }
    }

    #[test]
    fn missing_and_odd_auth_parameters_are_named() {
        let missing = |raw: &str| verify("GET", "/c", raw).unwrap_err();
        assert_eq!(missing(""), AuthError::Missing("auth_signature"));
        assert_eq!(
            missing("auth_signature=a"),
            AuthError::Missing("auth_version")
        );
        assert_eq!(
            missing("auth_signature=a&auth_version=2.0"),
            AuthError::Version("2.0".into())
        );
        assert_eq!(
            missing("auth_signature=a&auth_version=1.0"),
            AuthError::Missing("auth_timestamp")
        );
        let odd = missing("auth_signature=a&auth_version=1.0&auth_timestamp=soon");
        assert_eq!(odd, AuthError::NotATimestamp("soon".into()));
        assert_eq!(
            SignedQuery::parse("auth_signature=a").unwrap().auth_key(),
            Err(AuthError::Missing("auth_key"))
        );
    }
}
