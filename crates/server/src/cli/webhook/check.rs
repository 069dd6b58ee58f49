//! `fanfare webhook check`: sends a receiver what it will meet one day, and says what it doesn't do right.

use std::time::Duration;

use clap::Args;
use fanfare_protocol::AppKey;
use fanfare_protocol::signature::SigningKey;
use fanfare_store::{WebhookFormat, WebhookRecord, WebhookSecret, WebhookState};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, StatusCode, Url};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use super::header;
use crate::cli::api::ServerFlags;
use crate::cli::output;
use crate::cli::publish::find_target;
use crate::clock::unix_millis;
use crate::config::Config;
use crate::failure::{Code, Failure, request_failed};
use crate::outbound;
use crate::startup::{self, Begin};
use crate::webhooks::{Attempted, Content, DeliveryId, Hook, SignedRequest, sign};

/// What a secret of the format `standard` begins with.
const STANDARD_SECRET: &str = "whsec_";
/// Longest that a receiver may take by default (`webhooks.timeout`).
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// Answers that take longer are dangerous: under load they take longer still.
const SLOW: Duration = Duration::from_secs(5);
/// How old a request is that receivers refuse: they allow for five minutes.
const OLD: i64 = 10 * 60_000;

/// What to do instead of failing.
const REFUSE: &str = "refuse it with 401: another answer looks like a fault of the receiver";

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The receiver's address
    url: String,
    /// The app with whose oldest active key requests are signed; of this machine's store [default: the only one]
    #[arg(long)]
    app: Option<String>,
    /// A key to sign with; the store isn't needed then
    #[arg(long, requires = "secret", conflicts_with = "app")]
    key: Option<String>,
    /// The key's secret; or without a key the secret of a webhook of the format standard, whsec_...
    #[arg(long, conflicts_with = "app")]
    secret: Option<String>,
    /// A header of the requests, several times for several
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Whether a receiver does something right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warning,
    Failure,
}

/// What a receiver did with a request.
#[derive(Debug, Clone)]
struct Answer {
    /// `Err` if none came.
    status: Result<StatusCode, String>,
    took: Duration,
}

/// What was found out.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    status: Option<u16>,
    milliseconds: u64,
    found: String,
    advice: String,
}

/// A receiver, and what signs the requests to it.
struct Receiver {
    client: Client,
    url: Url,
    headers: HeaderMap,
    hook: Hook,
    key: Option<(AppKey, SigningKey)>,
}

pub(crate) async fn run(
    check: &Check,
    server: &ServerFlags,
    config: &Config,
) -> anyhow::Result<()> {
    let receiver = Receiver::new(check, server, config).await?;
    let findings = receiver.check().await?;
    if check.json {
        output::json(&json!({"findings": findings}))?;
    } else {
        let headings = ["RESULT", "CHECK", "ANSWER", "TOOK", "WHAT TO DO"];
        let rows: Vec<Vec<String>> = findings.iter().map(Finding::row).collect();
        output::table(&headings, &rows)?;
    }
    let wrong = findings
        .iter()
        .filter(|found| found.verdict == Verdict::Failure);
    match wrong.count() {
        0 => Ok(()),
        wrong => {
            let message = match findings.len() {
                1 => "the first request was not taken, so nothing else was tried".into(),
                all => format!("{wrong} of {all} checks failed"),
            };
            Err(Failure::new(Code::Failed, message).into())
        }
    }
}

impl Finding {
    fn row(&self) -> Vec<String> {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warn",
            Verdict::Failure => "FAIL",
        };
        vec![
            verdict.into(),
            self.check.into(),
            output::shortened(&self.found),
            format!("{} ms", self.milliseconds),
            self.advice.clone(),
        ]
    }
}

impl Answer {
    fn is_taken(&self) -> bool {
        self.status.as_ref().is_ok_and(StatusCode::is_success)
    }

    fn is_refused(&self) -> bool {
        self.status.as_ref().is_ok_and(StatusCode::is_client_error)
    }

    fn into_finding(self, check: &'static str, (verdict, advice): (Verdict, &str)) -> Finding {
        Finding {
            check,
            verdict,
            status: self.status.as_ref().ok().map(|status| status.as_u16()),
            milliseconds: u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            found: match self.status {
                Ok(status) => status.to_string(),
                Err(error) => error,
            },
            advice: advice.into(),
        }
    }

