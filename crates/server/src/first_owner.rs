//! The first operator, created if there is none, so that an owner can sign in.

use std::net::SocketAddr;

use fanfare_store::{Actor, Store, StoreError};
use secrecy::{ExposeSecret, SecretString};

use crate::access::Passwords;
use crate::admin::sessions::browser::{SignInLink, new_link};
use crate::config::{OwnerConfig, reachable};

/// The first operator's credentials, to be printed once.
pub(crate) struct FirstOwner {
    name: String,
    /// Only if it was generated.
    password: Option<SecretString>,
    /// Signs in to the dashboard, once.
    link: SignInLink,
}

/// Creates the first operator if there is none. Returns `None` if there is one.
pub(crate) async fn create_if_none(
    store: &Store,
    passwords: &Passwords,
    config: &OwnerConfig,
) -> anyhow::Result<Option<FirstOwner>> {
    if store.count_operators().await? > 0 {
        return Ok(None);
    }
    let drawn: Option<SecretString> = config.password.is_none().then(draw_password);
    let Some(password) = config.password.as_ref().or(drawn.as_ref()) else {
        return Ok(None);
    };
    let hashed = passwords.hash(password.clone()).await?;
    match store
        .create_first_owner(&config.name, &hashed, &Actor::system())
        .await
    {
        Ok(owner) => {
            tracing::info!(operator = owner.name, "made the first operator");
            let link = new_link(store, &owner.id, &Actor::system()).await?;
            Ok(Some(FirstOwner {
                link,
                name: owner.name,
                password: drawn,
            }))
        }
        // Another node created it first.
        Err(StoreError::Conflict(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns a password of 120 bits, in letters and digits that can't be confused with each other.
pub(crate) fn draw_password() -> SecretString {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let letter = |_| char::from(LETTERS[rand::random_range(0..LETTERS.len())]);
    let groups: Vec<String> = (0..6).map(|_| (0..4).map(letter).collect()).collect();
    groups.join("-").into()
}

impl FirstOwner {
    /// Returns the text that is printed, once. The dashboard is below `base_path` at `listen`.
    pub(crate) fn welcome(&self, listen: SocketAddr, base_path: &str) -> String {
        let password = match &self.password {
            None => "as configured (owner.password)".into(),
            Some(password) => format!(
                "{}   (shown this once; `fanfare operator reset-password {}` makes another)",
                password.expose_secret(),
                self.name
            ),
        };
        format!(
            "  operator    {name}\n  password    {password}\n  dashboard   http://{address}{base_path}{path}\n              \
             (this link signs in once, within the hour; `fanfare operator sign-in-link {name}` makes another)\n",
            name = self.name,
            address = reachable(listen),
            path = self.link.path,
        )
    }
}
