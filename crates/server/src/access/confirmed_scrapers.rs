//! Tokens that the store confirmed for the metrics a short time ago. They are accepted while the store doesn't answer,
//! because that is when operators need the metrics most.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout};

use crate::admin::problem::Problem;
use crate::clock::unix_seconds;

/// How long a confirmation by the store is good for.
const CONFIRMATION_TTL: Duration = Duration::from_secs(600);
/// How long the store is waited for if the token is among the confirmed ones. A scraper itself waits ten seconds.
const STORE_TIMEOUT: Duration = Duration::from_secs(1);
/// Most tokens that are remembered. The oldest confirmation is dropped first.
const MAX_CONFIRMED: usize = 64;

/// Tokens that were confirmed, as hashes. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConfirmedScrapers {
    /// Oldest confirmation first.
    confirmed: Arc<Mutex<VecDeque<Confirmed>>>,
}

#[derive(Debug, Clone, Copy)]
struct Confirmed {
    token_hash: [u8; 32],
    at: Instant,
    /// When the token expires, Unix time in seconds.
    expires_at: u64,
}

impl ConfirmedScrapers {
    /// Checks a token with `ask_store`, which returns when the token expires (Unix time in seconds). If the store
    /// doesn't answer, accepts the token if the store confirmed it within [`CONFIRMATION_TTL`].
    pub(super) async fn check(
        &self,
        token: &str,
        ask_store: impl Future<Output = Result<u64, Problem>>,
    ) -> Result<(), Problem> {
        let token_hash = Sha256::digest(token).into();
        let is_confirmed = self.contains(&token_hash);
        let answer = if is_confirmed {
            match timeout(STORE_TIMEOUT, ask_store).await {
                Ok(answer) => answer,
                Err(_) => return Ok(()),
            }
        } else {
            ask_store.await
        };
        match answer {
            Ok(expires_at) => {
                self.insert(token_hash, expires_at);
                Ok(())
            }
            Err(problem) if problem.status() == StatusCode::SERVICE_UNAVAILABLE => {
                is_confirmed.then_some(()).ok_or(problem)
            }
            Err(problem) => {
                self.remove(&token_hash);
                Err(problem)
            }
        }
    }

    fn contains(&self, token_hash: &[u8; 32]) -> bool {
        let confirmed = self.confirmed.lock();
        let found = confirmed
            .iter()
            .find(|confirmed| confirmed.token_hash == *token_hash);
        found.is_some_and(|confirmed| {
            confirmed.at.elapsed() < CONFIRMATION_TTL && confirmed.expires_at > unix_seconds()
        })
    }

    fn insert(&self, token_hash: [u8; 32], expires_at: u64) {
        self.remove(&token_hash);
        let mut confirmed = self.confirmed.lock();
        if confirmed.len() >= MAX_CONFIRMED {
            confirmed.pop_front();
        }
        confirmed.push_back(Confirmed {
            token_hash,
            at: Instant::now(),
            expires_at,
        });
    }

    fn remove(&self, token_hash: &[u8; 32]) {
        let mut confirmed = self.confirmed.lock();
        confirmed.retain(|confirmed| confirmed.token_hash != *token_hash);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    async fn confirmed(token: &str) -> ConfirmedScrapers {
        let scrapers = ConfirmedScrapers::default();
        let answer = ready(Ok(unix_seconds() + 3600));
        scrapers.check(token, answer).await.expect("confirmed");
        scrapers
    }

    fn away() -> impl Future<Output = Result<u64, Problem>> {
        ready(Err(Problem::unavailable("the store does not answer")))
    }

    #[tokio::test(start_paused = true)]
    async fn a_confirmed_token_is_accepted_while_the_store_is_away() {
        let scrapers = confirmed("a").await;
        assert!(scrapers.check("a", away()).await.is_ok());
        let asked = Instant::now();
        assert!(scrapers.check("a", pending()).await.is_ok());
        assert!(asked.elapsed() <= STORE_TIMEOUT + Duration::from_millis(10));
        assert!(scrapers.check("b", away()).await.is_err());
        tokio::time::advance(CONFIRMATION_TTL).await;
        assert!(scrapers.check("a", away()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_revoked_token_is_refused_once_the_store_answers() {
        let scrapers = confirmed("a").await;
        let revoked = ready(Err(Problem::unauthorized("revoked")));
        assert!(scrapers.check("a", revoked).await.is_err());
        assert!(scrapers.check("a", away()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_has_expired_meanwhile_is_refused() {
        let scrapers = ConfirmedScrapers::default();
        let confirmed = scrapers.check("a", ready(Ok(unix_seconds()))).await;
        assert!(confirmed.is_ok());
        assert!(scrapers.check("a", away()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_confirmation_makes_room() {
        let scrapers = confirmed("first").await;
        for number in 0..MAX_CONFIRMED {
            let answer = ready(Ok(unix_seconds() + 3600));
            let checked = scrapers.check(&number.to_string(), answer).await;
            assert!(checked.is_ok());
        }
        assert_eq!(scrapers.confirmed.lock().len(), MAX_CONFIRMED);
        assert!(scrapers.check("first", away()).await.is_err());
        assert!(scrapers.check("0", away()).await.is_ok());
    }
}
