//! The account with an ACME server, and the client that asks it.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use fanfare_store::Store;
use hyper::{Request, Response};
use instant_acme::{
    Account, AccountBuilder, AccountCredentials, BodyWrapper, BytesResponse, Error, HttpClient,
    NewAccount,
};
use secrecy::ExposeSecret;

use crate::config::AcmeConfig;
use crate::tls::read_pem;

/// How long the server may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Returns the account of this installation, which is created if there is none. Errors are in words.
pub(super) async fn open(config: &AcmeConfig, store: &Store) -> Result<Account, String> {
    let builder = builder(config)?;
    let known = store.acme_account(&config.directory).await;
    if let Some(credentials) = known.map_err(|error| error.to_string())? {
        let credentials: AccountCredentials = serde_json::from_str(credentials.expose_secret())
            .map_err(|error| format!("the account's credentials cannot be read: {error}"))?;
        let account = builder.from_credentials(credentials).await;
        return account.map_err(|error| in_words("the account was not opened", &error));
    }
    create(builder, config, store).await
}

async fn create(
    builder: AccountBuilder,
    config: &AcmeConfig,
    store: &Store,
) -> Result<Account, String> {
    let contact = format!("mailto:{}", config.email);
    let contacts = [contact.as_str()];
    let new = NewAccount {
        contact: if config.email.is_empty() {
            &[]
        } else {
            &contacts
        },
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let created = builder.create(&new, config.directory.clone(), None).await;
    let (account, credentials) =
        created.map_err(|error| in_words("no account was created", &error))?;
    let credentials = serde_json::to_string(&credentials).map_err(|error| error.to_string())?;
    store
        .set_acme_account(&config.directory, &credentials.into())
        .await
        .map_err(|error| error.to_string())?;
    Ok(account)
}

fn builder(config: &AcmeConfig) -> Result<AccountBuilder, String> {
    let mut client = reqwest::Client::builder().timeout(TIMEOUT).https_only(true);
    for root in authorities(config)? {
        client = client.add_root_certificate(root);
    }
    let client = client.build().map_err(|error| error.to_string())?;
    Ok(Account::builder_with_http(Box::new(Client(client))))
}

/// Returns the authorities that the ACME server's own certificate may come from besides the usual ones. Errors are in words.
pub(super) fn authorities(config: &AcmeConfig) -> Result<Vec<reqwest::Certificate>, String> {
    if config.directory_ca.as_os_str().is_empty() {
        return Ok(vec![]);
    }
    let file = config.directory_ca.display();
    let pem = read_pem(&config.directory_ca)
        .map_err(|error| format!("{file} cannot be read (tls.acme.directory_ca): {error}"))?;
    let roots = reqwest::Certificate::from_pem_bundle(&pem)
        .ok()
        .filter(|roots| !roots.is_empty());
    roots.ok_or_else(|| {
        format!(
            "{file} has no certificate (tls.acme.directory_ca): it must be PEM, with -----BEGIN CERTIFICATE-----"
        )
    })
}

/// The program's HTTP client, as the ACME library asks it.
struct Client(reqwest::Client);

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let request = request.map(reqwest::Body::wrap);
            let request = request
                .try_into()
                .map_err(|error| Error::Other(Box::new(error)))?;
            let answer = client.execute(request).await;
            let answer = answer.map_err(|error| Error::Other(Box::new(error)))?;
            Ok(BytesResponse::from(Response::from(answer)))
        })
    }
}

/// Returns what failed and why. Problems of the server are quoted, other errors are followed to their cause.
pub(super) fn in_words(what: &str, error: &Error) -> String {
    let mut text = format!("{what}: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let reason = error.to_string();
        if !text.contains(&reason) {
            text.push_str(": ");
            text.push_str(&reason);
        }
        cause = error.source();
    }
    text
}
