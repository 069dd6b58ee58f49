//! Events from clients (docs/protocol.md#client-events).

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::sync::Arc;

use fanfare_protocol::client::ClientEvent;
use fanfare_protocol::{AppSettings, ChannelName, CloseCode, SocketId, UserId, event, json};

use crate::app::App;
use crate::bus::Envelope;
use crate::channel_ref::ChannelRef;
use crate::engine::Engine;
use crate::lifecycle::{LifecycleKind, Note};
use crate::notice::Notice;
use crate::publish::PublishError;
use crate::rate_limit::ClientEventRate;
use crate::refusals::RefusalKind;
use crate::session::Session;

/// The error code for "too many client events"; the event is dropped and the connection stays.
const OVER_RATE: u16 = 4301;
/// The name of the events that raw clients send.
const RAW_EVENT: &str = "client-message";

/// Why a client event is not sent.
struct Refused {
    reason: Reason,
    message: String,
}

#[derive(PartialEq, Eq)]
enum Reason {
    /// It breaks a rule.
    Invalid,
    /// There are too many at the moment.
    OverRate,
    /// It could not be published.
    NotPublished,
}

impl From<String> for Refused {
    fn from(message: String) -> Self {
        Self {
            reason: Reason::Invalid,
            message,
        }
    }
}

/// A client event before it is checked.
struct Unchecked<'a> {
    channel: &'a str,
    name: &'a str,
    data: Result<Cow<'a, str>, serde_json::Error>,
    reaches_sender: bool,
}

impl Session {
    /// Publishes a client event, and waits until the bus has it; a refused one gets an error.
    pub(crate) async fn client_event(&self, client_event: &ClientEvent<'_>) {
        let unchecked = Unchecked {
            channel: &client_event.channel,
            name: &client_event.name,
            data: client_event.data.map_or(Ok("null".into()), json::as_text),
            reaches_sender: client_event.reaches_sender,
        };
        if let Err(refused) = self.publish_checked(unchecked).await {
            let code = (refused.reason == Reason::OverRate).then_some(OVER_RATE);
            self.send_error_with(code, &refused.message);
        }
    }

    /// Publishes the text of a raw client as a client event whose data it is. Only the end of its connection tells a
    /// raw client that a text was refused, so one that came too fast is just dropped.
    pub(crate) async fn raw_text(&self, channel: &str, text: &str) {
        let unchecked = Unchecked {
            channel,
            name: RAW_EVENT,
            data: Ok(text.into()),
            reaches_sender: false,
        };
        let Err(Refused { reason, message }) = self.publish_checked(unchecked).await else {
            return;
        };
        let code = match reason {
            Reason::OverRate => return,
            Reason::Invalid => CloseCode::Refused,
            // The client may come back, and its next text may be sent.
            Reason::NotPublished => CloseCode::OverCapacity,
        };
        self.refuse_raw(code, &message);
    }

    /// Checks and publishes a client event, and notes it or its refusal for operators.
    async fn publish_checked(&self, unchecked: Unchecked<'_>) -> Result<(), Refused> {
        let (channel, name) = (unchecked.channel, unchecked.name);
        let published = match self.check_client_event(&unchecked) {
            Ok(envelope) => self
                .shard
                .engine
                .publish_client_event(envelope, self.socket_id())
                .await
                .map_err(|error| Refused {
                    reason: Reason::NotPublished,
                    message: format!("Client event {name} was not sent: {error}"),
                }),
            Err(refused) => Err(refused),
        };
        match &published {
            Ok(()) => {
                let state = &mut *self.shard.state();
                let app = state.connections[self.slot].app_slot;
                state.stats.of(app).client_events += 1;
                state.connections[self.slot].note_lifecycle(&Note {
                    channel: Some(channel),
                    text: Some(name),
                    ..Note::of(LifecycleKind::ClientEvent)
                });
            }
            Err(Refused { message, .. }) => {
                let (channel, name) = (Some(channel), Some(name));
                self.note_refusal_of(RefusalKind::ClientEvent, message, channel, name);
            }
        }
        published
    }

    /// Checks a client event by the app's settings and its rate, and returns its envelope.
    fn check_client_event(&self, unchecked: &Unchecked<'_>) -> Result<Envelope, Refused> {
        let (name, channel) = (unchecked.name, unchecked.channel);
        let app = self.with(|connection| connection.app.clone());
        let settings = app.settings();
        check_kind(&settings, name, channel)?;
        let subscribed = self.with(|connection| {
            let entry = connection.subscriptions.get_entry(channel);
            entry.map(|(name, subscription)| {
                (
                    name.clone(),
                    subscription.member.as_ref().map(|(user, _)| user.clone()),
                )
            })
        });
        let Some((channel, user_id)) = subscribed else {
            return Err(format!(
                "Connection not subscribed to channel {channel}: {name} was not sent"
            )
            .into());
        };
        let data = unchecked.data.as_ref();
        let data = data.map_err(|error| format!("Invalid data of client event {name}: {error}"))?;
        check_data(&settings, name, data)?;
        self.check_pace(settings.limits.client_events_per_second)?;
        let except = (!unchecked.reaches_sender).then(|| self.socket_id());
        Ok(Envelope {
            trace: None,
            history: app.retention(&channel),
            channel_ref: ChannelRef { app, channel },
            name: name.into(),
            data: (&**data).into(),
            user_id,
            except,
            keep: false,
        })
    }

