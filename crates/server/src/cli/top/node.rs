//! One node: its metrics now and a moment ago.

use std::time::Duration;

use reqwest::header::ACCEPT;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::rates::Rates;
use crate::failure::{Code, Failure, read_body, request_failed};
use crate::metrics::Document;

/// How many apps are compared. More would take longer to read than the time between two looks.
const APPS: usize = 2000;
/// Most bytes of an answer. Those of [`APPS`] apps take a few MiB.
const MAX_ANSWER: usize = 64 << 20;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A node that is looked at.
#[derive(Debug)]
pub(super) struct Node {
    /// Address as the user gave it, without a trailing slash.
    pub(super) url: String,
    token: Option<SecretString>,
    client: Client,
    last: Option<(Instant, Document)>,
    /// What the last look found, or why it found nothing.
    pub(super) state: Result<Option<Rates>, Failure>,
}

impl Node {
    pub(super) fn new(url: String, token: Option<SecretString>) -> anyhow::Result<Self> {
        let mut client = Client::builder()
            .user_agent(concat!("fanfare/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .timeout(REQUEST_TIMEOUT);
        let local = ["http://127.", "http://localhost", "http://[::1]"];
        if local.iter().any(|local| url.starts_with(local)) {
            // A proxy would connect to its own loopback address.
            client = client.no_proxy();
        }
        Ok(Self {
            url,
            token,
            client: client.build()?,
            last: None,
            state: Ok(None),
        })
    }

    /// Reads the node's metrics and compares them with those of the last time.
    pub(super) async fn look(&mut self) {
        let now = Instant::now();
        match self.fetch().await {
            Err(reason) => {
                self.last = None;
                self.state = Err(reason);
            }
            Ok(document) => {
                let rates = self.last.as_ref().map(|(then, before)| {
                    Rates::between(before, &document, now.duration_since(*then))
                });
                self.state = Ok(rates);
                self.last = Some((now, document));
            }
        }
    }

    async fn fetch(&self) -> Result<Document, Failure> {
        let unavailable = |reason: String| Failure::new(Code::Unavailable, reason);
        let mut request = self
            .client
            .get(format!("{}/metrics?apps={APPS}", self.url))
            .header(ACCEPT, "application/json");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        let response = request.send().await;
        let response = response.map_err(|error| unavailable(request_failed(error)))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(Failure::new(
                    Code::Refused,
                    "the token is missing, invalid, or not for metrics",
                ));
            }
            StatusCode::NOT_FOUND => {
                return Err(unavailable(
                    "no metrics there: with ops.listen they are at that address".into(),
                ));
            }
            status => return Err(unavailable(status.to_string())),
        }
        let body = read_body(response, MAX_ANSWER).await.map_err(unavailable)?;
        serde_json::from_slice(&body)
            .map_err(|_| unavailable("it answers, but not as a Fanfare server".into()))
    }
}
