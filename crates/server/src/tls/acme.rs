//! Certificates from an ACME server (RFC 8555), such as Let's Encrypt: ordered by one node, served by all.
//!
//! | file | content |
//! |---|---|
//! | `account` | the account with the server, and the HTTP client |
//! | `challenges` | what this node answers when the server looks whether it serves a name |
//! | `order` | one order, from its names to its certificate |
//! | `schedule` | when to order, and when again after a failure |
//!
//! All that nodes share is in the store. A node looks there every [`TICK`], so it serves a certificate and answers a
//! challenge of another node within that time.

use std::time::Duration;

use fanfare_store::{AcmeCertificate, AcmeChallenge, AcmeOrder, AcmeState, Store, StoreError};
use instant_acme::ChallengeType;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::clock::unix_millis as now;
use crate::config::AcmeConfig;
use crate::throttle::Throttle;
use crate::tls::certificate::Certificate;
use crate::tls::{AcmeChallenges, Certificates, Tls};

mod account;
pub(super) mod challenges;
mod order;
mod schedule;

use order::Ordered;
use schedule::{back_off, renewal};

/// How often a node looks what other nodes have ordered or answer for.
const TICK: Duration = Duration::from_secs(2);
/// How long an order may take that isn't renewed: then another node takes over.
const LEASE: Duration = Duration::from_secs(30);
/// How often the node that orders renews its lease.
const RENEW: Duration = Duration::from_secs(10);
/// How long challenges are answered that nobody ends.
const CHALLENGES_VALID: Duration = Duration::from_secs(10 * 60);
/// Least time between two log lines about a store that can't be read.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Checks what an order needs besides the ACME server, so that a server doesn't start that could never order. Errors are in words.
pub(super) fn check(config: &AcmeConfig) -> Result<(), String> {
    match config.is_on() {
        true => account::authorities(config).map(drop),
        false => Ok(()),
    }
}

/// The certificate that is ordered from an ACME server, on this node.
pub(crate) struct Acme {
    config: AcmeConfig,
    names: Vec<String>,
    order: AcmeOrder,
    store: Store,
    /// Name of this process, unlike that of its predecessor.
    node: String,
    /// Whether other nodes answer challenges too, and must know of them first.
    has_others: bool,
    certificates: Certificates,
    challenges: AcmeChallenges,
    /// When the served certificate was saved, Unix time in milliseconds.
    served: Option<i64>,
}

/// How an order ends that its node hasn't lost.
type Outcome = Result<Ordered, String>;

impl Acme {
    /// Begins to serve the certificate that the store holds, if it holds one.
    ///
    /// # Errors
    ///
    /// Returns the store's error.
    pub(crate) async fn start(
        config: AcmeConfig,
        store: Store,
        node: String,
        has_others: bool,
        tls: &Tls,
    ) -> Result<Self, StoreError> {
        let names = config.names();
        let mut acme = Self {
            order: AcmeOrder::new(&config.directory, &names),
            config,
            names,
            store,
            node,
            has_others,
            certificates: tls.certificates.clone(),
            challenges: tls.challenges.clone(),
            served: None,
        };
        let state = acme.store.acme_state(&acme.order).await?;
        acme.follow_certificate(&state).await?;
        if acme.served.is_none() {
            tracing::info!(
                domains = acme.names.join(", "),
                directory = acme.config.directory,
                "there is no certificate yet: it is ordered now, and TLS connections fail until it is there"
            );
        }
        Ok(acme)
    }

