//! Admission and greeting (docs/protocol.md#handshake, docs/protocol.md#close-codes).

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use fanfare_protocol::{
    AppKey, CloseCode, Framing, NEWEST_PROTOCOL, OLDEST_PROTOCOL, ServerMessage,
};
use tokio::time::Instant;

use crate::admitted::Admitted;
use crate::app::App;
use crate::budget::{BudgetExceeded, Payer, Resource};
use crate::connection::Connection;
use crate::engine::Engine;
use crate::error::Refusal;
use crate::live::{LiveEvent, LiveKind};
use crate::outbox::Sink;
use crate::permit::{ConnectionPermit, Permits};
use crate::roster::RosterError;
use crate::session::Session;
use crate::shard::Shard;

/// Returns how many connections of one network are a large share of a quota: a quarter of a small
/// quota, a thirty-second of a large one. Keeping clients away for good then takes more than thirty
/// networks.
pub(crate) fn large_share(quota: usize) -> usize {
    (quota / 4).min((quota / 32).max(4))
}

/// Why a connection gets no permits.
pub(crate) enum NoPermits {
    /// The app has as many connections as it may have.
    OverQuota {
        quota: usize,
        /// Whether many networks use the quota up, so that its client need not come back.
        is_final: bool,
    },
    /// Connections may still count that are not there.
    Unsettled,
    Refused(Refusal),
}

impl From<BudgetExceeded> for NoPermits {
    fn from(exceeded: BudgetExceeded) -> Self {
        Self::Refused(over_budget(exceeded))
    }
}

impl From<Refusal> for NoPermits {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The request of a connection to be admitted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Arrival<'a> {
    /// The app key in its URL.
    pub key: &'a str,
    /// The protocol version in its URL.
    pub protocol: Option<&'a str>,
    /// The web origin, if a browser sent one.
    pub origin: Option<&'a str>,
    /// Whether the connection uses TLS.
    pub secure: bool,
    /// The address whose network is charged for the connection, or `None` where no network is
    /// charged.
    pub charged_address: Option<IpAddr>,
}

impl Engine {
    /// Decides whether to admit a connection, and takes permits for it on this node alone.
    ///
    /// # Errors
    ///
    /// Returns a [`Refusal`] whose close code tells the client what to do.
    pub fn admit(&self, arrival: Arrival<'_>) -> Result<Admitted, Refusal> {
        let mut admitted = self.admit_pending(arrival)?;
        let permits = self.local_permits(&admitted.app, &admitted.payer);
        admitted.permits = Some(permits?);
        Ok(admitted)
    }

    /// Decides whether to admit a connection, and takes permits for it on all nodes. If the app's
    /// quota is used up, a connection of a network that holds a large part of it is closed to make
    /// room. Waits for the other nodes.
    ///
    /// # Errors
    ///
    /// Returns a [`Refusal`] whose close code tells the client what to do.
    pub async fn admit_on_all_nodes(&self, arrival: Arrival<'_>) -> Result<Admitted, Refusal> {
        let mut admitted = self.admit_pending(arrival)?;
        admitted.permits = Some(self.take_permits(&admitted.app, &admitted.payer).await?);
        Ok(admitted)
    }

