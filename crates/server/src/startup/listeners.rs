//! The sockets of a node: one address for everybody, or one for clients and backends and another for operators.

use std::io;
use std::net::SocketAddr;

use anyhow::Context;
use tokio_util::task::TaskTracker;

use super::handlers::listening;
use super::redirect::redirect_browsers;
use crate::app_state::AppState;
use crate::config::{Config, ListenAddress, ListenAddresses};
use crate::edge::listener::{self, Listening, Shutdown};
use crate::edge::listening_socket::{
    HeldSocket, InheritedSockets, ListeningSockets, descriptor_names, without_own,
};
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
    pub(super) fn bind(config: &Config, inherited: InheritedSockets) -> Result<Self, Failure> {
        let mode = config.unix_mode().unwrap_or(0o600);
        let bind = |setting, addresses: &ListenAddresses| {
            ListeningSockets::bind(addresses, mode)
                .map_err(|(address, error)| cannot_listen(config, setting, &address, &error))
        };
        let bind_if = |setting, inherited: Option<_>, address: Option<SocketAddr>| {
            let bind = |address| bind(setting, &ListenAddresses::from(address));
            match inherited {
                Some(inherited) => Ok(Some(inherited)),
                None => address.map(bind).transpose(),
            }
        };
        let tls = match inherited.tls {
            Some(sockets) if config.tls_listen().is_none() => {
                if sockets.inherited() {
                    return Err(no_certificate());
                }
                // The program that this process was before spoke TLS, and its settings have changed since.
                tracing::warn!(
                    "TLS is no longer spoken, because there is no certificate in the configuration any more"
                );
                None
            }
            sockets => sockets,
        };
        let main = inherited.main;
        Ok(Self {
            main: main.map_or_else(|| bind("listen", &config.listen), Ok)?,
            ops: bind_if("ops.listen", inherited.ops, config.ops.listen)?,
            tls: bind_if("tls.listen", tls, config.tls_listen())?,
        })
    }

    /// Checks that a program which inherits sockets of these names could start with this configuration: addresses for
    /// which it would inherit none must be free. Does nothing if there are no names.
    pub(super) fn check(config: &Config, names: &[String]) -> Result<(), Failure> {
        if names.is_empty() {
            return Ok(());
        }
        let tls = config.tls_listen();
        let inherits = |name: &str| names.iter().any(|passed| without_own(passed) == name);
        if tls.is_none() && names.iter().any(|name| name == "tls") {
            return Err(no_certificate());
        }
        let settings = [
            ("ops.listen", "ops", config.ops.listen),
            ("tls.listen", "tls", tls),
        ];
        for (setting, name, address) in settings {
            let Some(address) = address.filter(|_| !inherits(name)) else {
                continue;
            };
            ListeningSockets::bind(&address.into(), 0o600)
                .map_err(|(address, error)| cannot_bind(setting, &address, &error))?;
        }
        Ok(())
    }

    /// Returns copies of all sockets, by which their queues stay open.
    pub(super) fn hold(&self) -> io::Result<Vec<HeldSocket>> {
        let mut held = self.main.hold(["main", "own-main"])?;
        if let Some(ops) = &self.ops {
            held.extend(ops.hold(["ops", "own-ops"])?);
        }
        if let Some(tls) = &self.tls {
            held.extend(tls.hold(["tls", "own-tls"])?);
        }
        Ok(held)
    }

    /// Returns an address at which operators are served. `main` is that of everybody.
    pub(super) fn operators(&self, main: SocketAddr) -> io::Result<SocketAddr> {
        let ops = self.ops.as_ref().map(ListeningSockets::addresses);
        let ops = ops.transpose()?.unwrap_or_default();
        Ok(ops.iter().find_map(ListenAddress::tcp).unwrap_or(main))
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
            let is_held = sockets.inherited();
            for socket in sockets.into_tokio().context("watching our sockets")? {
                let (listening, shutdown) = (listening.clone(), shutdown.clone());
                listeners.spawn(listener::serve(socket, is_held, listening, shutdown));
            }
            Ok(())
        };
        let audience = match &self.ops {
            None => Audience::All,
            Some(_) => Audience::ClientsAndBackends,
        };
        if let Some(ops) = self.ops {
            let addresses = ops.addresses().context("reading our own address")?;
            let listen =
                ListenAddresses::new(addresses).context("there is nothing to listen on")?;
            serve(ops, listening(config, state.clone(), Audience::Operators))?;
            tracing::info!(%listen, "the admin API and metrics are at this address alone (ops.listen)");
        }
        let mut main = listening(config, state.clone(), audience);
        if let (Some(sockets), Some(tls)) = (self.tls, &state.tls) {
            let addresses = sockets.addresses().context("reading our own address")?;
            let listen =
                ListenAddresses::new(addresses).context("there is nothing to listen on")?;
            let encrypted = Listening {
                tls: Some(tls.acceptor.clone()),
                ..main.clone()
            };
            serve(sockets, encrypted)?;
            tracing::info!(%listen, "TLS is spoken at this address (tls.listen)");
            if config.tls.redirect {
                let port = match config.tls.redirect_port {
                    0 => listen.first_tcp().port(),
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
fn cannot_listen(
    config: &Config,
    setting: &str,
    listen: &ListenAddress,
    error: &io::Error,
) -> Failure {
    // Another server on the same store explains more than a port in use.
    if let Some(refused) = ServerLock::held_by_another(config) {
        return refused;
    }
    cannot_bind(setting, listen, error)
}

/// Returns why a socket of TLS that a supervisor has passed can't be used.
fn no_certificate() -> Failure {
    Failure::misuse(
        "LISTEN_FDNAMES has a socket \"tls\", and there is no certificate: set tls.certificate and tls.key, or name it main",
    )
}

/// Returns why the system refuses the address, and what to do.
fn cannot_bind(setting: &str, listen: &ListenAddress, error: &io::Error) -> Failure {
    let (code, why) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            Code::Conflict,
            "address already in use: another program listens there; stop it, or choose another port"
                .to_owned(),
        ),
        io::ErrorKind::AddrNotAvailable => (
            // The address may appear later: at boot, interfaces get their addresses after this.
            Code::Unavailable,
            match listen {
                ListenAddress::Tcp(listen) => format!(
                    "{} is not an address of this machine; 0.0.0.0:{} is all that it has",
                    listen.ip(),
                    listen.port()
                ),
                ListenAddress::Unix(_) => error.to_string(),
            },
        ),
        io::ErrorKind::PermissionDenied if listen.tcp().is_none() => (
            Code::Misuse,
            "this user may not write into that folder; make one for the socket and give it to this user (RuntimeDirectory= \
             in a systemd unit)"
                .to_owned(),
        ),
        io::ErrorKind::NotFound => (
            Code::Misuse,
            "the folder is not there; make it (RuntimeDirectory= in a systemd unit)".to_owned(),
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

/// Checks what `fanfare serve --check` says of a program that this one's process would become, with the sockets that it
/// would inherit.
pub(crate) fn check_sockets(config: &Config) -> Result<(), Failure> {
    NodeSockets::check(config, &descriptor_names())
}
