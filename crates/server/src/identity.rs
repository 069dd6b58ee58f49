//! Whose tokens each app takes from its clients, ready to verify with: keys are read once, when they are set.
//!
//! | module | what it holds |
//! |---|---|
//! | `key` | keys that tokens are verified with |
//! | `jwks` | the key sets that providers publish |
//! | `verify` | a token to its claims |
//! | `grant` | claims to what they let their bearer do |

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

/// What each app has configured.
#[derive(Debug)]
pub(crate) struct Identities {
    by_app: ArcSwap<HashMap<AppId, Arc<CompiledIdentity>>>,
    jwks: Jwks,
    allow_inner: bool,
}

/// An app's configuration with its keys read.
#[derive(Debug)]
pub(crate) struct CompiledIdentity {
    verifiers: Vec<Verifier>,
    grants: Grants,
}

impl Identities {
    /// None so far. Key sets may be fetched from inner addresses and without TLS only if `allow_inner`.
    pub(crate) fn new(allow_inner: bool) -> Self {
        Self {
            by_app: ArcSwap::default(),
            jwks: Jwks::new(allow_inner),
            allow_inner,
        }
    }

    /// Takes what an app has configured now.
    ///
    /// # Errors
    ///
    /// Says what cannot be so. The app's tokens grant nothing from then on, rather than what they did before.
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

    /// What an app has configured, if it has.
    pub(crate) fn of(&self, app: &AppId) -> Option<Arc<CompiledIdentity>> {
        self.by_app.load().get(app).cloned()
    }

    /// Reads an app's configuration with its keys.
    ///
    /// # Errors
    ///
    /// Says what cannot be so.
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

    /// A provider's keys, or the field that does not give any and why.
    fn keys(&self, provider: &Provider) -> Result<Keys, (&'static str, &'static str)> {
        if let Some(secret) = &provider.secret {
            let key = VerifyingKey::from_secret(secret.expose_secret());
            return Ok(Keys::Fixed(Arc::new(key)));
        }
        if let (Some(pem), [algorithm, ..]) = (&provider.public_key, &*provider.algorithms) {
            let key = VerifyingKey::from_pem(pem, key::algorithm(*algorithm));
            let key = key.map_err(|reason| ("public_key", reason))?;
            return Ok(Keys::Fixed(Arc::new(key)));
        }
        let url = provider.jwks_url.as_deref().unwrap_or_default();
        let url: Url = url.parse().map_err(|_| ("jwks_url", "is no URL"))?;
        outbound::check_url(&url, self.allow_inner).map_err(|reason| ("jwks_url", reason))?;
        Ok(Keys::Published(self.jwks.at(&url)))
    }
}
