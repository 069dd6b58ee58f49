//! Events from clients (docs/protocol.md#client-events).

use std::num::NonZeroU32;
use std::sync::Arc;

use fanfare_protocol::client::ClientEvent;
use fanfare_protocol::{ChannelKind, ServerMessage, event, json};

use crate::bus::Envelope;
use crate::channel_ref::ChannelRef;
use crate::notice::Notice;
use crate::publish::PublishError;
use crate::rate_limit::ClientEventRate;
use crate::refusals::RefusalKind;
use crate::session::{Session, excerpt};

/// The error code for "too many client events"; the event is dropped and the connection stays.
const OVER_RATE: u16 = 4301;

struct Refused {
    code: Option<u16>,
    message: String,
}

impl From<String> for Refused {
    fn from(message: String) -> Self {
        Self {
            code: None,
            message,
        }
    }
}

impl Session {
    /// Publishes a client event, and waits until the bus has it; a refused one gets an error.
    pub(crate) async fn client_event(&self, client_event: ClientEvent<'_>) {
        let (channel, name) = (&client_event.channel, &client_event.name);
        let published = match self.check_client_event(&client_event) {
            Ok(envelope) => self
                .publish_client_event(envelope)
                .await
                .map_err(|error| Refused {
                    code: None,
                    message: format!("Client event {} was not sent: {error}", client_event.name),
                }),
            Err(refused) => Err(refused),
        };
        if published.is_ok() {
            let state = &mut *self.shard.state();
            let app = state.connections[self.slot].app_slot;
            state.stats.of(app).client_events += 1;
        }
        if let Err(Refused { code, message }) = published {
            let (channel, name) = (Some(&**channel), Some(&**name));
            self.note_refusal_of(RefusalKind::ClientEvent, &message, channel, name);
            self.send(&ServerMessage::Error {
                code,
                message: excerpt(&message),
            });
        }
    }

    /// Publishes an event that counts against the app's quotas, as those of backends do.
    async fn publish_client_event(&self, envelope: Envelope) -> Result<(), PublishError> {
        let engine = &self.shard.engine;
        let app = Arc::clone(&envelope.channel_ref.app);
        engine.quotas.reserve(&app, 1).await?;
        let noticed = app.wants_client_events().then(|| envelope.clone());
        let published = engine.bus().publish(vec![envelope], None).await;
        if published.is_err() {
            engine.quotas.refund(&app, 1);
        }
        published?;
        if let Some(accepted) = noticed {
            let notice = Notice::ClientEvent {
                event: &accepted.name,
                data: &accepted.data,
                socket_id: self.socket_id(),
                user_id: accepted.user_id.as_ref(),
            };
            let channel = &accepted.channel_ref.channel;
            engine.node().notice(&app, channel, notice);
        }
        Ok(())
    }

    /// Checks a client event by the app's settings and its rate, and returns its envelope.
    fn check_client_event(&self, client_event: &ClientEvent<'_>) -> Result<Envelope, Refused> {
        let (name, channel) = (&client_event.name, &client_event.channel);
        let app = self.with(|connection| connection.app.clone());
        let settings = app.settings();
        if !settings.client_events {
            return Err(
                format!("Client events are not enabled for this app: {name} was not sent").into(),
            );
        }
        event::check_name(name, settings.limits.event_name).map_err(|error| error.to_string())?;
        if !ChannelKind::of(channel).takes_client_events() {
            return Err(format!(
                "Client events need a private or presence channel: {channel} is neither"
            )
            .into());
        }
        let subscribed = self.with(|connection| {
            let entry = connection.subscriptions.get_key_value(&**channel);
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
        let data = client_event.data.map_or(Ok("null".into()), json::as_text);
        let data = data.map_err(|error| format!("Invalid data of client event {name}: {error}"))?;
        let max = settings.limits.client_event_data;
        if data.len() > max {
            let sent = data.len();
            return Err(format!(
                "The data content of client event {name} exceeds {max} bytes: it has {sent}"
            )
            .into());
        }
        self.check_pace(settings.limits.client_events_per_second)?;
        let except = Some(self.socket_id());
        Ok(Envelope {
            trace: None,
            history: app.retention(&channel),
            channel_ref: ChannelRef { app, channel },
            name: (&**name).into(),
            data: (&*data).into(),
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
                code: Some(OVER_RATE),
                message: message(),
            })
        }
    }
}