    /// Returns what to do if a request isn't taken with which nothing is wrong.
    fn why_not_taken(&self) -> &'static str {
        match self.status.as_ref().map(|status| status.as_u16()) {
            Err(_) => {
                "start the receiver, or give the address on which it listens; it must answer within 15 seconds"
            }
            Ok(300..=399) => "give the address to which it redirects: redirects are not followed",
            Ok(404 | 405 | 410) => "give the address whose path takes POST requests",
            Ok(400..=499) => {
                "take requests that are signed rightly: verify the body byte by byte, as it came, with the same key and secret"
            }
            Ok(_) => "mend the receiver: its own log says why it fails",
        }
    }

    /// Returns the finding for a request that must be taken.
    fn must_be_taken(self, check: &'static str, advice: &str) -> Finding {
        let verdict = match self.is_taken() {
            true => (Verdict::Ok, ""),
            false => (Verdict::Failure, advice),
        };
        self.into_finding(check, verdict)
    }

    /// Returns the finding for a request that must be refused.
    fn must_be_refused(self, check: &'static str, advice: &str) -> Finding {
        let verdict = if self.is_taken() {
            (Verdict::Failure, advice)
        } else if self.is_refused() {
            (Verdict::Ok, "")
        } else {
            (Verdict::Warning, REFUSE)
        };
        self.into_finding(check, verdict)
    }

    /// Returns the finding for a request that is too old.
    fn should_be_refused(self, check: &'static str, advice: &str) -> Finding {
        let verdict = if self.is_taken() {
            (Verdict::Warning, advice)
        } else if self.is_refused() {
            (Verdict::Ok, "")
        } else {
            (Verdict::Warning, REFUSE)
        };
        self.into_finding(check, verdict)
    }
}

impl Receiver {
    async fn new(check: &Check, server: &ServerFlags, config: &Config) -> anyhow::Result<Self> {
        let wrong = || {
            Failure::misuse(format!(
                "{:?} is no address of http or https; write it like https://shop.example.com/webhooks",
                check.url
            ))
        };
        let url: Url = check.url.parse().map_err(|_| wrong())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong().into());
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &check.headers {
            let header = reqwest::header::HeaderName::try_from(name.as_str())
                .ok()
                .zip(HeaderValue::try_from(value.as_str()).ok());
            let (name, value) = header
                .ok_or_else(|| Failure::misuse(format!("the header {name:?} is not possible")))?;
            headers.insert(name, value);
        }
        let credentials = Credentials::of(check, server, config).await?;
        let client = outbound::client(true, REQUEST_TIMEOUT)
            .map_err(|error| Failure::new(Code::Failed, request_failed(error)))?;
        Ok(Self {
            client,
            url,
            headers,
            hook: hook(credentials.webhook_secret.as_deref())?,
            key: credentials.key,
        })
    }

    /// Sends everything that a receiver must be able to take or refuse.
    async fn check(&self) -> anyhow::Result<Vec<Finding>> {
        let now = unix_millis();
        let occupied = r#"[{"name":"channel_occupied","channel":"fanfare-check"}]"#;
        let correct = self.sign(1, occupied, now)?;
        let first = self.send(correct.clone()).await;
        if !first.is_taken() {
            // The other requests would meet the same, and find out nothing of what the receiver does.
            let advice = first.why_not_taken();
            return Ok(vec![first.must_be_taken("signed", advice)]);
        }
        let mut times = vec![first.clone()];
        let mut findings = vec![first.must_be_taken("signed", "")];
        let again = self.send(correct.clone()).await;
        times.push(again.clone());
        findings.push(again.must_be_taken(
            "duplicate",
            "answer 200 to a delivery that was taken already (Fanfare-Delivery is the same): a refusal is retried for hours",
        ));
        if self.hook.format() == WebhookFormat::Pusher {
            let batch = r#"[{"name":"channel_occupied","channel":"presence-fanfare-check"},{"name":"member_added","channel":"presence-fanfare-check","user_id":"1"},{"name":"channel_vacated","channel":"fanfare-check"}]"#;
            let answer = self.send(self.sign(2, batch, now)?).await;
            times.push(answer.clone());
            findings.push(answer.must_be_taken(
                "several events",
                "look at each of `events`: with batching a request has up to 100",
            ));
        }
        let unknown = r#"[{"name":"something_new","channel":"fanfare-check"}]"#;
        let answer = self.send(self.sign(3, unknown, now)?).await;
        findings.push(answer.must_be_taken(
            "unknown event",
            "answer 200 to events that aren't known, and ignore them: later versions have more, and a refusal is retried",
        ));
        findings.push(self.send(forged(correct.clone())).await.must_be_refused(
            "wrong signature",
            "verify the signature (constant time): anyone who knows the address can send events",
        ));
        findings.push(self.send(unsigned(correct)).await.must_be_refused(
            "no signature",
            "refuse requests without a signature: anyone who knows the address can send events",
        ));
        let old = self.sign(4, occupied, now - OLD)?;
        findings.push(self.send(old).await.should_be_refused(
            "ten minutes old",
            "refuse what is over five minutes old, or remember Fanfare-Delivery: who has seen a request can send it again",
        ));
        findings.push(time(&times));
        Ok(findings)
    }

    fn sign(&self, sequence: i64, events: &str, at: i64) -> anyhow::Result<SignedRequest> {
        let attempted = Attempted {
            content: Content {
                events,
                created_at: at,
                is_replay: false,
            },
            id: DeliveryId::Sequence(sequence),
            attempt: 1,
        };
        let signed = sign(self.key.as_ref(), &self.hook, attempted, at);
        Ok(signed.map_err(|error| Failure::new(Code::Failed, error))?)
    }

    async fn send(&self, request: SignedRequest) -> Answer {
        let began = Instant::now();
        let sent = self
            .client
            .post(self.url.clone())
            .headers(request.headers)
            .headers(self.headers.clone())
            .body(request.body)
            .send()
            .await;
        let is_late = sent.as_ref().is_err_and(reqwest::Error::is_timeout);
        Answer {
            took: began.elapsed(),
            status: match sent {
                Ok(response) => Ok(response.status()),
                Err(_) if is_late => Err(format!("none within {} s", REQUEST_TIMEOUT.as_secs())),
                Err(error) => Err(request_failed(error)),
            },
        }
    }
}

