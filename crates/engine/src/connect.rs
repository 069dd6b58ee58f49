//! Admission and greeting (spec 1.4, 1.6).

use std::rc::Rc;
use std::sync::Arc;

use fanfare_protocol::{AppKey, CloseCode, NEWEST_PROTOCOL, OLDEST_PROTOCOL, ServerMessage};
use tokio::time::Instant;

use crate::app::App;
use crate::connection::Connection;
use crate::engine::Engine;
use crate::error::Refusal;
use crate::outbox::Sink;
use crate::session::Session;
use crate::shard::Shard;

impl Engine {
    /// Decides whether a connection may come in, from what its URL says.
    ///
    /// # Errors
    ///
    /// Why not, with the code that tells the client what to do.
    pub fn admit(&self, key: &str, protocol: Option<&str>) -> Result<(Arc<App>, AppKey), Refusal> {
        if key.is_empty() {
            return Err(Refusal::new(
                CloseCode::PathNotFound,
                "Path not found: connect to /app/APP_KEY",
            ));
        }
        check_protocol(protocol)?;
        let unknown = || {
            Refusal::new(
                CloseCode::UnknownApp,
                format!("Could not find an app with key {key:?}"),
            )
        };
        let app = self.apps().by_key(key).ok_or_else(unknown)?;
        let key = AppKey::parse(key).map_err(|_| unknown())?;
        if let Some(refusal) = app.refusal(&key) {
            return Err(refusal);
        }
        if self.is_draining() {
            // Not the code its own connections get: "at once" would bring clients back here again and again.
            return Err(Refusal::new(
                CloseCode::OverCapacity,
                "This server is shutting down, reconnect",
            ));
        }
        if self.connections() >= self.options().max_connections {
            return Err(Refusal::new(
                CloseCode::OverCapacity,
                "This server has as many connections as it may have",
            ));
        }
        Ok((app, key))
    }
}

/// Versions 4 to 7 are treated alike.
fn check_protocol(protocol: Option<&str>) -> Result<(), Refusal> {
    let protocol = protocol
        .ok_or_else(|| Refusal::new(CloseCode::NoProtocol, "No protocol version supplied"))?;
    match protocol.parse() {
        Ok(version) if (OLDEST_PROTOCOL..=NEWEST_PROTOCOL).contains(&version) => Ok(()),
        _ => Err(Refusal::new(
            CloseCode::UnsupportedProtocol,
            format!(
                "Unsupported protocol version {protocol:?}: this server speaks {OLDEST_PROTOCOL} to {NEWEST_PROTOCOL}"
            ),
        )),
    }
}

impl Shard {
    /// Takes an admitted connection and greets it.
    #[must_use]
    pub fn connect(self: &Rc<Self>, app: Arc<App>, key: AppKey, sink: Box<dyn Sink>) -> Session {
        let connection = Connection::new(app, key, sink, Instant::now());
        let greeting = ServerMessage::ConnectionEstablished {
            socket_id: connection.socket_id,
            activity_timeout: self.engine.options().activity_timeout.as_secs(),
        };
        self.engine.count_connection();
        let slot = self.state().connections.insert(connection);
        let session = Session::new(Rc::clone(self), slot);
        session.send(&greeting);
        session.flush();
        session
    }
}
