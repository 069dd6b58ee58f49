//! Signed requests, as a backend sends them.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use fanfare_protocol::signature::{Credential, sign_request};
use serde_json::{Value, json};

/// An app's credentials at a server.
#[derive(Debug, Clone)]
pub struct Api {
    client: reqwest::Client,
    server: String,
    app: String,
    key: String,
    secret: String,
}

/// An answer of the HTTP API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The `Content-Type`.
    pub content_type: String,
    /// The body as text.
    pub text: String,
}

impl Answer {
    /// Returns the body as JSON. The status must be 200.
    #[must_use]
    pub fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        serde_json::from_str(&self.text).unwrap()
    }
}

/// Returns the Unix time in seconds.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

impl Api {
    /// Returns a client that calls `server` as the backend of an app.
    #[must_use]
    pub fn new(server: SocketAddr, app: &str, key: &str, secret: &str) -> Self {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            client,
            server: format!("http://{server}"),
            app: app.into(),
            key: key.into(),
            secret: secret.into(),
        }
    }

    /// Returns the path of an endpoint of the app.
    #[must_use]
    pub fn path(&self, endpoint: &str) -> String {
        format!("/apps/{}/{endpoint}", self.app)
    }

    /// Returns a signed query. `now` is the Unix time in seconds.
    #[must_use]
    pub fn sign(
        &self,
        method: &str,
        endpoint: &str,
        query: &[(&str, &str)],
        body: &[u8],
        now: u64,
    ) -> String {
        let credential = Credential {
            key: &self.key,
            secret: &self.secret,
        };
        sign_request(method, &self.path(endpoint), query, body, credential, now)
    }

    /// Sends a signed `GET`.
    pub async fn get(&self, endpoint: &str, query: &[(&str, &str)]) -> Answer {
        let signed = self.sign("GET", endpoint, query, b"", now());
        self.send(
            "GET",
            &format!("{}?{signed}", self.path(endpoint)),
            Vec::new(),
        )
        .await
    }

    /// Sends a signed `POST`.
    pub async fn post(&self, endpoint: &str, body: impl Into<Vec<u8>>) -> Answer {
        let body = body.into();
        let signed = self.sign("POST", endpoint, &[], &body, now());
        self.send("POST", &format!("{}?{signed}", self.path(endpoint)), body)
            .await
    }

    /// Sends a signed `POST` with an `Idempotency-Key`.
    pub async fn post_once(&self, endpoint: &str, key: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.post_with(endpoint, ("idempotency-key", key), body)
            .await
    }

    /// Sends a signed `POST` with one more header.
    pub async fn post_with(
        &self,
        endpoint: &str,
        (name, value): (&str, &str),
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        let body = body.into();
        let signed = self.sign("POST", endpoint, &[], &body, now());
        let request = self
            .client
            .post(format!("{}{}?{signed}", self.server, self.path(endpoint)));
        Self::answer(request.header(name, value).body(body)).await
    }

    /// Publishes an event, which must be accepted.
    pub async fn publish(&self, channel: &str, name: &str, data: &str) {
        let answer = self
            .post(
                "events",
                json!({"name": name, "channels": [channel], "data": data}).to_string(),
            )
            .await;
        assert_eq!((answer.status, answer.text.as_str()), (200, "{}"));
    }

    /// Sends a request as it is, without signing it.
    pub async fn send(&self, method: &str, path: &str, body: Vec<u8>) -> Answer {
        let request = self
            .client
            .request(method.parse().unwrap(), format!("{}{path}", self.server));
        Self::answer(
            request
                .header("content-type", "application/json")
                .body(body),
        )
        .await
    }

    async fn answer(request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        Answer {
            status: response.status().as_u16(),
            content_type: response
                .headers()
                .get("content-type")
                .map_or("", |value| value.to_str().unwrap())
                .to_owned(),
            text: response.text().await.unwrap(),
        }
    }
}
