//! Admission and greeting (docs/protocol.md#handshake, docs/protocol.md#close-codes).

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use fanfare_protocol::{AppKey, CloseCode, NEWEST_PROTOCOL, OLDEST_PROTOCOL, ServerMessage};
use tokio::time::Instant;

use crate::admitted::Admitted;
use crate::app::App;
use crate::budget::{BudgetExceeded, Payer, Resource};
use crate::connection::Connection;
use crate::engine::Engine;
use crate::error::Refusal;
use crate::outbox::Sink;
use crate::permit::{ConnectionPermit, Permits};
use crate::roster::RosterError;
use crate::session::Session;
use crate::shard::Shard;

/// How many connections of one network are many beside a quota: a quarter of a small one, a thirty-second of a large one.
/// Somebody who wants to keep clients away for good needs more than thirty networks then.
fn large_share(quota: usize) -> usize {
    (quota / 4).min((quota / 32).max(4))
}

/// Why there are no permits for a connection.
enum NoPermits {
    /// The app has as many connections as it may have.
    OverQuota(usize),
    Refused(Refusal),
}

impl From<Refusal> for NoPermits {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

fn shutting_down(code: CloseCode) -> Refusal {
    Refusal::new(code, "This server is shutting down, reconnect")
}

/// What is known of a connection that wants to come in.
#[derive(Debug, Clone, Copy, Default)]
pub struct Arrival<'a> {
    /// The app key of its URL.
    pub key: &'a str,
    /// The protocol version of its URL.
    pub protocol: Option<&'a str>,
    /// The web origin, where a browser gives one.
    pub origin: Option<&'a str>,
    /// Whether it came over TLS.
    pub secure: bool,
    /// The address whose network is charged for it; none where no bound of a network applies.
    pub charged_address: Option<IpAddr>,
}

impl Engine {
    /// Decides whether a connection may come in, and takes permits for it on this node alone.
    ///
    /// # Errors
    ///
    /// Why not, with the code that tells the client what to do.
    pub fn admit(&self, arrival: Arrival<'_>) -> Result<Admitted, Refusal> {
        let mut admitted = self.admit_pending(arrival)?;
        let permits = self.local_permits(&admitted.app, &admitted.payer);
        admitted.permits = Some(permits.map_err(|refused| self.refusal_of(refused))?);
        Ok(admitted)
    }

    /// Decides whether a connection may come in, and takes permits for it on all nodes. Where the app's quota is used up, a
    /// connection of a network that holds a large part of it is closed for the newcomer.
    ///
    /// # Errors
    ///
    /// Why not, with the code that tells the client what to do.
    pub async fn admit_on_all_nodes(&self, arrival: Arrival<'_>) -> Result<Admitted, Refusal> {
        let mut admitted = self.admit_pending(arrival)?;
        admitted.permits = Some(self.take_permits(&admitted.app, &admitted.payer).await?);
        Ok(admitted)
    }

    /// Decides whether a client may come in that has yet to show that it is there: it takes a place with
    /// [`Session::take_permits`](crate::Session::take_permits).
    ///
    /// # Errors
    ///
    /// Why not, with the code that tells the client what to do.
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
        if self.is_draining() {
            // Not the code its own connections get: "at once" would bring clients back here again and again.
            return Err(shutting_down(CloseCode::OverCapacity));
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

    async fn take_permits(&self, app: &Arc<App>, payer: &Payer) -> Result<Permits, Refusal> {
        let refused = match self.local_permits(app, payer) {
            Ok(permits) => match self.count_over_all_nodes(app).await {
                Ok(counted) => {
                    return Ok(permits.counted(counted));
                }
                Err(refused) => refused,
            },
            Err(refused) => refused,
        };
        if let NoPermits::OverQuota(quota) = refused
            && let Some(permits) = self.displace(app, payer, quota).await
        {
            return Ok(permits);
        }
        Err(self.refusal_of(refused))
    }

    fn refusal_of(&self, refused: NoPermits) -> Refusal {
        match refused {
            NoPermits::OverQuota(quota) => self.over_quota(quota),
            NoPermits::Refused(refusal) => refusal,
        }
    }

    fn local_permits(&self, app: &Arc<App>, payer: &Payer) -> Result<Permits, NoPermits> {
        if let Some(resource) = self.ledger().nearly_full() {
            // What is left is for the connections that are here.
            let refusal = Refusal::new(
                CloseCode::OverCapacity,
                format!(
                    "This server holds nearly as many {} as it may, reconnect",
                    resource.name()
                ),
            );
            return Err(refusal.into());
        }
        // Before the quota: a client that is refused because of many from its network comes back.
        let charge = payer
            .charge(Resource::Connections, 1)
            .map_err(over_budget)?;
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
            // Those that are still being asked about may be refused themselves.
            if app.connection_count() >= max {
                NoPermits::OverQuota(quota)
            } else {
                unsettled().into()
            }
        };
        let of_app = ConnectionPermit::take(&app.connections, max).ok_or_else(no_room)?;
        Ok(Permits::here(on_node, of_app, charge))
    }