    /// Decides whether to admit a client that has yet to show that it answers. The client gets its
    /// permits from [`Session::take_permits`](crate::Session::take_permits).
    ///
    /// # Errors
    ///
    /// Returns a [`Refusal`] whose close code tells the client what to do.
    pub fn admit_pending(&self, arrival: Arrival<'_>) -> Result<Admitted, Refusal> {
        let Arrival {
            key,
            protocol,
            origin,
            secure,
            charged_address,
        } = arrival;
        if key.is_empty() {
            return Err(Refusal::new(
                CloseCode::PathNotFound,
                "Path not found: connect to /app/APP_KEY",
            ));
        }
        check_protocol(protocol)?;
        let unknown = || {
            let message = match self.apps().by_former_key(key) {
                Some((_, former)) => former.to_string(),
                None => format!("Could not find an app with key {key:?}"),
            };
            Refusal::new(CloseCode::UnknownApp, message)
        };
        let app = self.apps().by_key(key).ok_or_else(unknown)?;
        let key = AppKey::parse(key).map_err(|_| unknown())?;
        if let Some(refusal) = app.refusal(&key) {
            return Err(refusal);
        }
        if app.settings().tls_only && !secure {
            return Err(Refusal::new(
                CloseCode::TlsOnly,
                "The app takes connections over TLS only, reconnect with wss://",
            ));
        }
        if origin.is_some_and(|origin| !app.settings().allows_origin(origin)) {
            let message = format!(
                "Origin {} is not allowed to connect (allowed_origins)",
                origin.unwrap_or_default()
            );
            return Err(Refusal::new(CloseCode::Unauthorized, message));
        }
        if let Some(used_up) = self.quotas.used_up(&app) {
            return Err(Refusal::new(CloseCode::OverQuota, used_up.to_string()));
        }
        if self.is_draining() {
            // Not the code that connections here get: its "at once" would bring clients back to
            // this node again and again.
            return Err(self.deliverer().drain_refusal(CloseCode::OverCapacity));
        }
        let payer = self
            .ledger()
            .payer_of(charged_address, Some(Arc::clone(&app.usage)));
        Ok(Admitted {
            app,
            key,
            address: None,
            client: None,
            permits: None,
            payer,
        })
    }

    /// Takes permits on all nodes, or those of a connection that is displaced for this one.
    async fn take_permits(&self, app: &Arc<App>, payer: &Payer) -> Result<Permits, Refusal> {
        // Local permits first, so that a full node asks no other node.
        let (refused, local) = match self.local_permits(app, payer) {
            Ok(permits) => match self.count_over_all_nodes(app).await {
                Ok(counted) => return Ok(permits.counted(counted)),
                Err(refused) => (refused, Some(permits)),
            },
            Err(refused) => (refused, None),
        };
        let (quota, is_settled) = match refused {
            NoPermits::OverQuota { quota, .. } => (quota, true),
            // Attempts that wait for other nodes have taken what was left here. Those of one network must not keep
            // others out.
            NoPermits::Unsettled if local.is_none() => (app.settings().limits.connections, false),
            refused => return Err(refused.into()),
        };
        let displaced = self.displace(app, payer, quota, local).await;
        displaced.map_err(|error| match error {
            NoPermits::OverQuota { .. } if !is_settled => NoPermits::Unsettled.into(),
            error => error.into(),
        })
    }

    /// Takes permits on this node alone.
    fn local_permits(&self, app: &Arc<App>, payer: &Payer) -> Result<Permits, NoPermits> {
        if let Some(resource) = self.ledger().nearly_full() {
            // The rest is for the connections that are here already.
            let refusal = Refusal::new(
                CloseCode::OverCapacity,
                format!(
                    "This server holds nearly as many {} as it may, reconnect",
                    resource.name()
                ),
            );
            return Err(refusal.into());
        }
        // Charged before the quota is checked, because the close code differs: a client that is
        // refused over its network's bound reconnects later.
        let charge = payer.charge(Resource::Connections, 1)?;
        let max = self.options().max_connections;
        let full = || {
            Refusal::new(
                CloseCode::OverCapacity,
                format!("This server has {max} connections, the most it takes"),
            )
        };
        let on_node = ConnectionPermit::take(self.connection_count(), max).ok_or_else(full)?;
        let quota = app.settings().limits.connections;
        let max = if quota == 0 { usize::MAX } else { quota };
        let no_room = || {
            // Connections that other nodes are being asked about may be refused themselves.
            if app.connection_count() >= max {
                over_quota(quota)
            } else {
                NoPermits::Unsettled
            }
        };
        let of_app = ConnectionPermit::take(&app.connections, max).ok_or_else(no_room)?;
        Ok(Permits::here(on_node, of_app, charge))
    }
}

impl Engine {
    /// Asks the other nodes whether the app has room for a connection that this node would admit,
    /// and waits for the answer. While they are disconnected, this node decides alone.
    async fn count_over_all_nodes(&self, app: &Arc<App>) -> Result<ConnectionPermit, NoPermits> {
        let quota = app.settings().limits.connections;
        if quota == 0 {
            return Ok(app.count_connection());
        }
        match self.roster().admit(app, quota).await {
            Ok(counted) => counted.ok_or(over_quota(quota)),
            // The code of a quota would keep the client away for good.
            Err(RosterError::Unsettled) => Err(NoPermits::Unsettled),
            Err(_) => Ok(app.count_connection()),
        }
    }
}

