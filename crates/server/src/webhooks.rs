//! Webhooks: what happens on channels, recorded durably and sent to receivers until they take it.
//!
//! | file | content |
//! |---|---|
//! | `hooks` | the webhooks of all apps as this node knows them, and the rules for their settings |
//! | `intake` | what the engine tells of, until it is recorded |
//! | `recorder` | reads the logs of transitions, and has deliveries written |
//! | `sender`, `sending` | leases webhooks, and sends what waits for each |
//! | `endpoint` | which deliveries of a webhook are sent next, and what an outcome means |
//! | `deliveries` | those of them that are known here, in lanes |
//! | `permits` | room for requests, shared by apps |
//! | `schedule` | when a delivery that failed is tried again |
//! | `breaker` | hosts that can't be reached |
//! | `courier` | the way of a request to its receiver |
//! | `body`, `sign`, `request` | signed requests: what a receiver gets |
//! | `shown` | attempts as those who watch an app see them |
//! | `retention` | the bounds of the log, and how much waits |
//! | `counters` | what this node did, for metrics |

mod body;
mod breaker;
mod counters;
mod courier;
mod deliveries;
mod endpoint;
mod hooks;
mod intake;
mod permits;
mod recorder;
mod request;
mod retention;
mod schedule;
mod sender;
mod sending;
mod shown;
mod sign;
#[cfg(test)]
mod testing;

use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::Engine;
use fanfare_protocol::signature::SigningKey;
use fanfare_protocol::{AppId, AppKey, WebhookEvent};
use fanfare_store::{Store, WebhookRecord, WebhookState};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::unix_millis;
use crate::config::WebhooksConfig;
use body::EventBody;
use counters::Counters;
use courier::{Answer, Courier};
use recorder::Recorder;
use retention::Backlog;

pub(crate) use body::Content;
pub(crate) use counters::WebhookCounts;
pub(crate) use endpoint::FAILING_FROM;
pub(crate) use hooks::{AppHooks, Hook, HookSettings, Hooks};
pub(crate) use intake::Intake;
pub(crate) use request::{Attempted, DeliveryId, SignedRequest, sign};
pub(crate) use retention::Waiting;
pub(crate) use sender::{FailingHook, Sender};
pub(crate) use sign::standard_signature;

/// The webhooks of this node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Webhooks(Arc<Shared>);

impl std::fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Webhooks(..)")
    }
}

struct Shared {
    hooks: Hooks,
    intake: Intake,
    counters: Arc<Counters>,
    backlog: Backlog,
    config: WebhooksConfig,
    /// `None` in a process without a node, and until the node has started.
    sender: Mutex<Option<Sender>>,
}

/// A webhook as alerts name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HookLabel {
    pub(crate) id: String,
    pub(crate) app: String,
    pub(crate) name: String,
}

impl HookLabel {
    fn of(hook: &Hook) -> Self {
        Self {
            id: hook.id.clone(),
            app: hook.app.to_string(),
            name: hook.name.clone(),
        }
    }
}

/// What alerts are made of, at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct WebhookReadings {
    /// Unix time in milliseconds.
    pub(crate) now: i64,
    /// By id.
    pub(crate) disabled: Vec<HookLabel>,
    /// Those whose receivers fail, as far as this node knows, by id.
    pub(crate) failing: Vec<FailingHook>,
    /// Events that this node has lost since its start.
    pub(crate) lost_events: u64,
}

/// The tasks that record and send.
pub(crate) struct Running {
    sender: Sender,
    stop_recorder: CancellationToken,
    recorder: JoinHandle<()>,
}

impl Webhooks {
    pub(crate) fn new(config: &WebhooksConfig) -> Self {
        let (hooks, counters) = (Hooks::default(), Arc::<Counters>::default());
        let intake = Intake::new(
            hooks.clone(),
            Arc::clone(&counters),
            config.max_queued_bytes,
        );
        Self(Arc::new(Shared {
            hooks,
            intake,
            counters,
            backlog: Backlog::default(),
            config: config.clone(),
            sender: Mutex::default(),
        }))
    }

    /// Returns the webhooks of all apps as this node knows them.
    pub(crate) fn hooks(&self) -> &Hooks {
        &self.0.hooks
    }

    /// Returns what receives from the engine.
    pub(crate) fn intake(&self) -> &Intake {
        &self.0.intake
    }

    /// Replaces the webhooks of apps. One that can't be read is left out, and the log says so.
    pub(crate) fn set(&self, apps: impl IntoIterator<Item = (AppId, Vec<WebhookRecord>)>) {
        let compiled = apps
            .into_iter()
            .map(|(app, records)| (app, AppHooks::new(compile(records))));
        self.0.hooks.set(compiled);
    }

