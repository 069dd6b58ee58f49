//! Verifies tokens. The library checks signature, issuer, audience and times.

use std::sync::Arc;

use fanfare_protocol::identity::{Claims, Provider};
use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::CompiledIdentity;
use super::jwks::{KeySet, NoKey};
use super::key::{self, VerifyingKey};

/// Longest token in bytes, as much as common servers accept as a header.
const MAX_TOKEN: usize = 8 * 1024;

/// Why a token is refused, ordered by how far the check came: of several providers' errors the greatest is returned.
/// The messages hold nothing of the token, because they end up in logs and on screens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(crate) enum TokenError {
    /// It is longer than [`MAX_TOKEN`].
    #[error("Invalid token: it has more than {MAX_TOKEN} bytes")]
    TooLong,
    /// It isn't three parts of base64url with JSON in two of them, or its algorithm isn't known (`none` isn't).
    #[error(
        "Invalid token: it is no signed JSON Web Token, or is signed in a way that is not supported"
    )]
    Malformed,
    /// No provider signs with its algorithm.
    #[error(
        "Invalid token: none of the app's identity providers signs with the algorithm it names"
    )]
    Algorithm,
    /// Another party issued it.
    #[error("Invalid token: its issuer (iss) isn't one of the app's identity providers")]
    Issuer,
    /// Its key is not in the provider's set.
    #[error(
        "Invalid token: the key it names (kid) is not among those its identity provider publishes"
    )]
    UnknownKey,
    /// It doesn't name its key, and several fit.
    #[error(
        "Invalid token: it does not name its key (kid), and its identity provider publishes several"
    )]
    AmbiguousKey,
    /// It isn't signed with the provider's key.
    #[error("Invalid token: its signature is wrong")]
    Signature,
    /// A claim is missing or of the wrong type.
    #[error("Invalid token: its claim {0} is missing or malformed")]
    Claim(&'static str),
    /// A registered claim isn't of the type that RFC 7519 gives it.
    #[error(
        "Invalid token: one of its claims is of another kind than RFC 7519 says: iss, sub and jti are text, exp, nbf and iat numbers"
    )]
    Claims,
    /// Its audience is another party.
    #[error("Invalid token: its audience (aud) isn't one that the app expects")]
    Audience,
    /// It isn't valid yet.
    #[error("Invalid token: it is not valid yet (nbf)")]
    Early,
    /// It has expired.
    #[error("Invalid token: it has expired (exp)")]
    Expired,
    /// It can't be checked, because the key set can't be fetched.
    #[error("The keys of the app's identity provider cannot be fetched; try again later")]
    Unavailable,
}

/// Source of a provider's keys.
#[derive(Debug)]
pub(super) enum Keys {
    Fixed(Arc<VerifyingKey>),
    Published(Arc<KeySet>),
}

/// Verifies the tokens of one provider.
#[derive(Debug)]
pub(super) struct Verifier {
    issuer: Option<String>,
    keys: Keys,
    /// One validation for each algorithm, because the library requires all algorithms of a validation to be for the
    /// same kind of key.
    validations: Vec<(Algorithm, Validation)>,
}

impl CompiledIdentity {
    /// Returns the claims of a token that one of the app's providers issued for this app and that is valid now. Checks
    /// at most one signature for each provider.
    pub(crate) async fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::TooLong);
        }
        let header = decode_header(token).map_err(|_| TokenError::Malformed)?;
        // RFC 7515 requires that critical extensions are understood, and none is.
        if header.crit.is_some() {
            return Err(TokenError::Malformed);
        }
        // Unverified: used only to skip providers whose issuer can't match.
        let unverified: Map<String, Value> =
            insecure_decode_claims(token).map_err(|_| TokenError::Malformed)?;
        let issuer = unverified.get("iss").and_then(Value::as_str);
        let mut refused = TokenError::Algorithm;
        for verifier in &self.verifiers {
            match verifier.verify(token, &header, issuer).await {
                Ok(claims) => return Ok(claims),
                Err(error) => refused = refused.max(error),
            }
        }
        Err(refused)
    }
}

impl Verifier {
    pub(super) fn new(provider: &Provider, keys: Keys) -> Self {
        let algorithms = provider.algorithms.iter().copied().map(key::algorithm);
        Self {
            issuer: provider.issuer.clone(),
            keys,
            validations: algorithms
                .map(|algorithm| (algorithm, validation(provider, algorithm)))
                .collect(),
        }
    }

    /// Verifies a token with this provider's keys. `issuer` is the unverified claim: it only saves fetching keys that
    /// can't be the token's.
    async fn verify(
        &self,
        token: &str,
        header: &Header,
        issuer: Option<&str>,
    ) -> Result<Claims, TokenError> {
        let mut validations = self.validations.iter();
        let (algorithm, validation) = validations
            .find(|(algorithm, _)| *algorithm == header.alg)
            .ok_or(TokenError::Algorithm)?;
        if self.issuer.is_some() && self.issuer.as_deref() != issuer {
            return Err(TokenError::Issuer);
        }
        let key = match &self.keys {
            Keys::Fixed(key) => Arc::clone(key),
            Keys::Published(set) => set.key(header.kid.as_deref(), *algorithm).await?,
        };
        let decoded = decode::<Map<String, Value>>(token, key.decoding(), validation)?;
        Ok(Claims::new(decoded.claims))
    }
}

/// Returns what must hold for a provider's tokens. The library ignores missing claims unless they are required.
fn validation(provider: &Provider, algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    let mut required = vec!["exp"];
    validation.leeway = provider.leeway();
    validation.validate_nbf = true;
    if let Some(issuer) = &provider.issuer {
        validation.set_issuer(&[issuer]);
        required.push("iss");
    }
    if provider.audience.is_empty() {
        validation.validate_aud = false;
    } else {
        validation.set_audience(&provider.audience);
        required.push("aud");
    }
    validation.set_required_spec_claims(&required);
    validation
}

impl From<NoKey> for TokenError {
    fn from(error: NoKey) -> Self {
        match error {
            NoKey::Unknown => Self::UnknownKey,
            NoKey::Ambiguous => Self::AmbiguousKey,
            NoKey::Unavailable => Self::Unavailable,
        }
    }
}

impl From<Error> for TokenError {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::InvalidSignature => Self::Signature,
            ErrorKind::ExpiredSignature => Self::Expired,
            ErrorKind::ImmatureSignature => Self::Early,
            ErrorKind::InvalidIssuer => Self::Issuer,
            ErrorKind::InvalidAudience => Self::Audience,
            ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => {
                let known = ["exp", "nbf", "iss", "aud", "sub", "jti", "iat"];
                let name = known.into_iter().find(|name| name == claim);
                name.map_or(Self::Malformed, Self::Claim)
            }
            // The token was parsed before with claims of any type, so a typed claim is wrong.
            ErrorKind::Json(_) => Self::Claims,
            _ => Self::Malformed,
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
