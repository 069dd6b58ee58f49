//! The admin API as commands call it, on this machine's store or on a remote server, with the same requests, rules,
//! audit entries and answers.
//!
//! | module | what it holds |
//! |---|---|
//! | `local` | the API's own routes within this process, on this machine's store |
//! | `remote` | a remote server, over HTTP |

use std::collections::BTreeSet;
use std::io::Read;

use anyhow::Context;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, Request, StatusCode};
use bytes::Bytes;
use clap::Args;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::failure::{Code, Failure};
use crate::admin::problem::ProblemBody;
use crate::config::{Config, token_variable};
use crate::startup::Begin;

mod local;
mod remote;

use local::Local;
use remote::Remote;
pub(in crate::cli) use remote::{check_server, without_api_path};

/// Characters that are percent-encoded in a path: all but the unreserved ones of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
/// Largest page of the API.
const PAGE: usize = 200;

/// Where a command works, and as whom.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ServerFlags {
    /// Server to work on [default: the store of this machine's configuration]
    #[arg(long, global = true, value_name = "URL", env = "FANFARE_SERVER")]
    server: Option<String>,
    /// API token for it [env: FANFARE_TOKEN]. Others on this machine see what a command is called with: rather use the
    /// variable or --token-file
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        conflicts_with = "token_file"
    )]
    token: Option<SecretString>,
    /// File that holds the API token; - for standard input
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<String>,
}

impl ServerFlags {
    /// Returns the server that was named, if one was.
    pub(crate) fn server(&self) -> Option<&str> {
        self.server.as_deref().filter(|server| !server.is_empty())
    }

    /// Opens the store or the server that the command works on.
    pub(crate) async fn open(&self, config: &Config, begin: Begin) -> anyhow::Result<Api> {
        let token = self.token()?;
        let transport = match (self.server(), token) {
            (Some(server), Some(token)) => Transport::Remote(Remote::new(server, &token)?),
            (None, None) => Transport::Local(Local::open(config, begin).await?),
            (Some(_), None) => {
                return Err(Failure::misuse(
                    "a server wants an API token: --token-file FILE or FANFARE_TOKEN (fanfare token create makes one)",
                )
                .into());
            }
            (None, Some(_)) => {
                return Err(Failure::misuse(
                    "there is an API token, but no server to use it on: name it with --server URL or FANFARE_SERVER, or leave \
                     the token out to work on the store of this machine",
                )
                .into());
            }
        };
        Ok(Api { transport })
    }

    /// Returns the API token that was given, if one was.
    pub(crate) fn token(&self) -> anyhow::Result<Option<SecretString>> {
        let token = self.token.as_ref();
        if self.reads_standard_input() {
            return standard_input().map(|text| Some(text.expose_secret().trim().into()));
        }
        let Some(file) = &self.token_file else {
            return Ok(token.cloned().or_else(token_variable));
        };
        let text = std::fs::read_to_string(file)
            .map_err(|error| Failure::misuse(format!("reading the token from {file}: {error}")))?;
        Ok(Some(text.trim().into()))
    }

    /// Returns whether the token comes from standard input, which then holds nothing else.
    fn reads_standard_input(&self) -> bool {
        let token = self.token.as_ref().map(ExposeSecret::expose_secret);
        token == Some("-") || self.token_file.as_deref() == Some("-")
    }
}

/// Reads all of standard input. Empty input is an error.
pub(crate) fn standard_input() -> anyhow::Result<SecretString> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("reading standard input")?;
    if text.is_empty() {
        return Err(Failure::misuse("standard input is empty").into());
    }
    Ok(text.into())
}

/// The admin API, local or remote.
#[derive(Debug)]
pub(crate) struct Api {
    transport: Transport,
}

#[derive(Debug)]
enum Transport {
    Local(Local),
    Remote(Remote),
}

/// A request to the admin API.
#[derive(Debug)]
pub(crate) struct Call {
    method: Method,
    segments: Vec<String>,
    query: Vec<(&'static str, String)>,
    body: Option<Value>,
    idempotency_key: Option<String>,
}

impl Call {
    fn new(method: Method, path: &[&str]) -> Self {
        Self {
            method,
            segments: path.iter().map(|&segment| segment.into()).collect(),
            query: Vec::new(),
            body: None,
            idempotency_key: None,
        }
    }

