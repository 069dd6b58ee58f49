//! The way of an alert to the operators' targets: HTTP with a Standard Webhooks signature
//! (<https://www.standardwebhooks.com>), and the JSON that chats take (Slack, Mattermost, Discord's `/slack` address).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fanfare_store::{AlertRecord, webhook_secret_bytes};
use jiff::Timestamp;
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::kind::AlertKind;
use crate::clock::unix_seconds;
use crate::config::AlertsConfig;
use crate::failure::request_failed;
use crate::webhooks::standard_signature;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Waiting times between the attempts of one notification.
const RETRIES: [Duration; 6] = [
    Duration::from_secs(2),
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(300),
    Duration::from_secs(900),
    Duration::from_secs(1800),
];
/// Notifications that may wait for one target.
const QUEUE: usize = 256;

/// What became of notifications.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NotificationCounts {
    pub(crate) sent: u64,
    /// Those that were given up: the queue was full, or the target took none for an hour.
    pub(crate) lost: u64,
}

/// Sends notifications. Cheap to clone.
#[derive(Clone)]
pub(super) struct Notifier(Arc<Shared>);

struct Shared {
    targets: Vec<Target>,
    sent: AtomicU64,
    lost: AtomicU64,
}

struct Target {
    kind: TargetKind,
    url: SecretString,
    queue: mpsc::Sender<AlertRecord>,
    /// Taken when the notifier runs.
    queued: Mutex<Option<mpsc::Receiver<AlertRecord>>>,
}

enum TargetKind {
    /// Signed with this key.
    Webhook(SecretString),
    Chat,
}

impl TargetKind {
    fn setting(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "alerts.url",
            Self::Chat => "alerts.chat_url",
        }
    }
}

impl Notifier {
    pub(super) fn new(config: &AlertsConfig) -> Self {
        let mut targets = Vec::new();
        let mut add = |kind, url: &SecretString| {
            let (queue, queued) = mpsc::channel(QUEUE);
            targets.push(Target {
                kind,
                url: url.clone(),
                queue,
                queued: Mutex::new(Some(queued)),
            });
        };
        if let (Some(url), Some(secret)) = (&config.url, &config.secret) {
            add(TargetKind::Webhook(secret.clone()), url);
        }
        if let Some(url) = &config.chat_url {
            add(TargetKind::Chat, url);
        }
        Self(Arc::new(Shared {
            targets,
            sent: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }))
    }

    pub(super) fn counts(&self) -> NotificationCounts {
        NotificationCounts {
            sent: self.0.sent.load(Ordering::Relaxed),
            lost: self.0.lost.load(Ordering::Relaxed),
        }
    }

