//! Operators' passwords: argon2id, on threads of their own, a few at a time, so that sign-ins never starve events.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Hashes at a time; each takes 19 MiB and some 20 ms.
const AT_ONCE: usize = 2;
/// How long one waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// Characters of a password.
const LENGTHS: std::ops::RangeInclusive<usize> = 10..=1000;

/// Hashes and verifies passwords. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Passwords {
    turns: Arc<Semaphore>,
    /// What a password is compared with where there is no operator of that name, so that it takes as long. Made when it is
    /// needed first, for hashing takes much memory.
    nobody: Arc<OnceLock<SecretString>>,
}

/// So many sign in at this moment that this one's turn did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords are being checked at this moment; try again later")]
pub(crate) struct Busy;

/// Says what is wrong with a new password.
pub(crate) fn check_password(password: &SecretString) -> Result<(), String> {
    if LENGTHS.contains(&password.expose_secret().chars().count()) {
        return Ok(());
    }
    Err(format!(
        "a password has {} to {} characters",
        LENGTHS.start(),
        LENGTHS.end()
    ))
}

impl Passwords {
    pub(crate) fn new() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            nobody: Arc::default(),
        }
    }

    /// The hash of a new password, a PHC string.
    pub(crate) async fn hash(&self, password: SecretString) -> Result<SecretString, Busy> {
        self.in_turn(move || hash(password.expose_secret())).await
    }

    /// Whether it is the password that was hashed. Without a hash it is not, and takes as long.
    pub(crate) async fn verify(
        &self,
        password: SecretString,
        hashed: Option<SecretString>,
    ) -> Result<bool, Busy> {
        let nobody = Arc::clone(&self.nobody);
        self.in_turn(move || {
            // Also where it is not needed, so that the first attempt takes as long for a name that there is.
            let nobody = nobody.get_or_init(|| hash(&hex::encode(rand::random::<[u8; 16]>())));
            is_right(&password, hashed.as_ref(), nobody, argon2_verifies)
        })
        .await
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let turn = timeout(PATIENCE, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| Busy)?.expect("turns are never closed");
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        Ok(done.await.expect("hashing does not panic"))
    }
}

/// Verifies exactly once, whether there is a hash or not.
fn is_right(
    password: &SecretString,
    hashed: Option<&SecretString>,
    nobody: &SecretString,
    verifies: impl FnOnce(&SecretString, &SecretString) -> bool,
) -> bool {
    let right = verifies(password, hashed.unwrap_or(nobody));
    right && hashed.is_some()
}

fn argon2_verifies(password: &SecretString, hashed: &SecretString) -> bool {
    PasswordHash::new(hashed.expose_secret()).is_ok_and(|hash| {
        let password = password.expose_secret().as_bytes();
        Argon2::default().verify_password(password, &hash).is_ok()
    })
}

fn hash(password: &str) -> SecretString {
    Argon2::default()
        .hash_password(password.as_bytes())
        .expect("argon2 takes every password of a possible length")
        .to_string()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_password_that_was_hashed_is_right() {
        let passwords = Passwords::new();
        let hash = passwords
            .hash("correct horse".into())
            .await
            .expect("a turn");
        assert!(hash.expose_secret().starts_with("$argon2id$"));
        for (password, right) in [
            ("correct horse", true),
            ("correct horsf", false),
            ("", false),
        ] {
            let verified = passwords.verify(password.into(), Some(hash.clone())).await;
            assert_eq!(verified, Ok(right));
        }
        assert_eq!(
            passwords.verify("correct horse".into(), None).await,
            Ok(false)
        );
    }

    #[test]
    fn one_hash_is_verified_whether_there_is_an_operator_or_not() {
        let (real, nobody) = (hash("correct horse"), hash("drawn at the start"));
        for (password, hashed, right) in [
            ("correct horse", Some(&real), true),
            ("correct horsf", Some(&real), false),
            ("correct horse", None, false),
            ("drawn at the start", None, false),
        ] {
            let mut verified = Vec::new();
            let answer = is_right(&password.into(), hashed, &nobody, |password, hashed| {
                verified.push(hashed.expose_secret().to_owned());
                argon2_verifies(password, hashed)
            });
            assert_eq!((answer, verified.len()), (right, 1));
            // Of the same cost: everything up to the salt is alike.
            let cost = |hash: &str| hash.split('$').take(4).collect::<String>();
            assert_eq!(cost(&verified[0]), cost(real.expose_secret()));
        }
    }

    #[test]
    fn a_password_is_long_enough() {
        assert!(check_password(&"123456789".into()).is_err());
        assert!(check_password(&"ninechars€".into()).is_ok());
    }
}
