//! A client of the admin API, signed in or with an API token.

use std::net::{IpAddr, SocketAddr};

use reqwest::header::HeaderMap;
use serde_json::{Value, json};

/// Name of a test server's first operator.
pub const OWNER: &str = "owner";
/// Password of the first operator, if the server is started with [`OWNER_SETTING`].
pub const PASSWORD: &str = "the-owners-password";
/// Setting that sets this password.
pub const OWNER_SETTING: &str = "owner.password=the-owners-password";

/// A caller of the admin API.
#[derive(Debug, Clone)]
pub struct Admin {
    client: reqwest::Client,
    server: String,
    token: Option<String>,
    headers: Vec<(String, String)>,
}

/// An answer, as it came.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub text: String,
}

impl Reply {
    /// Returns the body as JSON, whatever the status, or null if it isn't JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// Returns the body as JSON. The status must be this one.
    #[expect(
        clippy::must_use_candidate,
        reason = "often the status is all that matters"
    )]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.json()
    }

    /// Returns the problem's code. The status must be this one, and the body must be problem details that agree with
    /// it.
    pub fn problem(&self, status: u16) -> String {
        let body = self.expect(status);
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{self:?}"
        );
        assert_eq!(body["status"], status, "{self:?}");
        let code = body["code"].as_str().unwrap().to_owned();
        assert_eq!(body["type"], format!("urn:fanfare:problem:{code}"));
        for field in ["title", "detail"] {
            assert!(!body[field].as_str().unwrap().is_empty(), "{self:?}");
        }
        code
    }

    /// Returns a header, or an empty text.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// Returns a field that must be text.
#[must_use]
pub fn text(value: &Value, field: &str) -> String {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("no text {field:?} in {value}"))
        .to_owned()
}

impl Admin {
    /// Returns a caller without a token.
    #[must_use]
    pub fn nobody(server: SocketAddr) -> Self {
        Self {
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            server: format!("http://{server}"),
            token: None,
            headers: Vec::new(),
        }
    }

    /// Returns the same caller, connecting from another address of this machine.
    #[must_use]
    pub fn from(&self, address: IpAddr) -> Self {
        let client = reqwest::Client::builder().no_proxy().local_address(address);
        Self {
            client: client.build().unwrap(),
            ..self.clone()
        }
    }

    /// Returns the caller with the token of a session, or an API token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: Some(token.into()),
            ..self.clone()
        }
    }

    /// Returns the caller with one more header in every request.
    #[must_use]
    pub fn with_header(&self, name: &str, value: &str) -> Self {
        let mut other = self.clone();
        other.headers.push((name.into(), value.into()));
        other
    }

    /// Returns the same caller at another server.
    #[must_use]
    pub fn at(&self, server: SocketAddr) -> Self {
        Self {
            server: format!("http://{server}"),
            ..self.clone()
        }
    }

    /// Signs in, which must succeed, and returns the caller and the answer.
    pub async fn sign_in(&self, name: &str, password: &str) -> (Self, Value) {
        let answer = self
            .post("/sessions", &json!({"name": name, "password": password}))
            .await;
        let answer = answer.expect(201);
        (self.with_token(&text(&answer, "access_token")), answer)
    }

    /// Makes an API token with these rights, and returns a caller with it.
    pub async fn make_token(&self, role: &str, apps: Option<&[&str]>) -> Self {
        let body = json!({"name": format!("a {role}"), "role": role, "apps": apps});
        let made = self.post("/tokens", &body).await.expect(201);
        self.with_token(&text(&made, "secret"))
    }

    /// Creates an app, and returns it with its first key.
    pub async fn create_app(&self, name: &str) -> Value {
        self.post("/apps", &json!({"name": name})).await.expect(201)
    }

    /// Sends a `GET` below `/api/v1`.
    pub async fn get(&self, path: &str) -> Reply {
        self.call("GET", path, &[], None).await
    }

    /// Sends a `POST` below `/api/v1`.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.call("POST", path, &[], Some(body)).await
    }

    /// Sends a `PATCH` below `/api/v1`.
    pub async fn patch(&self, path: &str, body: &Value) -> Reply {
        self.call("PATCH", path, &[], Some(body)).await
    }

    /// Sends a `PUT` below `/api/v1`.
    pub async fn put(&self, path: &str, body: &Value) -> Reply {
        self.call("PUT", path, &[], Some(body)).await
    }

    /// Sends a `DELETE` below `/api/v1`.
    pub async fn delete(&self, path: &str) -> Reply {
        self.call("DELETE", path, &[], None).await
    }

    /// Sends a request below `/api/v1`.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Reply {
        self.send(method, &format!("/api/v1{path}"), headers, body)
            .await
    }

    /// Sends a request to any path.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Reply {
        let url = format!("{}{path}", self.server);
        let mut request = self.client.request(method.parse().unwrap(), url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let response = request.send().await.unwrap();
        Reply {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        }
    }
}
