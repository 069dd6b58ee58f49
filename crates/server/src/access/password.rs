//! Operators' passwords: argon2id, on threads of their own with low priority and on at most half the cores, so that
//! sign-ins don't delay events.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::priority_semaphore::PrioritySemaphore;

/// Niceness of threads that hash. Each hash takes 19 MiB and about 20 ms.
const NICE: i32 = 10;
/// How long a password check waits for its permit.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// Number of characters of a password.
const LENGTHS: std::ops::RangeInclusive<usize> = 10..=1000;

/// Hashes and verifies passwords. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Passwords {
    semaphore: PrioritySemaphore,
    /// Hash to compare with if there is no operator of that name, so that the refusal takes as long. Made when it is
    /// first needed, because hashing takes much memory.
    dummy: Arc<OnceLock<SecretString>>,
}

/// Error if too many passwords are being checked and this check's permit did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords are being checked at this moment; try again later")]
pub(crate) struct Busy;

/// Checks a new password, and returns what is wrong with it.
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
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            semaphore: PrioritySemaphore::new((cores / 2).max(1)),
            dummy: Arc::default(),
        }
    }

    /// Returns the hash of a new password as a PHC string. Waits at most [`QUEUE_TIMEOUT`] for its permit, or returns
    /// [`Busy`].
    pub(crate) async fn hash(&self, password: SecretString) -> Result<SecretString, Busy> {
        // Only signed-in operators set passwords, so they go before others.
        self.with_permit(true, move || hash(password.expose_secret()))
            .await
    }

    /// Returns whether `password` is the one that was hashed. Without a hash it returns false, after the same time.
    /// Known callers go before others. Returns [`Busy`] if the permit doesn't come within [`QUEUE_TIMEOUT`].
    pub(crate) async fn verify(
        &self,
        password: SecretString,
        hashed: Option<SecretString>,
        is_known: bool,
    ) -> Result<bool, Busy> {
        let dummy = Arc::clone(&self.dummy);
        self.with_permit(is_known, move || {
            // Made even if it isn't needed, so that the first attempt doesn't take longer for an unknown name.
            let dummy = dummy.get_or_init(|| hash(&hex::encode(rand::random::<[u8; 16]>())));
            is_right(&password, hashed.as_ref(), dummy, argon2_verifies)
        })
        .await
    }

    async fn with_permit<T: Send + 'static>(
        &self,
        is_known: bool,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let permit = timeout(QUEUE_TIMEOUT, self.semaphore.acquire(is_known)).await;
        let permit = permit.map_err(|_| Busy)?.ok_or(Busy)?;
        let (done, result) = oneshot::channel();
        // A new thread, because a thread of a pool would keep the low priority.
        let thread = std::thread::Builder::new().name("password".into());
        let started = thread.spawn(move || {
            // Held by the thread: if the caller goes away, the permit isn't free before the hash is done.
            let _permit = permit;
            lower_priority();
            // The caller may have gone away.
            let _ = done.send(work());
        });
        started.map_err(|_| Busy)?;
        Ok(result.await.expect("hashing does not panic"))
    }
}

/// Lowers the priority of this thread alone, which Linux allows.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "passwords are hashed with the priority of everything else");
    }
}

/// Verifies exactly once, with or without a hash, so that both take as long.
fn is_right(
    password: &SecretString,
    hashed: Option<&SecretString>,
    dummy: &SecretString,
    verifies: impl FnOnce(&SecretString, &SecretString) -> bool,
) -> bool {
    let right = verifies(password, hashed.unwrap_or(dummy));
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
            .expect("a permit");
        assert!(hash.expose_secret().starts_with("$argon2id$"));
        for (password, right) in [
            ("correct horse", true),
            ("correct horsf", false),
            ("", false),
        ] {
            let verified = passwords
                .verify(password.into(), Some(hash.clone()), false)
                .await;
            assert_eq!(verified, Ok(right));
        }
        assert_eq!(
            passwords.verify("correct horse".into(), None, false).await,
            Ok(false)
        );
    }

    #[test]
    fn one_hash_is_verified_whether_there_is_an_operator_or_not() {
        let (real, dummy) = (hash("correct horse"), hash("drawn at the start"));
        for (password, hashed, right) in [
            ("correct horse", Some(&real), true),
            ("correct horsf", Some(&real), false),
            ("correct horse", None, false),
            ("drawn at the start", None, false),
        ] {
            let mut verified = Vec::new();
            let answer = is_right(&password.into(), hashed, &dummy, |password, hashed| {
                verified.push(hashed.expose_secret().to_owned());
                argon2_verifies(password, hashed)
            });
            assert_eq!((answer, verified.len()), (right, 1));
            // The same cost, because both are alike up to the salt.
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
