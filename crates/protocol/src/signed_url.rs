//! URLs that a backend signs for a client without a library of ours (docs/any-client.md#signed-urls).

use crate::excerpt::excerpt;
use crate::signature::SigningKey;

/// The parameter with the signature. It ends what is signed.
const SIGNATURE: &str = "&auth_signature=";
/// The parameter with the Unix time in seconds from which on the URL is refused.
const EXPIRES: &str = "auth_expires";

/// Why a signed URL is refused, as text for its client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignedUrlError {
    /// There is no time at which it ends.
    #[error(
        "Missing parameter: auth_expires, the Unix time in seconds at which the URL ends, before auth_signature"
    )]
    NoExpiry,
    /// The time has passed.
    #[error(
        "The URL has expired: auth_expires is {expires}, the server's clock says {now}; get a new URL"
    )]
    Expired {
        /// The URL's Unix time in seconds.
        expires: u64,
        /// The server's.
        now: u64,
    },
    /// The signature is of another text or key.
    #[error("Invalid signature: sign {text:?} with the key's secret, but you sent {sent:?}")]
    Signature {
        /// The text to sign.
        text: String,
        /// The value in the URL.
        sent: String,
    },
}

/// The query of a URL that claims to be signed. The bytes on the wire are signed, so no two queries have one signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedUrl<'a> {
    /// What is signed: everything before `auth_signature`.
    pub signed: &'a str,
    signature: &'a str,
    /// What the client itself may add: everything after it.
    pub added: &'a str,
}

impl<'a> SignedUrl<'a> {
    /// Splits a query, or returns `None` if it isn't signed.
    #[must_use]
    pub fn split(query: &'a str) -> Option<Self> {
        let (signed, rest) = query.split_once(SIGNATURE)?;
        let (signature, added) = rest.split_once('&').unwrap_or((rest, ""));
        Some(Self {
            signed,
            signature,
            added,
        })
    }

    /// Checks signature and time. `path` is that of the URL below the server's prefix; `now` is Unix time in seconds.
    ///
    /// # Errors
    ///
    /// Returns [`SignedUrlError`], which says what is wrong.
    pub fn verify(&self, path: &str, key: &SigningKey, now: u64) -> Result<(), SignedUrlError> {
        let text = text(path, self.signed);
        if !key.verify(&text, self.signature) {
            return Err(SignedUrlError::Signature {
                text: excerpt(&text).into_owned(),
                sent: excerpt(self.signature).into_owned(),
            });
        }
        let pairs = self
            .signed
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        let mut expiries = pairs.filter(|(name, _)| *name == EXPIRES);
        let expires = expiries.next().and_then(|(_, value)| value.parse().ok());
        match expires.ok_or(SignedUrlError::NoExpiry)? {
            expires if now >= expires => Err(SignedUrlError::Expired { expires, now }),
            _ => Ok(()),
        }
    }
}

/// Returns a query with the time at which it ends and its signature. `query` is percent-encoded already.
#[must_use]
pub fn sign_url(path: &str, query: &str, key: &SigningKey, expires: u64) -> String {
    let separator = if query.is_empty() { "" } else { "&" };
    let signed = format!("{query}{separator}{EXPIRES}={expires}");
    let signature = key.sign(&text(path, &signed));
    format!("{signed}{SIGNATURE}{signature}")
}

fn text(path: &str, signed: &str) -> String {
    format!("GET\n{path}\n{signed}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        SigningKey::new("secret")
    }

    #[test]
    fn a_signed_url_is_valid_until_it_expires() {
        let query = sign_url("/sse/key", "channels=private-a", &key(), 100);
        assert!(query.starts_with("channels=private-a&auth_expires=100&auth_signature="));
        let split = SignedUrl::split(&query).expect("a signature");
        assert_eq!(split.signed, "channels=private-a&auth_expires=100");
        assert_eq!(split.verify("/sse/key", &key(), 99), Ok(()));
        let expired = SignedUrlError::Expired {
            expires: 100,
            now: 100,
        };
        assert_eq!(split.verify("/sse/key", &key(), 100), Err(expired));
    }

    #[test]
    fn path_query_and_key_are_signed_and_what_follows_is_not() {
        let query = sign_url("/sse/key", "channels=private-a", &key(), 100);
        let refused = |query: &str, path: &str, key: &SigningKey| {
            let split = SignedUrl::split(query).expect("a signature");
            matches!(
                split.verify(path, key, 0),
                Err(SignedUrlError::Signature { .. })
            )
        };
        assert!(refused(&query, "/ws/key", &key()));
        assert!(refused(&query, "/sse/key", &SigningKey::new("other")));
        assert!(refused(&query.replace("-a", "-b"), "/sse/key", &key()));
        assert!(refused(&format!("x=1&{query}"), "/sse/key", &key()));
        let added = format!("{query}&rewind=3&x");
        let split = SignedUrl::split(&added).expect("a signature");
        assert_eq!(split.added, "rewind=3&x");
        assert_eq!(split.verify("/sse/key", &key(), 0), Ok(()));
    }

    #[test]
    fn a_url_without_an_end_is_refused() {
        let signed = "channels=private-a";
        let signature = key().sign(&text("/sse/key", signed));
        let query = format!("{signed}&auth_signature={signature}");
        let split = SignedUrl::split(&query).expect("a signature");
        assert_eq!(
            split.verify("/sse/key", &key(), 0),
            Err(SignedUrlError::NoExpiry)
        );
        assert_eq!(SignedUrl::split("channels=a"), None);
    }
}