    /// Starts to record and to send; this process leases webhooks under the name `node`.
    pub(crate) fn start(&self, store: &Store, engine: &Arc<Engine>, node: &str) -> Running {
        let Shared {
            hooks,
            intake,
            counters,
            backlog,
            config,
            ..
        } = &*self.0;
        let sender = Sender::new(
            config,
            node.to_owned(),
            store.clone(),
            Arc::clone(engine),
            hooks.clone(),
            Arc::clone(counters),
        );
        *self.0.sender.lock() = Some(sender.clone());
        let stop_recorder = CancellationToken::new();
        let recorder = Recorder::new(
            store.clone(),
            Arc::clone(engine.transition_log()),
            hooks.clone(),
            intake.clone(),
            sender.clone(),
            Arc::clone(counters),
            stop_recorder.clone(),
        );
        tokio::spawn(sender.clone().run());
        tokio::spawn(backlog.clone().look(store.clone()));
        tokio::spawn(retention::prune(store.clone(), config.clone()));
        Running {
            sender,
            stop_recorder,
            recorder: tokio::spawn(recorder.run()),
        }
    }

    /// Returns what sends, once the node has started.
    pub(crate) fn sender(&self) -> Option<Sender> {
        self.0.sender.lock().clone()
    }

    pub(crate) fn counts(&self) -> WebhookCounts {
        self.0.counters.read()
    }

    /// Returns how much waited on all nodes at the last look.
    pub(crate) fn waiting(&self) -> Waiting {
        self.0.backlog.read()
    }

    /// Returns how many webhooks there are in a state.
    pub(crate) fn count_in(&self, state: WebhookState) -> usize {
        self.0.hooks.in_state(state).len()
    }

    /// Returns what alerts are made of.
    pub(crate) fn readings(&self) -> WebhookReadings {
        let mut disabled = self.0.hooks.in_state(WebhookState::Disabled);
        disabled.sort_by(|one, other| one.id.cmp(&other.id));
        WebhookReadings {
            now: unix_millis(),
            disabled: disabled.iter().map(|hook| HookLabel::of(hook)).collect(),
            failing: self
                .sender()
                .map(|sender| sender.failing())
                .unwrap_or_default(),
            lost_events: self.0.counters.dropped(),
        }
    }

    /// Sends an example of an event to a webhook's receiver, whatever the webhook's state, and returns the answer. Nothing
    /// is recorded. Returns `None` if the webhook has no address. It needs no running node: `key` is the app's.
    pub(crate) async fn test(
        &self,
        hook: &Hook,
        key: Option<&(AppKey, SigningKey)>,
        event: WebhookEvent,
    ) -> Option<Answer> {
        let url = hook.url()?;
        let now = unix_millis();
        let events = body::array([example(event).to_json().as_str()]);
        let attempted = Attempted {
            content: Content {
                events: &events,
                created_at: now,
                is_replay: false,
            },
            id: DeliveryId::Test,
            attempt: 1,
        };
        let request = match sign(key, hook, attempted, now) {
            Ok(request) => request,
            Err(error) => return Some(Answer::refused(error)),
        };
        Some(match self.sender() {
            Some(sender) => sender.post(url, request).await,
            None => {
                let config = &self.0.config;
                let request_timeout = Duration::from_secs(config.timeout);
                let courier = Courier::new(config.allow_inner_addresses, request_timeout);
                courier.post(url, request).await
            }
        })
    }
}

impl Running {
    /// Records what has come until now, waits for requests that are under way, and lets other nodes take over.
    pub(crate) async fn finish(self) {
        self.stop_recorder.cancel();
        // An error means that the task has panicked.
        let _ = self.recorder.await;
        self.sender.finish().await;
    }
}

fn compile(records: Vec<WebhookRecord>) -> Vec<Hook> {
    let hook = |record: WebhookRecord| {
        let (id, app) = (record.id.clone(), record.app_id.clone());
        Hook::new(record)
            .map_err(|error| {
                tracing::error!(
                    webhook = id,
                    app,
                    error,
                    "this webhook is left out: it cannot be read; set it again"
                );
            })
            .ok()
    };
    records.into_iter().filter_map(hook).collect()
}

/// Returns an example of an event.
fn example(event: WebhookEvent) -> EventBody<'static> {
    let (channel, user_id) = ("presence-fanfare-test", "fanfare-test-user");
    match event {
        WebhookEvent::ChannelOccupied => EventBody::ChannelOccupied { channel },
        WebhookEvent::ChannelVacated => EventBody::ChannelVacated { channel },
        WebhookEvent::MemberAdded => EventBody::MemberAdded { channel, user_id },
        WebhookEvent::MemberRemoved => EventBody::MemberRemoved { channel, user_id },
        WebhookEvent::ClientEvent => EventBody::ClientEvent {
            channel,
            event: "client-fanfare-test",
            data: "{\"test\":true}",
            socket_id: "1.1",
            user_id: Some(user_id),
        },
        WebhookEvent::CacheMiss => EventBody::CacheMiss {
            channel: "cache-fanfare-test",
        },
        WebhookEvent::SubscriptionCount => EventBody::SubscriptionCount {
            channel: "fanfare-test",
            subscription_count: 1,
        },
    }
}