/// Returns whether answers come in time, by the slowest.
fn time(answers: &[Answer]) -> Finding {
    let slowest = answers.iter().max_by_key(|answer| answer.took);
    let slowest = slowest.cloned().unwrap_or(Answer {
        status: Err("nothing was sent".into()),
        took: Duration::ZERO,
    });
    let verdict = if slowest.status.is_err() {
        (
            Verdict::Failure,
            "answer within 15 seconds (webhooks.timeout)",
        )
    } else if slowest.took > SLOW {
        (
            Verdict::Warning,
            "answer first and work afterwards: after 15 seconds (webhooks.timeout) a request counts as failed",
        )
    } else {
        (Verdict::Ok, "")
    };
    slowest.into_finding("time", verdict)
}

/// Changes the signatures of a request.
fn forged(mut request: SignedRequest) -> SignedRequest {
    for (name, value) in [
        ("X-Pusher-Signature", "0".repeat(64)),
        ("webhook-signature", format!("v1,{}=", "A".repeat(43))),
    ] {
        if let Some(signature) = request.headers.get_mut(name)
            && let Ok(value) = HeaderValue::try_from(value)
        {
            *signature = value;
        }
    }
    request
}

/// Removes the signatures of a request.
fn unsigned(mut request: SignedRequest) -> SignedRequest {
    for name in ["X-Pusher-Key", "X-Pusher-Signature", "webhook-signature"] {
        request.headers.remove(name);
    }
    request
}

/// What signs requests.
struct Credentials {
    key: Option<(AppKey, SigningKey)>,
    /// Of a webhook of the format `standard`.
    webhook_secret: Option<String>,
}

impl Credentials {
    async fn of(check: &Check, server: &ServerFlags, config: &Config) -> anyhow::Result<Self> {
        let (key, secret) = match (&check.key, &check.secret) {
            (Some(key), Some(secret)) => (key.clone(), secret.clone()),
            (None, Some(secret)) if secret.starts_with(STANDARD_SECRET) => {
                return Ok(Self {
                    key: None,
                    webhook_secret: Some(secret.clone()),
                });
            }
            (None, Some(_)) => {
                return Err(Failure::misuse(
                    "a secret without a key must be that of a webhook of the format standard, whsec_...; otherwise pass --key too",
                )
                .into());
            }
            (..) if server.server().is_some() => {
                return Err(Failure::misuse(
                    "a server tells nobody its secrets: pass --key KEY --secret SECRET of the app",
                )
                .into());
            }
            (..) => {
                let store = startup::open_store(config, Begin::Never).await?;
                let target = find_target(check.app.as_deref(), &store).await?;
                (target.key, target.secret)
            }
        };
        let key = AppKey::parse(&key).map_err(|error| Failure::misuse(error.to_string()))?;
        Ok(Self {
            key: Some((key, SigningKey::new(&secret))),
            webhook_secret: None,
        })
    }
}

/// Returns a webhook to sign for, of the format `standard` if there is a secret.
fn hook(secret: Option<&str>) -> anyhow::Result<Hook> {
    let now = unix_millis();
    let secrets = secret.map(|secret| WebhookSecret {
        secret: secret.to_owned().into(),
        created_at: now,
        expires_at: None,
    });
    let record = WebhookRecord {
        id: "wh_check".into(),
        app_id: "0".into(),
        name: "check".into(),
        url: None,
        events: None,
        channels: Vec::new(),
        format: match secret {
            Some(_) => WebhookFormat::Standard,
            None => WebhookFormat::Pusher,
        },
        is_batched: false,
        headers: Vec::new(),
        secrets: secrets.into_iter().collect(),
        state: WebhookState::Active,
        state_reason: None,
        created_at: now,
        updated_at: now,
    };
    Ok(Hook::new(record).map_err(Failure::misuse)?)
}
