//! A client of Fanfare's own HTTP API, as an app's backend is one, for `fanfare publish` and the self-check at the
//! start.

use std::time::Duration;

use anyhow::Context;
use fanfare_protocol::signature::{Credential, sign_request};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use crate::clock::unix_seconds;
use crate::failure::{Code, Failure, is_plain_http, request_failed};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Server and credentials for a publish.
#[derive(Debug, Clone)]
pub(crate) struct Backend {
    /// Scheme, host, port and path prefix.
    pub(crate) server: String,
    pub(crate) app_id: String,
    pub(crate) key: String,
    pub(crate) secret: String,
}

/// A signed request, which is valid for ten minutes.
#[derive(Debug)]
pub(crate) struct SignedPublish {
    url: String,
    body: String,
}

impl Backend {
    /// Signs `POST events`.
    pub(crate) fn sign(&self, channel: &str, event: &str, data: &str) -> SignedPublish {
        let body = json!({"name": event, "channel": channel, "data": data}).to_string();
        let path = format!("/apps/{}/events", self.app_id);
        let encoded = format!(
            "/apps/{}/events",
            utf8_percent_encode(&self.app_id, NON_ALPHANUMERIC)
        );
        let credential = Credential {
            key: &self.key,
            secret: &self.secret,
        };
        let query = sign_request(
            "POST",
            &path,
            &[],
            body.as_bytes(),
            credential,
            unix_seconds(),
        );
        SignedPublish {
            url: format!("{}{encoded}?{query}", self.server.trim_end_matches('/')),
            body,
        }
    }

    /// Publishes one event.
    ///
    /// # Errors
    ///
    /// Returns a [`Failure`] with the exit code for the server's status, or for a server that can't be reached.
    pub(crate) async fn publish(
        &self,
        channel: &str,
        event: &str,
        data: &str,
    ) -> anyhow::Result<()> {
        let SignedPublish { url, body } = self.sign(channel, event, data);
        let client = self.client()?;
        let request = client
            .post(url)
            .header("content-type", "application/json")
            .body(body);
        // The error is logged without the URL, because that holds a signature.
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(error.without_url()))?;
        let status = response.status();
        if !status.is_success() {
            let text = response.text().await.unwrap_or_default();
            let message = format!(
                "{} refused the event for app {} with status {status}: {}",
                self.server,
                self.app_id,
                text.trim_end()
            );
            return Err(Failure::new(status.into(), message).into());
        }
        Ok(())
    }
}

impl Backend {
    fn unreachable(&self, error: reqwest::Error) -> Failure {
        if error.is_builder() {
            return Failure::misuse(format!(
                "the server {:?} is no address; write it like http://127.0.0.1:6001",
                self.server
            ));
        }
        let question = if is_plain_http(&error) {
            ""
        } else {
            "; is a server running there? Name another with --server URL"
        };
        let message = format!(
            "cannot publish to {}: {}{question}",
            self.server,
            request_failed(error)
        );
        Failure::new(Code::Unavailable, message)
    }

    fn client(&self) -> anyhow::Result<reqwest::Client> {
        let mut client = reqwest::Client::builder().timeout(REQUEST_TIMEOUT);
        if ["http://127.", "http://localhost", "http://[::1]"]
            .iter()
            .any(|local| self.server.starts_with(local))
        {
            // A proxy would connect to its own loopback address.
            client = client.no_proxy();
        }
        client.build().context("preparing an HTTP client")
    }
}

impl SignedPublish {
    /// Returns the request as a line for a shell.
    pub(crate) fn to_curl(&self) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
        format!(
            "curl -H 'Content-Type: application/json' -d {} {}",
            quoted(&self.body),
            quoted(&self.url)
        )
    }
}