impl Session {
    /// Shows a new connection to those who watch the app.
    fn show_connection(&self) {
        let (key, address, framing, client) = self.with(|connection| {
            let (key, client) = (connection.key.clone(), connection.client());
            (key, connection.address, connection.framing(), client)
        });
        let (name, version) = client;
        let client = format!("{name} {version}");
        self.show_live(LiveEvent {
            key: Some(key.as_str()),
            address,
            client: Some(client.trim()).filter(|client| !client.is_empty()),
            transport: Some(match framing {
                Framing::WebSocket => "websocket",
                Framing::SockJs => "http",
                Framing::Object | Framing::Raw => "plain_websocket",
                Framing::EventStream(_) => "sse",
                Framing::SocketIo => "socket_io",
            }),
            ..LiveEvent::new(LiveKind::Connected)
        });
    }

    /// Takes permits for a connection that was admitted without any.
    ///
    /// # Errors
    ///
    /// Returns a [`Refusal`] whose close code tells the client what to do.
    pub async fn take_permits(&self) -> Result<(), Refusal> {
        let engine = &self.shard.engine;
        let (app, payer) =
            self.with(|connection| (connection.app.clone(), connection.payer.clone()));
        let permits = engine.take_permits(&app, &payer).await?;
        self.with(|connection| connection.permits = Some(permits));
        Ok(())
    }
}

/// Refuses a connection over a budget. Stock clients reconnect after this code, to this node or
/// another.
fn over_budget(exceeded: BudgetExceeded) -> Refusal {
    Refusal::new(CloseCode::OverCapacity, format!("{exceeded}, reconnect"))
}

fn over_quota(quota: usize) -> NoPermits {
    NoPermits::OverQuota {
        quota,
        is_final: true,
    }
}

impl From<NoPermits> for Refusal {
    fn from(refused: NoPermits) -> Self {
        match refused {
            NoPermits::OverQuota { quota, is_final } => {
                let code = if is_final {
                    CloseCode::OverQuota
                } else {
                    CloseCode::OverCapacity
                };
                let message = format!(
                    "The app has {quota} connections, the most it may have (limits.connections)"
                );
                Self::new(code, message)
            }
            NoPermits::Unsettled => Self::new(
                CloseCode::OverCapacity,
                "The app has as many connections as it may have, some of them just gone or not let in yet, reconnect",
            ),
            NoPermits::Refused(refusal) => refusal,
        }
    }
}

/// Checks the protocol version. Versions 4 to 7 are treated alike.
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
    /// Registers an admitted connection and greets it.
    #[must_use]
    pub fn connect(self: &Rc<Self>, admitted: Admitted, sink: Box<dyn Sink>) -> Session {
        let mut state = self.state();
        let connection = Connection::new(admitted, sink, Instant::now(), &mut state.stats);
        let greeting = ServerMessage::ConnectionEstablished {
            socket_id: connection.socket_id,
            activity_timeout: self.engine.options().activity_timeout.as_secs(),
        };
        let framing = connection.framing();
        let refusal = connection.app.refusal(&connection.key);
        let slot = state.connections.insert(connection);
        drop(state);
        let session = Session::new(Rc::clone(self), slot, framing);
        session.push_raw(framing.opening());
        session.send(&greeting);
        session.flush();
        if session.is_watched() {
            session.show_connection();
        }
        if let Some(refusal) = refusal {
            // A change between admission and now was reviewed without this connection.
            session.close(&refusal);
        } else if self.engine.is_draining() {
            // The drain has listed its connections already.
            let deliverer = self.engine.deliverer();
            session.close(&deliverer.drain_refusal(CloseCode::Reconnect));
        }
        session
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_networks_never_keep_clients_of_a_large_app_away_for_good() {
        assert_eq!([1, 8, 40].map(large_share), [0, 2, 4]);
        // Five networks that share a quota of a thousand are each far above it.
        assert_eq!([100, 1000, 10_000].map(large_share), [4, 31, 312]);
        assert!(1000 / 5 > large_share(1000));
    }
}
