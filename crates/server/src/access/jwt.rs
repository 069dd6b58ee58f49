//! The installation's own tokens: JWTs that name a session or an API token and nothing else. The rights are looked up
//! with every request, so a change takes effect at once.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use fanfare_store::{SigningKeyRecord, Store, StoreError};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::clock::{unix_millis, unix_seconds};

const ISSUER: &str = "fanfare";
/// How long signing keys are cached before the store is asked again.
const KEY_CACHE_TTL: Duration = Duration::from_secs(30);
/// Least time between two queries to the store because of tokens with an unknown key.
const MIN_REFRESH_INTERVAL: Duration = Duration::from_millis(100);
/// Longest token, in bytes. This installation issues no longer ones.
const MAX_TOKEN: usize = 1024;

/// The kind of credential that a token names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A session of an operator who signed in.
    Session,
    /// An API token.
    Token,
}

/// Claims of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    iss: String,
    /// The id of the session or the API token.
    pub(crate) sub: String,
    pub(crate) kind: Kind,
    iat: u64,
    /// Unix time in seconds.
    pub(crate) exp: u64,
}

/// Why a token was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidToken {
    #[error("the token is not one of this installation's, or is damaged")]
    Unknown,
    #[error("the token has expired")]
    Expired,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Signs and verifies tokens. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Jwts {
    store: Store,
    keys: Arc<ArcSwap<Keys>>,
    asking: Arc<Mutex<()>>,
}

#[derive(Debug, Default)]
struct Keys {
    asked: Option<Instant>,
    keys: Vec<SigningKeyRecord>,
}

impl Keys {
    fn find(&self, id: &str) -> Option<&SigningKeyRecord> {
        self.keys.iter().find(|key| key.id == id)
    }
}

impl Jwts {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            keys: Arc::default(),
            asking: Arc::default(),
        }
    }

    /// Signs a token for a session or an API token with the newest key. `expires_at` is Unix time in seconds.
    pub(crate) async fn sign(
        &self,
        kind: Kind,
        id: &str,
        expires_at: u64,
    ) -> Result<SecretString, StoreError> {
        let keys = self.store.signing_keys().await?;
        let key = &keys[0];
        let header = Header {
            kid: Some(key.id.clone()),
            ..Header::new(Algorithm::HS256)
        };
        let claims = Claims {
            iss: ISSUER.into(),
            sub: id.into(),
            kind,
            iat: unix_seconds(),
            exp: expires_at,
        };
        let secret = EncodingKey::from_secret(key.secret.expose_secret().as_bytes());
        let token = jsonwebtoken::encode(&header, &claims, &secret);
        Ok(token
            .expect("claims are JSON, and HMAC takes every key")
            .into())
    }

    /// Returns the claims of a token of this installation that hasn't expired.
    pub(crate) async fn verify(&self, token: &str) -> Result<Claims, InvalidToken> {
        // Checked before anything is decoded, because strangers send tokens too.
        if token.len() > MAX_TOKEN {
            return Err(InvalidToken::Unknown);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| InvalidToken::Unknown)?;
        let kid = header.kid.ok_or(InvalidToken::Unknown)?;
        let keys = self.keys_with(&kid).await?;
        let now = unix_millis();
        // A cached key may have been retired since.
        let counts = |key: &&SigningKeyRecord| key.retired_at.is_none_or(|retired| retired > now);
        let key = keys.find(&kid).filter(counts);
        let key = key.ok_or(InvalidToken::Unknown)?;
        let secret = DecodingKey::from_secret(key.secret.expose_secret().as_bytes());
        let decoded = jsonwebtoken::decode::<Claims>(token, &secret, &validation());
        match decoded {
            Ok(decoded) => Ok(decoded.claims),
            Err(error) => Err(match error.kind() {
                jsonwebtoken::errors::ErrorKind::ExpiredSignature => InvalidToken::Expired,
                _ => InvalidToken::Unknown,
            }),
        }
    }

    /// Drops the cached keys, because the store may have others.
    pub(crate) async fn look_again(&self) {
        // A query that runs now may have read the old keys, so its result is stored before they are dropped.
        let _one_at_a_time = self.asking.lock().await;
        self.keys.store(Arc::default());
    }

    /// Returns the cached keys, or asks the store if this one isn't among them, because it may have just been made.
    /// Tokens with guessed keys wait for each other, so the store is asked at most ten times a second.
    async fn keys_with(&self, kid: &str) -> Result<Arc<Keys>, StoreError> {
        let arrived = Instant::now();
        let is_good = |keys: &Keys| match (keys.asked, keys.find(kid)) {
            (Some(asked), Some(_)) => asked.elapsed() < KEY_CACHE_TTL,
            (Some(asked), None) => asked > arrived,
            (None, _) => false,
        };
        let keys = self.keys.load_full();
        if is_good(&keys) {
            return Ok(keys);
        }
        let _one_at_a_time = self.asking.lock().await;
        let keys = self.keys.load_full();
        if is_good(&keys) {
            return Ok(keys);
        }
        // Another caller may have asked the store while this one waited for the lock, hence the second look above.
        if let Some(asked) = keys.asked {
            sleep_until(asked + MIN_REFRESH_INTERVAL).await;
        }
        // Taken before the query: a key that is made meanwhile may be missing from its result.
        let asked = Some(Instant::now());
        let keys = self.store.signing_keys().await?;
        let keys = Arc::new(Keys { keys, asked });
        self.keys.store(Arc::clone(&keys));
        Ok(keys)
    }
}

fn validation() -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.leeway = 0;
    validation.set_issuer(&[ISSUER]);
    validation.set_required_spec_claims(&["exp", "iss", "sub"]);
    validation
}
