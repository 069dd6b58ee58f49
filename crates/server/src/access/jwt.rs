//! Our own tokens: JWTs that say only which session or API token they belong to. What that may do is looked up with every
//! request, so that a change counts at once.

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
/// How long signing keys are used before the store is asked again whether they still count.
const KEYS_FOR: Duration = Duration::from_secs(30);
/// How soon a token with an unknown key makes us ask the store again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// Longer tokens are none of ours, in bytes.
const MAX_TOKEN: usize = 1024;

/// What a token belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A session of an operator who signed in.
    Session,
    /// An API token.
    Token,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    iss: String,
    /// The id of the session or the API token.
    pub(crate) sub: String,
    pub(crate) kind: Kind,
    iat: u64,
    exp: u64,
}

/// Why a token was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidToken {
    #[error("the token is not one of this installation's, or is damaged")]
    Unknown,
    #[error("the token has expired")]
    Expired,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Signs and verifies. Cheap to clone.
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

    /// A token for a session or an API token, with the newest key.
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

    /// What a token says, if it is one of ours and has not expired.
    pub(crate) async fn verify(&self, token: &str) -> Result<Claims, InvalidToken> {
        if token.len() > MAX_TOKEN {
            return Err(InvalidToken::Unknown);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| InvalidToken::Unknown)?;
        let kid = header.kid.ok_or(InvalidToken::Unknown)?;
        let keys = self.keys_with(&kid).await?;
        let now = unix_millis();
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

    /// Forgets the keys, for the store has others perhaps.
    pub(crate) async fn look_again(&self) {
        // Whoever is reading them has read the old ones.
        let _one_at_a_time = self.asking.lock().await;
        self.keys.store(Arc::default());
    }

    /// The keys as they were a short while ago, or anew if this one is not among them: it may have been made a moment ago. A
    /// stranger's guesses wait for each other, so that the store is asked ten times a second at most.
    async fn keys_with(&self, kid: &str) -> Result<Arc<Keys>, StoreError> {
        let arrived = Instant::now();
        let is_good = |keys: &Keys| match (keys.asked, keys.find(kid)) {
            (Some(asked), Some(_)) => asked.elapsed() < KEYS_FOR,
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
        if let Some(asked) = keys.asked {
            sleep_until(asked + ASK_AGAIN_AFTER).await;
        }
        // Before the store is asked: what is made meanwhile is perhaps not in its answer.
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