    /// Returns a `GET` of a path below `/api/v1`, given segment by segment.
    pub(crate) fn get(path: &[&str]) -> Self {
        Self::new(Method::GET, path)
    }

    pub(crate) fn post(path: &[&str], body: Value) -> Self {
        Self::new(Method::POST, path).with_body(body)
    }

    pub(crate) fn put(path: &[&str], body: Value) -> Self {
        Self::new(Method::PUT, path).with_body(body)
    }

    pub(crate) fn patch(path: &[&str], body: Value) -> Self {
        Self::new(Method::PATCH, path).with_body(body)
    }

    pub(crate) fn delete(path: &[&str]) -> Self {
        Self::new(Method::DELETE, path)
    }

    fn with_body(self, body: Value) -> Self {
        Self {
            body: Some(body),
            ..self
        }
    }

    /// Adds a query parameter if there is a value.
    pub(crate) fn query(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query
            .extend(value.map(|value| (name, value.to_string())));
        self
    }

    /// Sets the idempotency key: a repeated request with it gets the first one's answer.
    pub(crate) fn with_idempotency_key(self, idempotency_key: Option<String>) -> Self {
        Self {
            idempotency_key,
            ..self
        }
    }

    fn uri(&self) -> Result<String, Failure> {
        let mut uri = "/api/v1".to_owned();
        for segment in &self.segments {
            // Such a segment would name another path, and so another resource.
            if ["", ".", ".."].contains(&segment.as_str()) {
                let message = format!("{segment:?} is no id and no name of anything");
                return Err(Failure::misuse(message));
            }
            uri.push('/');
            uri.extend(utf8_percent_encode(segment, ENCODED));
        }
        if !self.query.is_empty() {
            uri.push('?');
            uri.push_str(&serde_urlencoded::to_string(&self.query).expect("pairs of texts"));
        }
        Ok(uri)
    }

    fn into_request(self) -> anyhow::Result<Request<Bytes>> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(self.uri()?);
        if let Some(key) = &self.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let body = match &self.body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                body.to_string().into()
            }
            None => Bytes::new(),
        };
        request
            .body(body)
            .map_err(|error| Failure::misuse(format!("this cannot be asked: {error}")).into())
    }
}

/// An answer whose body is still coming.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    body: AnswerBody,
}

#[derive(Debug)]
enum AnswerBody {
    Local(axum::body::Body),
    Remote(Box<reqwest::Response>, String),
}

impl Answer {
    /// Returns the next part of the body, or `None` at its end.
    pub(crate) async fn chunk(&mut self) -> anyhow::Result<Option<Bytes>> {
        match &mut self.body {
            AnswerBody::Local(body) => local::chunk(body).await,
            AnswerBody::Remote(response, server) => remote::chunk(response, server).await,
        }
    }

    async fn whole(mut self) -> anyhow::Result<Vec<u8>> {
        let mut whole = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            whole.extend_from_slice(&chunk);
        }
        Ok(whole)
    }
}

impl Api {
    /// Returns the address of the dashboard, without a trailing slash.
    pub(crate) fn dashboard(&self) -> String {
        match &self.transport {
            Transport::Local(local) => local.dashboard(),
            Transport::Remote(remote) => remote.server().to_owned(),
        }
    }

    /// Opens this machine's store.
    pub(crate) async fn on_this_machine(config: &Config) -> anyhow::Result<Self> {
        let transport = Transport::Local(Local::open(config, Begin::Never).await?);
        Ok(Self { transport })
    }

    /// Sends a request and returns the answer as it comes. An error status is an error with the API's message.
    pub(crate) async fn stream(&self, call: Call) -> anyhow::Result<Answer> {
        let request = call.into_request()?;
        let answer = match &self.transport {
            Transport::Local(local) => local.send(request).await,
            Transport::Remote(remote) => remote.send(request).await?,
        };
        if answer.status.is_success() {
            return Ok(answer);
        }
        let status = answer.status;
        let body = answer.whole().await?;
        Err(self.refused(status, &body).into())
    }

