//! Accounts, certificates and challenges of ACME servers (RFC 8555). Of several nodes, the one with the lease orders a
//! certificate, all serve it, and all answer the challenges.

use secrecy::{ExposeSecret, SecretString};

use crate::database::Store;
use crate::dialect::{execute, execute_alone, on_db};
use crate::error::StoreError;
use crate::row::from_row;

const ACCOUNT: &str = "SELECT credentials FROM acme_accounts WHERE directory = $1";
const SET_ACCOUNT: &str = "INSERT INTO acme_accounts (directory, credentials) VALUES ($1, $2) \
                           ON CONFLICT (directory) DO UPDATE SET credentials = excluded.credentials";
const BEGIN: &str = "INSERT INTO acme_certificates (directory, names, due_at) VALUES ($1, $2, 0) \
                     ON CONFLICT (directory, names) DO NOTHING";
const STATE: &str = "SELECT issued_at, due_at, failures, last_error FROM acme_certificates \
                     WHERE directory = $1 AND names = $2";
const CERTIFICATE: &str = "SELECT chain, private_key, issued_at FROM acme_certificates \
                           WHERE directory = $1 AND names = $2 AND chain IS NOT NULL";
const LEASE: &str = "UPDATE acme_certificates SET leased_by = $3, leased_until = $4 \
                     WHERE directory = $1 AND names = $2 AND (leased_by IS NULL OR leased_by = $3 OR leased_until <= $5)";
const SAVE: &str = "UPDATE acme_certificates SET chain = $4, private_key = $5, issued_at = $6, due_at = $7, failures = 0, \
                           last_error = NULL, leased_by = NULL, leased_until = NULL \
                    WHERE directory = $1 AND names = $2 AND leased_by = $3";
const FAIL: &str = "UPDATE acme_certificates SET due_at = $4, failures = failures + 1, last_error = $5, leased_by = NULL, \
                           leased_until = NULL \
                    WHERE directory = $1 AND names = $2 AND leased_by = $3";
const DEFER: &str = "UPDATE acme_certificates SET due_at = $4, leased_by = NULL, leased_until = NULL \
                     WHERE directory = $1 AND names = $2 AND leased_by = $3";
const CHALLENGES: &str =
    "SELECT token, name, key_authorization FROM acme_challenges WHERE expires_at > $1";
const ADD_CHALLENGE: &str = "INSERT INTO acme_challenges (token, name, key_authorization, expires_at) VALUES ($1, $2, $3, $4) \
                             ON CONFLICT (token) DO UPDATE SET name = excluded.name, \
                                 key_authorization = excluded.key_authorization, expires_at = excluded.expires_at";
const DELETE_CHALLENGE: &str = "DELETE FROM acme_challenges WHERE token = $1 OR expires_at <= $2";

/// Which certificate: the ACME server that issues it, by the URL of its directory, and the names that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeOrder {
    directory: String,
    /// Sorted, with commas between.
    names: String,
}

/// When a certificate is ordered next, and what became of the last orders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AcmeState {
    /// When the certificate was saved, Unix time in milliseconds; `None` before the first.
    pub issued_at: Option<i64>,
    /// When to order, Unix time in milliseconds.
    pub due_at: i64,
    /// Orders that failed since the last one that didn't.
    pub failures: i64,
    /// Why the last order failed, if it did.
    pub last_error: Option<String>,
}

from_row!(row => AcmeState { issued_at, due_at, failures, last_error });

/// A certificate as PEM, with its key.
#[derive(Debug, Clone)]
pub struct AcmeCertificate {
    /// The certificate, followed by those of its issuers.
    pub chain: String,
    /// Its private key.
    pub private_key: SecretString,
    /// When it was saved, Unix time in milliseconds.
    pub issued_at: i64,
}

struct SealedCertificate {
    chain: String,
    private_key: Vec<u8>,
    issued_at: i64,
}

from_row!(row => SealedCertificate { chain, private_key, issued_at });

/// What a node answers to an ACME server that looks whether it serves a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeChallenge {
    /// The last segment of the path at which an answer over HTTP is looked for.
    pub token: String,
    /// The name that is looked at.
    pub name: String,
    /// The answer.
    pub key_authorization: String,
}

from_row!(row => AcmeChallenge { token, name, key_authorization });

impl AcmeOrder {
    /// Names a certificate. The order of `names` doesn't matter.
    #[must_use]
    pub fn new(directory: &str, names: &[String]) -> Self {
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        Self {
            directory: directory.to_owned(),
            names: names.join(","),
        }
    }

    fn context(&self) -> String {
        certificate_context(&self.directory, &self.names)
    }
}

impl Store {
    /// Returns the credentials of the account with an ACME server, if there is one.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::WrongMasterKey`] if they don't open, or the database's error.
    pub async fn acme_account(&self, directory: &str) -> Result<Option<SecretString>, StoreError> {
        let sealed: Option<(Vec<u8>,)> = on_db!(&self.db, pool => sqlx::query_as(ACCOUNT)
            .bind(directory).fetch_optional(pool).await)?;
        let open = |(sealed,): (Vec<u8>,)| self.open_acme(&sealed, &account_context(directory));
        sealed.map(open).transpose()
    }

