//! The public keys that identity providers publish (JSON Web Key Sets): fetched when they are needed, cached, and
//! refreshed in time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jsonwebtoken::Algorithm;
use reqwest::{Client, Url};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::key::VerifyingKey;
use crate::outbound;

/// How long a fetched set is fresh.
const MAX_AGE: Duration = Duration::from_secs(600);
/// How long a set is used while no newer one can be fetched.
const MAX_AGE_WHILE_DOWN: Duration = Duration::from_secs(24 * 3600);
/// Least time between two fetches of a set, whatever tokens come and whatever the provider answers.
const MIN_INTERVAL: Duration = Duration::from_secs(10);
/// How long a provider may take to answer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer, in bytes.
const MAX_BYTES: usize = 256 * 1024;
/// Largest number of keys of a set that are used.
const MAX_KEYS: usize = 100;

/// Why there is no key for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoKey {
    /// The set has no key that fits.
    Unknown,
    /// The token names no key, and several fit.
    Ambiguous,
    /// No set could be fetched.
    Unavailable,
}

/// All sets in use, each once, even if several apps name it.
#[derive(Debug)]
pub(crate) struct Jwks {
    /// `None` if no client can be made, for example without trusted certificates.
    client: Option<Client>,
    by_url: Mutex<HashMap<Url, Weak<KeySet>>>,
}

impl Jwks {
    pub(crate) fn new(allow_inner: bool) -> Self {
        let client = outbound::client(allow_inner, FETCH_TIMEOUT);
        if let Err(error) = &client {
            tracing::error!(%error, "no key set of an identity provider can be fetched");
        }
        Self {
            client: client.ok(),
            by_url: Mutex::default(),
        }
    }

    /// Returns the set at a URL. It lives as long as an app's identity holds it.
    pub(crate) fn at(&self, url: &Url) -> Arc<KeySet> {
        let mut by_url = self.by_url.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = by_url.get(url).and_then(Weak::upgrade) {
            return set;
        }
        by_url.retain(|_, set| set.strong_count() > 0);
        let set = Arc::new(KeySet {
            url: url.clone(),
            client: self.client.clone(),
            fetched: ArcSwapOption::empty(),
            tried: tokio::sync::Mutex::default(),
        });
        by_url.insert(url.clone(), Arc::downgrade(&set));
        set
    }
}

/// The keys at one URL.
#[derive(Debug)]
pub(crate) struct KeySet {
    url: Url,
    client: Option<Client>,
    fetched: ArcSwapOption<Fetched>,
    /// When the last fetch began. The lock is held during a fetch.
    tried: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Fetched {
    keys: Vec<(Option<String>, Arc<VerifyingKey>)>,
    at: Instant,
}

impl KeySet {
    /// Returns the key that a token names, and waits for a fetch if the cached set doesn't have it.
    pub(crate) async fn key(
        self: &Arc<Self>,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Arc<VerifyingKey>, NoKey> {
        let find = |fetched: &Fetched| fetched.find(kid, algorithm);
        let known = self.fetched.load_full();
        let age = known.as_ref().map(|fetched| fetched.at.elapsed());
        let found = known.as_deref().map(find);
        match (age, found) {
            (Some(age), Some(Ok(key))) if age < MAX_AGE => return Ok(key),
            // One caller fetches a newer set, and meanwhile the others use this one.
            (Some(age), Some(Ok(key))) if age < MAX_AGE_WHILE_DOWN && self.is_busy() => {
                return Ok(key);
            }
            // A failed fetch is no error here: the last set may still have the key.
            _ => self.refresh(known).await,
        }
        // Loaded again, because the wait or another caller may have brought a newer set.
        let newest = self.fetched.load_full();
        newest
            .filter(|fetched| fetched.at.elapsed() < MAX_AGE_WHILE_DOWN)
            .map_or(Err(NoKey::Unavailable), |fetched| find(&fetched))
    }

    fn is_busy(&self) -> bool {
        self.tried.try_lock().is_err()
    }

    /// Fetches a set newer than `known`, unless another caller just has. The fetch runs in its own task, so that a
    /// caller that goes away doesn't cancel it for the others.
    async fn refresh(self: &Arc<Self>, known: Option<Arc<Fetched>>) {
        let set = Arc::clone(self);
        let refreshed = tokio::spawn(async move {
            let mut tried = set.tried.lock().await;
            let known_at = known.map(|fetched| fetched.at);
            // While this task waited for the lock, another one may have fetched a set.
            let newest_at = set.fetched.load().as_ref().map(|fetched| fetched.at);
            let is_early = tried.is_some_and(|tried| tried.elapsed() < MIN_INTERVAL);
            if newest_at != known_at || is_early {
                return;
            }
            *tried = Some(Instant::now());
            match set.fetch().await {
                Ok(fetched) => set.fetched.store(Some(Arc::new(fetched))),
                // Without path and query, which may hold secrets.
                Err(error) => tracing::warn!(
                    host = set.url.host_str(),
                    error,
                    "the key set of an identity provider cannot be fetched; the last one counts for a day"
                ),
            }
        });
        // A panic is reported by its task.
        let _ = refreshed.await;
    }

    async fn fetch(&self) -> Result<Fetched, String> {
        let client = self.client.as_ref().ok_or("there is no HTTP client")?;
        let request = client
            .get(self.url.clone())
            .header("accept", "application/json");
        let failed = |error: reqwest::Error| in_words(&error.without_url());
        let mut response = request.send().await.map_err(failed)?;
        if !response.status().is_success() {
            return Err(format!("it answers {}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_BYTES {
                return Err(format!("it answers more than {MAX_BYTES} bytes"));
            }
        }
        Fetched::parse(&body)
    }
}

/// Returns an error with all its sources.
fn in_words(error: &dyn std::error::Error) -> String {
    let source = error.source().map(in_words);
    source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

impl Fetched {
    /// Parses a set. Keys that can't be used are skipped, because a set may hold keys for other purposes.
    fn parse(body: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(body)
            .map_err(|error| format!("it answers no JSON Web Key Set: {error}"))?;
        let keys = set.keys.into_iter().take(MAX_KEYS).filter_map(|key| {
            let key = serde_json::from_value(key).ok()?;
            let verifying = VerifyingKey::from_jwk(&key).ok()?;
            Some((key.common.key_id, Arc::new(verifying)))
        });
        Ok(Self {
            keys: keys.collect(),
            at: Instant::now(),
        })
    }

    fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<Arc<VerifyingKey>, NoKey> {
        let mut fitting = self.keys.iter().filter(|(id, key)| {
            key.algorithm() == algorithm && (kid.is_none() || id.as_deref() == kid)
        });
        match (fitting.next(), fitting.next()) {
            (None, _) => Err(NoKey::Unknown),
            (Some((_, key)), None) => Ok(Arc::clone(key)),
            (Some(_), Some(_)) => Err(NoKey::Ambiguous),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
