//! Keys that verify tokens, each for one algorithm.

use fanfare_protocol::identity;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};

/// Smallest RSA modulus in bytes: 2048 bits. The library refuses more than 8192.
const MIN_RSA_BYTES: usize = 256;

/// A key and its algorithm.
#[derive(Debug)]
pub(crate) struct VerifyingKey {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl VerifyingKey {
    /// Returns a key for HS256.
    pub(crate) fn from_secret(secret: &str) -> Self {
        Self {
            algorithm: Algorithm::HS256,
            key: DecodingKey::from_secret(secret.as_bytes()),
        }
    }

    /// Parses a public key in PEM.
    ///
    /// # Errors
    ///
    /// Returns why the key can't be used with this algorithm.
    pub(crate) fn from_pem(pem: &str, algorithm: Algorithm) -> Result<Self, &'static str> {
        let pem = pem.as_bytes();
        let key = match algorithm {
            Algorithm::RS256 => DecodingKey::from_rsa_pem(pem),
            Algorithm::ES256 => DecodingKey::from_ec_pem(pem),
            _ => DecodingKey::from_ed_pem(pem),
        };
        // Converted to a JWK, which tells the curve and the modulus, unlike the decoded key.
        let jwk = key.and_then(|key| Jwk::from_decoding_key(&key, Some(algorithm)));
        Self::from_jwk(&jwk.map_err(|_| "is no public key for the algorithm")?)
    }

    /// Parses a public key that may verify signatures and is strong enough.
    ///
    /// # Errors
    ///
    /// Returns why the key can't be used.
    pub(crate) fn from_jwk(jwk: &Jwk) -> Result<Self, &'static str> {
        let (algorithm, named) = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                (Algorithm::ES256, KeyAlgorithm::ES256)
            }
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
            }
            // A symmetric key in a published set would be known to everybody.
            _ => {
                return Err("is of a kind that is not supported: there are RSA, P-256 and Ed25519");
            }
        };
        let common = &jwk.common;
        let is_for = |usage: &PublicKeyUse| *usage == PublicKeyUse::Signature;
        let may = |operations: &Vec<KeyOperations>| operations.contains(&KeyOperations::Verify);
        if !common.public_key_use.as_ref().is_none_or(is_for)
            || !common.key_operations.as_ref().is_none_or(may)
        {
            return Err("is not for signatures");
        }
        if common.key_algorithm.is_some_and(|alg| alg != named) {
            return Err("is for another algorithm");
        }
        let key = DecodingKey::from_jwk(jwk).map_err(|_| "cannot be read")?;
        if !is_sound(&key) {
            return Err("has the wrong length: RSA needs 2048 bits or more");
        }
        Ok(Self { algorithm, key })
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(crate) fn decoding(&self) -> &DecodingKey {
        &self.key
    }
}

fn is_sound(key: &DecodingKey) -> bool {
    match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, .. } => {
            n.iter().skip_while(|byte| **byte == 0).count() >= MIN_RSA_BYTES
        }
        // Ed25519: 32 bytes. P-256: a mark and two coordinates of 32 bytes.
        DecodingKeyKind::SecretOrDer(bytes) => matches!(bytes.len(), 32 | 65),
    }
}

/// Returns the library's value for a configured algorithm.
pub(crate) fn algorithm(configured: identity::Algorithm) -> Algorithm {
    match configured {
        identity::Algorithm::HS256 => Algorithm::HS256,
        identity::Algorithm::RS256 => Algorithm::RS256,
        identity::Algorithm::ES256 => Algorithm::ES256,
        identity::Algorithm::EdDsa => Algorithm::EdDSA,
    }
}