    /// Counts a client event against the connection's rate.
    fn check_pace(&self, per_second: u32) -> Result<(), Refused> {
        let Some(allowed) = NonZeroU32::new(per_second) else {
            // The app sets no rate for the client events that it accepts; refused ones count as
            // messages.
            self.with(|connection| connection.is_exempt = true);
            return Ok(());
        };
        let within = self.with(|connection| {
            // A changed limit applies to existing connections too.
            let known = connection.client_events.take();
            let rate = known
                .filter(|rate| rate.is_at(allowed))
                .unwrap_or_else(|| Box::new(ClientEventRate::new(allowed)));
            let within = rate.takes_one();
            connection.client_events = Some(rate);
            within
        });
        let message = || {
            format!(
                "Client event rate limit exceeded: at most {per_second} per second, this one was dropped"
            )
        };
        if within {
            Ok(())
        } else {
            Err(Refused {
                reason: Reason::OverRate,
                message: message(),
            })
        }
    }
}

/// A client event that an operator sends in place of a client.
#[derive(Debug, Clone)]
pub struct SimulatedClientEvent {
    /// The event's name, `client-` included.
    pub name: String,
    /// Its channel.
    pub channel: ChannelName,
    /// The `data` that subscribers get, unchanged.
    pub data: String,
    /// The connection that counts as its sender, and doesn't get it. `None` for one that doesn't exist.
    pub socket_id: Option<SocketId>,
    /// The user that counts as its sender. Presence channels need one.
    pub user_id: Option<UserId>,
}

/// Why a simulated client event was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// No client of the app could send it.
    #[error("{0}")]
    Invalid(String),
    /// It could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl Engine {
    /// Sends an event as a subscribed client would: under the app's settings, to the channel's other subscribers and to
    /// whoever wants notices of client events.
    ///
    /// # Errors
    ///
    /// Returns why no client could send the event, or why it could not be published.
    pub async fn simulate_client_event(
        &self,
        app: &Arc<App>,
        simulated: SimulatedClientEvent,
    ) -> Result<(), SimulateError> {
        let SimulatedClientEvent {
            name,
            channel,
            data,
            socket_id,
            user_id,
        } = simulated;
        if !name.starts_with(event::CLIENT_PREFIX) {
            return Err(SimulateError::Invalid(format!(
                "The name of a client event begins with {}: {name}",
                event::CLIENT_PREFIX
            )));
        }
        let settings = app.settings();
        let checked = check_kind(&settings, &name, channel.as_str())
            .and_then(|()| check_data(&settings, &name, &data));
        checked.map_err(SimulateError::Invalid)?;
        if channel.kind().has_members() != user_id.is_some() {
            return Err(SimulateError::Invalid(format!(
                "A client event has a user_id on presence channels and on no others: {channel}"
            )));
        }
        let max = settings.limits.user_id;
        if user_id
            .as_ref()
            .is_some_and(|user| user.as_str().chars().count() > max)
        {
            return Err(SimulateError::Invalid(format!(
                "The user_id exceeds {max} characters"
            )));
        }
        let socket_id = socket_id.unwrap_or_else(SocketId::random);
        let envelope = Envelope {
            trace: None,
            history: app.retention(&channel),
            channel_ref: ChannelRef {
                app: Arc::clone(app),
                channel,
            },
            name: name.into(),
            data: data.into(),
            user_id,
            except: Some(socket_id),
            keep: false,
        };
        Ok(self.publish_client_event(envelope, socket_id).await?)
    }

    /// Publishes an event that counts against the app's quotas, as those of backends do.
    async fn publish_client_event(
        &self,
        envelope: Envelope,
        socket_id: SocketId,
    ) -> Result<(), PublishError> {
        let app = Arc::clone(&envelope.channel_ref.app);
        self.quotas.reserve(&app, 1).await?;
        let noticed = app.wants_client_events().then(|| envelope.clone());
        let published = self.bus().publish(vec![envelope], None).await;
        if published.is_err() {
            self.quotas.refund(&app, 1);
        }
        published?;
        if let Some(accepted) = noticed {
            let notice = Notice::ClientEvent {
                event: &accepted.name,
                data: &accepted.data,
                socket_id,
                user_id: accepted.user_id.as_ref(),
            };
            let channel = &accepted.channel_ref.channel;
            self.node().notice(&app, channel, notice);
        }
        Ok(())
    }
}

/// Checks that an app's clients may send an event of this name on this channel.
fn check_kind(settings: &AppSettings, name: &str, channel: &str) -> Result<(), String> {
    if !settings.client_events {
        return Err(format!(
            "Client events are not enabled for this app: {name} was not sent"
        ));
    }
    event::check_name(name, settings.limits.event_name).map_err(|error| error.to_string())?;
    if !settings.takes_client_events(channel) {
        return Err(format!(
            "Client events need a private or presence channel, or one that the app's client_event_channels name: {channel} is neither"
        ));
    }
    Ok(())
}

/// Checks the length of a client event's data.
fn check_data(settings: &AppSettings, name: &str, data: &str) -> Result<(), String> {
    let (sent, max) = (data.len(), settings.limits.client_event_data);
    if sent <= max {
        return Ok(());
    }
    Err(format!(
        "The data content of client event {name} exceeds {max} bytes: it has {sent}"
    ))
}
