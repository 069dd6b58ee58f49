//! Secrets at rest: XChaCha20-Poly1305 under the installation's master key.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use secrecy::{ExposeSecret, SecretBox};
use sha2::{Digest, Sha256};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// The key that seals all secrets of an installation. It has 32 bytes, as text 64 hex digits.
#[derive(Debug)]
pub struct MasterKey(SecretBox<[u8; KEY_BYTES]>);

impl Clone for MasterKey {
    fn clone(&self) -> Self {
        Self(SecretBox::new(Box::new(*self.0.expose_secret())))
    }
}

impl PartialEq for MasterKey {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for MasterKey {}

/// Error for a text that isn't a master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a master key is 64 hex digits (32 bytes), as `openssl rand -hex 32` prints them; this has {length} characters{}",
    if *length == 2 * KEY_BYTES { ", and not all are hex digits" } else { "" }
)]
pub struct InvalidMasterKey {
    length: usize,
}

/// Error for a sealed secret that this key, or this context, doesn't open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CannotOpen;

impl MasterKey {
    /// Generates a key.
    #[must_use]
    pub fn random() -> Self {
        Self(SecretBox::new(Box::new(rand::random())))
    }

    /// Parses a key and ignores white space around it.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidMasterKey`] if it isn't 64 hex digits.
    pub fn parse(text: &str) -> Result<Self, InvalidMasterKey> {
        let mut key = Box::new([0; KEY_BYTES]);
        let text = text.trim();
        hex::decode_to_slice(text, key.as_mut_slice()).map_err(|_| InvalidMasterKey {
            length: text.chars().count(),
        })?;
        Ok(Self(SecretBox::new(key)))
    }

    /// Returns the key as text, for a place that only the server can read.
    #[must_use]
    pub fn to_text(&self) -> String {
        hex::encode(self.0.expose_secret())
    }

    /// Returns an id of this key, which reveals nothing of it.
    pub(crate) fn id(&self) -> String {
        let hash = Sha256::new()
            .chain_update("fanfare master key id")
            .chain_update(self.0.expose_secret());
        hex::encode(&hash.finalize()[..16])
    }

    /// Derives a key for one purpose, which reveals nothing of this one.
    pub(crate) fn derive(&self, purpose: &str) -> [u8; 16] {
        // The key has a fixed length and comes first, as in `id`, and no two purposes are equal.
        let hash = Sha256::new()
            .chain_update("fanfare derived key")
            .chain_update(self.0.expose_secret())
            .chain_update(purpose)
            .finalize();
        let mut key = [0; 16];
        key.copy_from_slice(&hash[..16]);
        key
    }

    /// Seals `plain` so that it opens only in the same `context`: a sealed secret cannot be moved to another row.
    pub(crate) fn seal(&self, plain: &str, context: &str) -> Vec<u8> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload {
            msg: plain.as_bytes(),
            aad: context.as_bytes(),
        };
        let sealed = self
            .cipher()
            .encrypt(&XNonce::from(nonce), payload)
            .expect("secrets are far below the cipher's limit");
        [&nonce[..], &sealed].concat()
    }

    pub(crate) fn open(&self, sealed: &[u8], context: &str) -> Result<String, CannotOpen> {
        let (nonce, sealed) = sealed
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or(CannotOpen)?;
        let payload = Payload {
            msg: sealed,
            aad: context.as_bytes(),
        };
        let plain = self
            .cipher()
            .decrypt(&XNonce::from(*nonce), payload)
            .map_err(|_| CannotOpen)?;
        String::from_utf8(plain).map_err(|_| CannotOpen)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.0.expose_secret().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_secret_opens_with_its_key_in_its_context_only() {
        let key = MasterKey::random();
        let sealed = key.seal("secret", "app/key");
        assert_eq!(key.open(&sealed, "app/key").as_deref(), Ok("secret"));
        assert_eq!(key.open(&sealed, "app/other"), Err(CannotOpen));
        assert_eq!(
            MasterKey::random().open(&sealed, "app/key"),
            Err(CannotOpen)
        );
        assert_eq!(key.open(&sealed[..10], "app/key"), Err(CannotOpen));
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
    }

    #[test]
    fn a_key_reads_as_it_was_written() {
        let key = MasterKey::random();
        let again = MasterKey::parse(&format!("{}\n", key.to_text())).unwrap();
        assert_eq!(again.open(&key.seal("x", ""), "").as_deref(), Ok("x"));
        assert!(!format!("{key:?}").contains(&key.to_text()));
        for bad in ["", "abc", &"g".repeat(64), &"0".repeat(63)] {
            let error = MasterKey::parse(bad).expect_err(bad).to_string();
            assert!(
                error.contains(&format!("has {} characters", bad.len())),
                "{error}"
            );
        }
    }
}