    /// Queues a notification for each target.
    pub(super) fn send(&self, alert: &AlertRecord) {
        for target in &self.0.targets {
            if target.queue.try_send(alert.clone()).is_err() {
                self.0.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Sends what is queued. Never returns.
    pub(super) async fn run(self) {
        let client = match reqwest::Client::builder()
            .user_agent(concat!("fanfare/", env!("CARGO_PKG_VERSION")))
            .timeout(REQUEST_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
        {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(%error, "alerts are not sent: no HTTP client can be made; install the system's certificates");
                return;
            }
        };
        let all = self.0.targets.iter().map(|target| async {
            let Some(mut queued) = target.queued.lock().take() else {
                return;
            };
            // One after the other, so that an alert comes before its end.
            while let Some(alert) = queued.recv().await {
                let counter = match deliver(&client, target, &alert).await {
                    true => &self.0.sent,
                    false => &self.0.lost,
                };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        futures_util::future::join_all(all).await;
    }
}

/// Sends a notification until the target takes it, and returns whether it did.
async fn deliver(client: &reqwest::Client, target: &Target, alert: &AlertRecord) -> bool {
    let setting = target.kind.setting();
    let mut waits = RETRIES.into_iter();
    loop {
        let reason = match attempt(client, target, alert).await {
            Ok(()) => return true,
            Err(reason) => reason,
        };
        let Some(wait) = waits.next() else {
            tracing::error!(alert = alert.id, %reason, "a notification is given up: the target of {setting} takes none");
            return false;
        };
        tracing::warn!(alert = alert.id, %reason, seconds = wait.as_secs(), "the target of {setting} has not taken a notification; it is sent again later");
        sleep(wait).await;
    }
}

async fn attempt(
    client: &reqwest::Client,
    target: &Target,
    alert: &AlertRecord,
) -> Result<(), String> {
    let request = client
        .post(target.url.expose_secret())
        .header("content-type", "application/json");
    let request = match &target.kind {
        TargetKind::Chat => request.body(chat_message(alert).to_string()),
        TargetKind::Webhook(secret) => {
            // The same for each attempt, so that a receiver tells a repeated notification from a new one.
            let id = format!("{}_{}", alert.id, event_type(alert).replace('.', "_"));
            let (body, at) = (webhook_body(alert).to_string(), unix_seconds());
            let key = webhook_secret_bytes(secret.expose_secret()).unwrap_or_default();
            let signature = standard_signature([key.as_slice()], &id, at, &body);
            request
                .header("webhook-id", id)
                .header("webhook-timestamp", at.to_string())
                .header("webhook-signature", signature)
                .body(body)
        }
    };
    let response = request.send().await.map_err(request_failed)?;
    match response.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("it answers {status}")),
    }
}

fn event_type(alert: &AlertRecord) -> &'static str {
    match alert.resolved_at {
        None => "alert.opened",
        Some(_) => "alert.resolved",
    }
}

fn webhook_body(alert: &AlertRecord) -> Value {
    json!({
        "type": event_type(alert),
        "timestamp": shown(alert.resolved_at.unwrap_or(alert.opened_at)),
        "data": {
            "id": alert.id,
            "kind": alert.kind,
            "subject": alert.subject,
            "app_id": alert.app_id,
            "summary": alert.summary,
            "advice": AlertKind::advice_of(&alert.kind),
            "opened_at": shown(alert.opened_at),
            "resolved_at": alert.resolved_at.map(shown),
        },
    })
}

fn chat_message(alert: &AlertRecord) -> Value {
    let (kind, summary) = (&alert.kind, escaped(&alert.summary));
    let text = match alert.resolved_at {
        None => format!(
            ":rotating_light: *Fanfare: {kind}*\n{summary}\n{}",
            AlertKind::advice_of(kind)
        ),
        Some(_) => format!(":white_check_mark: *Fanfare: {kind} is over*\n{summary}"),
    };
    json!({ "text": text })
}

/// Escapes what chats take for markup: Slack's three characters.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn shown(at: i64) -> String {
    Timestamp::from_millisecond(at).map_or_else(|_| at.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(resolved_at: Option<i64>) -> AlertRecord {
        AlertRecord {
            id: "alr_1".into(),
            kind: "store_away".into(),
            subject: "a:6001".into(),
            app_id: None,
            summary: "<a> & b".into(),
            opened_at: 1_795_253_650_000,
            seen_at: 1_795_253_650_000,
            resolved_at,
            silenced_until: None,
        }
    }

    #[test]
    fn an_alert_and_its_end_are_told_apart() {
        let opened = webhook_body(&alert(None));
        assert_eq!(opened["type"], "alert.opened");
        assert_eq!(opened["timestamp"], "2026-11-21T09:34:10Z");
        let resolved = webhook_body(&alert(Some(1_795_253_710_000)));
        assert_eq!(resolved["type"], "alert.resolved");
        assert_eq!(resolved["data"]["resolved_at"], "2026-11-21T09:35:10Z");
    }

    #[test]
    fn a_chat_gets_text_in_which_nothing_is_markup() {
        let message = chat_message(&alert(None));
        let text = message["text"].as_str().unwrap();
        assert!(text.contains("&lt;a&gt; &amp; b"), "{text}");
        assert!(text.contains("fanfare doctor"), "{text}");
    }
}