    /// Keeps the credentials of the account with an ACME server.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn set_acme_account(
        &self,
        directory: &str,
        credentials: &SecretString,
    ) -> Result<(), StoreError> {
        let context = account_context(directory);
        let sealed = self.master_key.seal(credentials.expose_secret(), &context);
        execute_alone!(&self.db, SET_ACCOUNT, directory, sealed)?;
        Ok(())
    }

    /// Returns when a certificate is ordered next. Without any order, it is due since ever.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn acme_state(&self, order: &AcmeOrder) -> Result<AcmeState, StoreError> {
        let state: Option<AcmeState> = on_db!(&self.db, pool => sqlx::query_as(STATE)
            .bind(&order.directory).bind(&order.names).fetch_optional(pool).await)?;
        Ok(state.unwrap_or_default())
    }

    /// Returns a certificate, if it was issued.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::WrongMasterKey`] if its key doesn't open, or the database's error.
    pub async fn acme_certificate(
        &self,
        order: &AcmeOrder,
    ) -> Result<Option<AcmeCertificate>, StoreError> {
        let sealed: Option<SealedCertificate> = on_db!(&self.db, pool => sqlx::query_as(CERTIFICATE)
            .bind(&order.directory).bind(&order.names).fetch_optional(pool).await)?;
        let open = |sealed: SealedCertificate| {
            Ok(AcmeCertificate {
                private_key: self.open_acme(&sealed.private_key, &order.context())?,
                chain: sealed.chain,
                issued_at: sealed.issued_at,
            })
        };
        sealed.map(open).transpose()
    }

    /// Makes `node` the only one that orders a certificate, for `lease_ms` by the database's clock. Returns whether it is:
    /// another one may hold the lease. Called again, it renews the lease. `node` must name the process: a node that starts
    /// again has another name.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn lease_acme_order(
        &self,
        order: &AcmeOrder,
        node: &str,
        lease_ms: i64,
    ) -> Result<bool, StoreError> {
        let clock = self.clock().await?;
        let (directory, names) = (&order.directory, &order.names);
        execute_alone!(&self.db, BEGIN, directory, names)?;
        let until = clock.saturating_add(lease_ms);
        let leased = execute_alone!(&self.db, LEASE, directory, names, node, until, clock)?;
        Ok(leased > 0)
    }

    /// Saves a certificate that `node` has ordered, instead of the one before it, and ends its lease. It is ordered again at
    /// `due_at`. Times are Unix milliseconds. Returns whether the node had the lease; nothing was saved otherwise.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn save_acme_certificate(
        &self,
        order: &AcmeOrder,
        node: &str,
        certificate: &AcmeCertificate,
        due_at: i64,
    ) -> Result<bool, StoreError> {
        let private_key = certificate.private_key.expose_secret();
        let sealed = self.master_key.seal(private_key, &order.context());
        let saved = execute_alone!(
            &self.db,
            SAVE,
            &order.directory,
            &order.names,
            node,
            &certificate.chain,
            sealed,
            certificate.issued_at,
            due_at
        )?;
        Ok(saved > 0)
    }

    /// Notes that an order of `node` failed, and ends its lease. The certificate before it stays. It is ordered again at
    /// `due_at`, Unix time in milliseconds.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn fail_acme_order(
        &self,
        order: &AcmeOrder,
        node: &str,
        error: &str,
        due_at: i64,
    ) -> Result<(), StoreError> {
        let (directory, names) = (&order.directory, &order.names);
        execute_alone!(&self.db, FAIL, directory, names, node, due_at, error)?;
        Ok(())
    }

    /// Orders a certificate at another time, Unix time in milliseconds, and ends the lease of `node`.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn defer_acme_order(
        &self,
        order: &AcmeOrder,
        node: &str,
        due_at: i64,
    ) -> Result<(), StoreError> {
        let (directory, names) = (&order.directory, &order.names);
        execute_alone!(&self.db, DEFER, directory, names, node, due_at)?;
        Ok(())
    }

    /// Returns the challenges that all nodes answer for now.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn acme_challenges(&self) -> Result<Vec<AcmeChallenge>, StoreError> {
        let clock = self.clock().await?;
        Ok(on_db!(&self.db, pool => sqlx::query_as(CHALLENGES).bind(clock).fetch_all(pool).await)?)
    }

    /// Makes all nodes answer challenges, for `valid_ms` at most.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn add_acme_challenges(
        &self,
        challenges: &[AcmeChallenge],
        valid_ms: i64,
    ) -> Result<(), StoreError> {
        let until = self.clock().await?.saturating_add(valid_ms);
        let mut tx = self.db.begin().await?;
        for challenge in challenges {
            let AcmeChallenge {
                token,
                name,
                key_authorization,
            } = challenge;
            execute!(
                &mut tx,
                ADD_CHALLENGE,
                token,
                name,
                key_authorization,
                until
            )?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Ends challenges, and those that should have ended before.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn delete_acme_challenges(
        &self,
        challenges: &[AcmeChallenge],
    ) -> Result<(), StoreError> {
        let clock = self.clock().await?;
        for challenge in challenges {
            execute_alone!(&self.db, DELETE_CHALLENGE, &challenge.token, clock)?;
        }
        Ok(())
    }

    fn open_acme(&self, sealed: &[u8], context: &str) -> Result<SecretString, StoreError> {
        let opened = self.master_key.open(sealed, context);
        opened
            .map(SecretString::from)
            .map_err(|_| StoreError::WrongMasterKey)
    }
}

pub(crate) fn account_context(directory: &str) -> String {
    format!("acme_account/{directory}")
}

pub(crate) fn certificate_context(directory: &str, names: &str) -> String {
    format!("acme_certificate/{directory}/{names}")
}