    /// Sends a request and returns its JSON body, or null if it has none.
    pub(crate) async fn send(&self, call: Call) -> anyhow::Result<Value> {
        let body = self.stream(call).await?.whole().await?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|_| self.no_fanfare("no JSON").into())
    }

    /// Returns a list, fetched page by page until its end or until there are `limit` items, with what else the last page says.
    pub(crate) async fn list(
        &self,
        call: impl Fn() -> Call,
        limit: Option<usize>,
    ) -> anyhow::Result<Value> {
        let mut items = Vec::new();
        let mut cursor = None;
        let mut unanswered = BTreeSet::new();
        loop {
            let more = limit.map_or(PAGE, |limit| PAGE.min(limit - items.len()));
            let call = call().query("limit", Some(more)).query("cursor", cursor);
            let mut page = self.send(call).await?;
            let Some(found) = page["items"].as_array_mut() else {
                return Err(self.no_fanfare("no list").into());
            };
            items.append(found);
            let silent = page["unanswered"].as_array().into_iter().flatten();
            unanswered.extend(silent.filter_map(|node| node.as_str().map(str::to_owned)));
            cursor = page["next_cursor"].as_str().map(str::to_owned);
            if cursor.is_none() || limit.is_some_and(|limit| items.len() >= limit) {
                if !unanswered.is_empty() {
                    let nodes: Vec<_> = unanswered.into_iter().collect();
                    tracing::warn!(
                        nodes = nodes.join(", "),
                        "some nodes did not answer, and what they have is missing"
                    );
                    page["unanswered"] = nodes.into();
                }
                page["items"] = items.into();
                return Ok(page);
            }
        }
    }

    /// Returns this API if it is a running server's. Only a running node knows its channels and connections.
    pub(crate) fn of_a_running_server(&self) -> Result<&Self, Failure> {
        match self.transport {
            Transport::Remote(_) => Ok(self),
            Transport::Local(_) => Err(Failure::misuse(
                "this needs a running server: --server URL --token-file FILE (fanfare token create makes a token)",
            )),
        }
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> Failure {
        match serde_json::from_slice::<ProblemBody>(body) {
            Ok(problem) => Failure::new(status.into(), problem.detail),
            Err(_) => {
                // Another program has answered, so its 404 says nothing about the resource.
                let code = match Code::from(status) {
                    Code::NotFound => Code::Failed,
                    code => code,
                };
                Failure::new(code, self.no_fanfare(status.as_str()).to_string())
            }
        }
    }

    fn no_fanfare(&self, what: &str) -> Failure {
        let server = match &self.transport {
            Transport::Local(_) => "this machine's own admin API",
            Transport::Remote(remote) => remote.server(),
        };
        let message = format!(
            "{server} answers {what}, as no Fanfare server does; is the URL right, and does a proxy let /api/v1 through?"
        );
        Failure::new(Code::Failed, message)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Setting;

    #[test]
    fn a_name_never_leads_to_another_path() {
        let uri = |name: &str| Call::get(&["apps", name, "keys"]).uri();
        assert_eq!(uri("a/b?c").unwrap(), "/api/v1/apps/a%2Fb%3Fc/keys");
        assert_eq!(uri("ü-._~").unwrap(), "/api/v1/apps/%C3%BC-._~/keys");
        for name in ["", ".", ".."] {
            assert!(uri(name).is_err(), "{name:?}");
        }
        let call = Call::get(&["audit"])
            .query("action", Some("a&b"))
            .query("since", None::<i64>);
        assert_eq!(call.uri().unwrap(), "/api/v1/audit?action=a%26b");
    }

    #[tokio::test]
    async fn long_lists_are_followed_to_their_end_or_to_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().to_path_buf();
        let data_dir = data_dir.to_str().unwrap();
        let config = Config::load(
            None,
            vec![Setting::flag("--data-dir", "data_dir", data_dir)],
        );
        let config = config.unwrap();
        let transport = Transport::Local(Local::open(&config, Begin::InNamedPlace).await.unwrap());
        let api = Api { transport };
        for number in 0..=PAGE {
            let name = format!("app {number}");
            let call = Call::post(&["apps"], json!({"name": name}));
            api.send(call).await.unwrap();
        }
        for (limit, count, ends) in [
            (None, PAGE + 1, true),
            (Some(PAGE + 1), PAGE + 1, true),
            (Some(PAGE), PAGE, false),
            (Some(1), 1, false),
        ] {
            let listed = api.list(|| Call::get(&["apps"]), limit).await.unwrap();
            assert_eq!(listed["items"].as_array().unwrap().len(), count);
            assert_eq!(listed["next_cursor"].is_null(), ends, "{limit:?}");
        }
    }
}
