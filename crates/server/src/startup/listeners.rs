//! The sockets of a node: one address for everybody, or one for clients and backends and another for operators.

use std::io;
use std::net::SocketAddr;

use anyhow::Context;
use tokio_util::task::TaskTracker;

use super::handlers::listening;
use super::redirect::redirect_browsers;
use crate::app_state::AppState;
use crate::config::Config;
use crate::edge::listener::{self, Listening, Shutdown};
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
    /// That of `tls.listen`.
    tls: Option<ListeningSockets>,
}

impl NodeSockets {
    /// Binds the addresses of the configuration, except where a supervisor has passed the sockets.
    pub(super) fn bind(
        config: &Config,
        inherited: Option<ListeningSockets>,
    ) -> Result<Self, Failure> {
        let bind = |setting, address| {
            ListeningSockets::bind(address)
                .map_err(|error| cannot_listen(config, setting, address, &error))
        };
        let bind_if =
            |setting, address: Option<_>| address.map(|address| bind(setting, address)).transpose();
        Ok(Self {
            main: inherited.map_or_else(|| bind("listen", config.listen), Ok)?,
            ops: bind_if("ops.listen", config.ops.listen)?,
            tls: bind_if("tls.listen", config.tls_listen())?,
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
        let serve = |sockets: ListeningSockets, listening: Listening| -> anyhow::Result<()> {
            let shutdown = Shutdown {
                keeps_queue: sockets.inherited(),
                ..shutdown.clone()
            };
            for socket in sockets.into_tokio().context("watching our sockets")? {
                listeners.spawn(listener::serve(socket, listening.clone(), shutdown.clone()));
            }
            Ok(())
        };
        let audience = match &self.ops {
            None => Audience::All,
            Some(_) => Audience::ClientsAndBackends,
        };
        if let Some(ops) = self.ops {
            let listen = ops.addresses().context("reading our own address")?[0];
            serve(ops, listening(config, state.clone(), Audience::Operators))?;
            tracing::info!(%listen, "the admin API and metrics are at this address alone (ops.listen)");
        }
        let mut main = listening(config, state.clone(), audience);
        if let (Some(sockets), Some(tls)) = (self.tls, &state.tls) {
            let listen = sockets.addresses().context("reading our own address")?[0];
            let encrypted = Listening {
                tls: Some(tls.acceptor.clone()),
                ..main.clone()
            };
            serve(sockets, encrypted)?;
            tracing::info!(%listen, "TLS is spoken at this address (tls.listen)");
            if config.tls.redirect {
                let port = match config.tls.redirect_port {
                    0 => listen.port(),
                    port => port,
                };
                main.router = redirect_browsers(main.router, state.addresses.clone(), port);
            }
        }
        serve(self.main, main)?;
        listeners.close();
        Ok(listeners)
    }
}

/// Returns why the address can't be used, and what to do.
fn cannot_listen(config: &Config, setting: &str, listen: SocketAddr, error: &io::Error) -> Failure {
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
        match setting {
            "listen" => format!(
                "cannot listen on {listen} (setting listen, FANFARE_LISTEN, --listen): {why}"
            ),
            _ => format!("cannot listen on {listen} (setting {setting}): {why}"),
        },
    )
}