    /// Orders and serves until the process ends.
    pub(crate) async fn run(mut self) {
        let log_throttle = Throttle::new(LOG_INTERVAL);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.turn().await
                && log_throttle.may_pass()
            {
                tracing::warn!(%error, "the store cannot be asked for certificates of the ACME server: the one before stays");
            }
        }
    }

    async fn turn(&mut self) -> Result<(), StoreError> {
        self.challenges.follow(&self.store.acme_challenges().await?);
        let state = self.store.acme_state(&self.order).await?;
        self.follow_certificate(&state).await?;
        self.certificates.note_failed_orders(
            &self.names,
            state.failures,
            state.last_error.as_deref(),
        );
        let lease = LEASE.as_millis() as i64;
        let is_due = |state: &AcmeState| state.due_at <= now();
        if !is_due(&state)
            || !self
                .store
                .lease_acme_order(&self.order, &self.node, lease)
                .await?
        {
            return Ok(());
        }
        // Another node may have ordered it before this one had the lease.
        let state = self.store.acme_state(&self.order).await?;
        if !is_due(&state) {
            let (order, node) = (&self.order, &self.node);
            return self.store.defer_acme_order(order, node, state.due_at).await;
        }
        tokio::select! {
            settled = self.settle(&state) => settled?,
            () = self.lose_lease() => {
                tracing::warn!("another node orders the certificate now: this one could not renew its lease in time");
            }
        }
        let state = self.store.acme_state(&self.order).await?;
        self.follow_certificate(&state).await
    }

    /// Serves the certificate of the store, if it is another one than before.
    async fn follow_certificate(&mut self, state: &AcmeState) -> Result<(), StoreError> {
        if state.issued_at == self.served {
            return Ok(());
        }
        let Some(found) = self.store.acme_certificate(&self.order).await? else {
            return Ok(());
        };
        self.served = Some(found.issued_at);
        let key = found.private_key.expose_secret();
        match Certificate::from_pem(found.chain.as_bytes(), key.as_bytes()) {
            Ok(certificate) => {
                tracing::info!(
                    domains = self.names.join(", "),
                    serial = certificate.facts.serial,
                    not_after = super::certificate::shown(certificate.facts.not_after),
                    "new connections get the certificate of the ACME server"
                );
                self.certificates.set_managed(&self.names, certificate);
            }
            Err(error) => {
                tracing::error!(%error, "the certificate of the ACME server cannot be served, and the one before stays");
            }
        }
        Ok(())
    }

    /// Returns once this node may no longer order.
    async fn lose_lease(&self) {
        let lease = LEASE.as_millis() as i64;
        let mut failed = Duration::ZERO;
        loop {
            sleep(RENEW).await;
            match self
                .store
                .lease_acme_order(&self.order, &self.node, lease)
                .await
            {
                Ok(true) => failed = Duration::ZERO,
                Ok(false) => return,
                // As long as the store is away, no other node gets the lease either.
                Err(_) if failed + RENEW < LEASE => failed += RENEW,
                Err(_) => return,
            }
        }
    }

    /// Orders the certificate, or finds out that it isn't time yet, and writes down what became of it.
    async fn settle(&self, state: &AcmeState) -> Result<(), StoreError> {
        let (order, node) = (&self.order, &self.node);
        match self.obtain(state).await {
            Ok(Ordered::NotYet { due_at }) => {
                self.store.defer_acme_order(order, node, due_at).await
            }
            Ok(Ordered::Issued { chain, key }) => self.save(chain, key).await,
            Err(error) => self.fail(state, &error).await,
        }
    }

    async fn obtain(&self, state: &AcmeState) -> Outcome {
        let stored = self.store.acme_certificate(&self.order).await;
        let present = stored.map_err(|error| error.to_string())?;
        let account = account::open(&self.config, &self.store).await?;
        let replaced = match &present {
            None => None,
            Some(present) => match renewal(&account, present).await? {
                Ok(replaced) => replaced,
                Err(due_at) => return Ok(Ordered::NotYet { due_at }),
            },
        };
        // A server may refuse that a certificate is replaced twice, so only the first attempt says what it replaces.
        let replaced = replaced.filter(|_| state.failures == 0);
        let kind = self.config.challenge.of_attempt(state.failures);
        tracing::info!(
            domains = self.names.join(", "),
            directory = self.config.directory,
            challenge = order::name(&kind),
            "the certificate order begins on this node"
        );
        let (mut order, asked) =
            order::begin(&account, &self.names, &self.config.profile, replaced, &kind).await?;
        self.publish(&asked).await?;
        let ordered = order::complete(&mut order, &kind).await;
        if let Err(error) = self.store.delete_acme_challenges(&asked).await {
            tracing::debug!(%error, "challenges are answered until they expire");
        }
        ordered.map_err(|error| Self::advise(&kind, &error))
    }

    /// Makes all nodes answer challenges.
    async fn publish(&self, challenges: &[AcmeChallenge]) -> Result<(), String> {
        let valid = CHALLENGES_VALID.as_millis() as i64;
        self.store
            .add_acme_challenges(challenges, valid)
            .await
            .map_err(|error| error.to_string())?;
        self.challenges.add(challenges);
        if self.has_others && !challenges.is_empty() {
            // The server may ask any node.
            sleep(2 * TICK).await;
        }
        Ok(())
    }

    /// Adds to an error how the server reaches this node, because that is what fails most.
    fn advise(kind: &ChallengeType, error: &str) -> String {
        let port = match kind {
            ChallengeType::Http01 => {
                "port 80 of each domain must lead to the plain port of this server (listen)"
            }
            _ => {
                "port 443 of each domain must lead to its TLS port (tls.listen), with nothing that ends TLS before it"
            }
        };
        format!("{error} (challenge {}; {port})", order::name(kind))
    }

    async fn save(&self, chain: String, key: String) -> Result<(), StoreError> {
        let (not_before, not_after) = match Certificate::from_pem(chain.as_bytes(), key.as_bytes())
        {
            Ok(issued) => (issued.facts.not_before, issued.facts.not_after),
            Err(error) => {
                let state = self.store.acme_state(&self.order).await?;
                let error =
                    format!("the server issued a certificate that cannot be served: {error}");
                return self.fail(&state, &error).await;
            }
        };
        let issued = AcmeCertificate {
            chain,
            private_key: key.into(),
            issued_at: now(),
        };
        let due_at = schedule::two_thirds(not_before, not_after, rand::random());
        let (order, node) = (&self.order, &self.node);
        // Sooner, to ask an ACME server that says itself when to renew.
        let due_at = due_at.min(now() + schedule::LOOK.as_millis() as i64);
        let saved = self
            .store
            .save_acme_certificate(order, node, &issued, due_at)
            .await?;
        if saved {
            tracing::info!(
                domains = self.names.join(", "),
                "the ACME server has issued a certificate"
            );
        }
        Ok(())
    }

    async fn fail(&self, state: &AcmeState, error: &str) -> Result<(), StoreError> {
        let not_after = self.certificates.managed_until(&self.names);
        let left = not_after
            .map(|until| Duration::from_secs(until.saturating_sub(now() / 1000).max(0) as u64));
        let pause = back_off(state.failures, error, left, rand::random());
        let due_at = now() + pause.as_millis() as i64;
        let again =
            Timestamp::from_millisecond(due_at).map_or_else(|_| String::new(), |at| at.to_string());
        let days_left = not_after.map(|until| super::days_left(until).floor());
        tracing::error!(
            domains = self.names.join(", "),
            directory = self.config.directory,
            error,
            days_left,
            again,
            "the certificate could not be ordered: the one before stays, if there is one (tls.acme)"
        );
        let (order, node) = (&self.order, &self.node);
        self.store.fail_acme_order(order, node, error, due_at).await
    }
}
