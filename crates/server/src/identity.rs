//! The identity providers whose tokens each app accepts from its clients. Keys are parsed once, when they are set.
//!
//! | module | what it holds |
//! |---|---|
//! | `key` | keys that tokens are verified with |
//! | `jwks` | the key sets that providers publish |
//! | `verify` | verifies a token and returns its claims |
//! | `grant` | which channels the claims of a token open |

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use fanfare_protocol::identity::{InvalidIdentity, Provider};
use fanfare_protocol::{AppId, Identity};
use reqwest::Url;
use secrecy::ExposeSecret;

use crate::outbound;

mod grant;
mod jwks;
mod key;
mod verify;

use grant::Grants;
use jwks::Jwks;
use key::VerifyingKey;
pub(crate) use verify::TokenError;
use verify::{Keys, Verifier};

/// The identity of each app that has one.
#[derive(Debug)]
pub(crate) struct Identities {
    by_app: ArcSwap<HashMap<AppId, Arc<CompiledIdentity>>>,
    jwks: Jwks,
    allow_inner: bool,
}

/// An app's identity with its keys and patterns parsed.
#[derive(Debug)]
pub(crate) struct CompiledIdentity {
    verifiers: Vec<Verifier>,
    grants: Grants,
}

impl Identities {
    /// Creates an empty set. Key sets may be fetched from inner addresses and without TLS only if `allow_inner` is set.
    pub(crate) fn new(allow_inner: bool) -> Self {
        Self {
            by_app: ArcSwap::default(),
            jwks: Jwks::new(allow_inner),
            allow_inner,
        }
    }

    /// Sets an app's identity, or removes it.
    ///
    /// # Errors
    ///
    /// Returns what is invalid. The app's tokens then grant nothing, rather than what the previous identity granted.
    pub(crate) fn set(
        &self,
        app: &AppId,
        identity: Option<&Identity>,
    ) -> Result<(), InvalidIdentity> {
        let (now, result) = match identity.map(|it| self.compile(it)).transpose() {
            Ok(compiled) => (compiled.map(Arc::new), Ok(())),
            Err(error) => (None, Err(error)),
        };
        self.by_app.rcu(|before| {
            let mut by_app = HashMap::clone(before);
            match &now {
                Some(identity) => by_app.insert(app.clone(), Arc::clone(identity)),
                None => by_app.remove(app),
            };
            by_app
        });
        result
    }

    /// Returns an app's identity, if it has one.
    pub(crate) fn of(&self, app: &AppId) -> Option<Arc<CompiledIdentity>> {
        self.by_app.load().get(app).cloned()
    }

    /// Parses an app's identity with its keys.
    ///
    /// # Errors
    ///
    /// Returns the field that is invalid and why.
    pub(crate) fn compile(&self, identity: &Identity) -> Result<CompiledIdentity, InvalidIdentity> {
        identity.check(self.allow_inner)?;
        let verifier = |(index, provider): (usize, &Provider)| {
            let keys = self.keys(provider).map_err(|(field, reason)| {
                InvalidIdentity::new(format!("providers[{index}].{field}"), reason)
            })?;
            Ok(Verifier::new(provider, keys))
        };
        let verifiers = identity.providers.iter().enumerate().map(verifier);
        Ok(CompiledIdentity {
            verifiers: verifiers.collect::<Result<_, _>>()?,
            grants: Grants::new(identity),
        })
    }

    /// Returns a provider's keys, or the field that gives none and why.
    fn keys(&self, provider: &Provider) -> Result<Keys, (&'static str, String)> {
        if let Some(secret) = &provider.secret {
            let key = VerifyingKey::from_secret(secret.expose_secret());
            return Ok(Keys::Fixed(Arc::new(key)));
        }
        if let (Some(pem), [algorithm, ..]) = (&provider.public_key, &*provider.algorithms) {
            let key = VerifyingKey::from_pem(pem, key::algorithm(*algorithm));
            let key = key.map_err(|reason| ("public_key", reason.into()))?;
            return Ok(Keys::Fixed(Arc::new(key)));
        }
        let url = provider.jwks_url.as_deref().unwrap_or_default();
        let url: Url = url.parse().map_err(|_| ("jwks_url", "is no URL".into()))?;
        outbound::check_url(&url, self.allow_inner, "identity.allow_inner_addresses")
            .map_err(|reason| ("jwks_url", reason))?;
        Ok(Keys::Published(self.jwks.at(&url)))
    }
}
