//! The one way in for an event.

use std::sync::Arc;

use fanfare_protocol::api::Event;

use crate::app::App;
use crate::bus::{BusError, Envelope};
use crate::engine::Engine;
use crate::roster::Place;

impl Engine {
    /// Takes events that were checked, in order: all of them, or none. When this returns, they will be written to every
    /// subscriber whose connection stays open.
    ///
    /// # Errors
    ///
    /// The node cannot take them now.
    pub async fn publish(&self, app: &Arc<App>, events: &[Event]) -> Result<(), BusError> {
        let mut envelopes =
            Vec::with_capacity(events.iter().map(|event| event.channels.len()).sum());
        for event in events {
            let (name, data): (Arc<str>, Arc<str>) =
                (event.name.as_str().into(), event.data.as_str().into());
            envelopes.extend(event.channels.iter().map(|channel| Envelope {
                place: Place {
                    app: Arc::clone(app),
                    channel: channel.clone(),
                },
                name: Arc::clone(&name),
                data: Arc::clone(&data),
                user_id: None,
                except: event.except,
                keep: channel.is_cached(),
            }));
        }
        self.bus().publish(envelopes).await
    }
}
