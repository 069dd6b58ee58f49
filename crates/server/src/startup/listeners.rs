//! The sockets of a node: one address for everybody, or one for clients and backends and another for operators.

use std::io;
use std::net::SocketAddr;

use anyhow::Context;
use tokio_util::task::TaskTracker;

use super::handlers::listening;
use crate::app_state::AppState;
use crate::config::Config;
use crate::edge::listener::{self, Shutdown};
use crate::edge::listening_socket::ListeningSockets;
use crate::failure::{Code, Failure};
use crate::router::Audience;
use crate::server_lock::ServerLock;

/// Bound sockets, on which nothing is accepted yet.
pub(super) struct NodeSockets {
    /// Those of `listen`.
    pub(super) main: ListeningSockets,
    /// That of `ops.listen`.
    ops: Option<ListeningSockets>,
}

impl NodeSockets {
    /// Binds the addresses of the configuration, except where a supervisor has passed the sockets.
    pub(super) fn bind(
        config: &Config,
        inherited: Option<ListeningSockets>,
    ) -> Result<Self, Failure> {
        let bind = |address| {
            ListeningSockets::bind(address).map_err(|error| cannot_listen(config, address, &error))
        };
        Ok(Self {
            main: inherited.map_or_else(|| bind(config.listen), Ok)?,
            ops: config.ops.listen.map(bind).transpose()?,
        })
    }

    /// Returns an address at which operators are served.
    pub(super) fn operators(&self) -> io::Result<SocketAddr> {
        Ok(self.ops.as_ref().unwrap_or(&self.main).addresses()?[0])
    }

    /// Accepts clients on all sockets, and returns the listeners' tasks.
    pub(super) fn serve(
        self,
        config: &Config,
        state: &AppState,
        shutdown: &Shutdown,
    ) -> anyhow::Result<TaskTracker> {
        let listeners = TaskTracker::new();
        let serve = |sockets: ListeningSockets, audience| -> anyhow::Result<()> {
            let listening = listening(config, state.clone(), audience);
            for socket in sockets.into_tokio().context("watching our sockets")? {
                listeners.spawn(listener::serve(socket, listening.clone(), shutdown.clone()));
            }
            Ok(())
        };
        match self.ops {
            None => serve(self.main, Audience::All)?,
            Some(ops) => {
                let listen = ops.addresses().context("reading our own address")?[0];
                serve(ops, Audience::Operators)?;
                serve(self.main, Audience::ClientsAndBackends)?;
                tracing::info!(%listen, "the admin API and metrics are at this address alone (ops.listen)");
            }
        }
        listeners.close();
        Ok(listeners)
    }
}

/// Returns why the address can't be used, and what to do.
fn cannot_listen(config: &Config, listen: SocketAddr, error: &io::Error) -> Failure {
    // Another server on the same store explains more than a port in use.
    if let Some(refused) = ServerLock::held_by_another(config) {
        return refused;
    }
    let (code, why) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            Code::Conflict,
            "address already in use: another program listens there; stop it, or choose another port"
                .to_owned(),
        ),
        io::ErrorKind::AddrNotAvailable => (
            // The address may appear later: at boot, interfaces get their addresses after this.
            Code::Unavailable,
            format!(
                "{} is not an address of this machine; 0.0.0.0:{} is all that it has",
                listen.ip(),
                listen.port()
            ),
        ),
        io::ErrorKind::PermissionDenied => (
            Code::Misuse,
            "this user may not use that port; ports below 1024 need CAP_NET_BIND_SERVICE, others do not".to_owned(),
        ),
        _ => (Code::Failed, error.to_string()),
    };
    Failure::new(
        code,
        format!("cannot listen on {listen} (setting listen, FANFARE_LISTEN, --listen): {why}"),
    )
}