    /// Stock clients never come back after the code of a quota. Where one network may have used it up, they are to.
    fn over_quota(&self, quota: usize) -> Refusal {
        let message =
            format!("The app has {quota} connections, the most it may have (limits.connections)");
        let largest = self.ledger().largest_network(Resource::Connections);
        let code = if largest > large_share(quota) {
            CloseCode::OverCapacity
        } else {
            CloseCode::OverQuota
        };
        Refusal::new(code, message)
    }
}

impl Engine {
    /// Asks the other nodes whether the app has room for a connection that this node would let in. While they are away,
    /// what is known here decides.
    async fn count_over_all_nodes(&self, app: &Arc<App>) -> Result<ConnectionPermit, NoPermits> {
        let quota = app.settings().limits.connections;
        if quota == 0 {
            return Ok(app.count_connection());
        }
        match self.roster().admit(app, quota).await {
            Ok(counted) => counted.ok_or(NoPermits::OverQuota(quota)),
            // The code of a quota would keep the client away for good.
            Err(RosterError::Unsettled) => Err(unsettled().into()),
            Err(_) => Ok(app.count_connection()),
        }
    }
}

impl Session {
    /// Takes a place for a connection that was admitted without one.
    ///
    /// # Errors
    ///
    /// There is none, with the code that tells the client what to do.
    pub async fn take_permits(&self) -> Result<(), Refusal> {
        let engine = &self.shard.engine;
        let (app, payer) =
            self.with(|connection| (connection.app.clone(), connection.payer.clone()));
        let permits = engine.take_permits(&app, &payer).await?;
        self.with(|connection| connection.permits = Some(permits));
        Ok(())
    }
}

/// Stock clients come back after this code, to this node or another.
fn over_budget(exceeded: BudgetExceeded) -> Refusal {
    Refusal::new(CloseCode::OverCapacity, format!("{exceeded}, reconnect"))
}

fn unsettled() -> Refusal {
    Refusal::new(
        CloseCode::OverCapacity,
        "The app has as many connections as it may have, some of them just gone or not let in yet, reconnect",
    )
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
    pub fn connect(self: &Rc<Self>, admitted: Admitted, sink: Box<dyn Sink>) -> Session {
        let connection = Connection::new(admitted, sink, Instant::now());
        let greeting = ServerMessage::ConnectionEstablished {
            socket_id: connection.socket_id,
            activity_timeout: self.engine.options().activity_timeout.as_secs(),
        };
        let opening = connection.framing().opening();
        let refusal = connection.app.refusal(&connection.key);
        let slot = self.state().connections.insert(connection);
        let session = Session::new(Rc::clone(self), slot);
        session.push_raw(opening);
        session.send(&greeting);
        session.flush();
        if let Some(refusal) = refusal {
            // What has changed since it was admitted was reviewed without it.
            session.close(&refusal);
        } else if self.engine.is_draining() {
            // The drain has listed its connections already.
            session.close(&shutting_down(CloseCode::Reconnect));
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
