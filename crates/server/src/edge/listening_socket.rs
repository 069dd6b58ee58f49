//! The sockets that this process listens on. It binds them itself, or inherits them from a supervisor that keeps them
//! open during a restart, so that connection attempts wait in their queues.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context, bail};
use listenfd::ListenFd;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::client_socket::ClientSocket;
use crate::access::Peer;
use crate::config::{ListenAddress, ListenAddresses};

/// Length of the queue of connections that aren't accepted yet. The kernel caps it at `net.core.somaxconn`. A longer
/// queue costs nothing while it is empty, and an overflow costs each client at least a second.
const BACKLOG: i32 = i32::MAX;
/// Variable with the names of the sockets that a process inherits.
pub(crate) const NAMES: &str = "LISTEN_FDNAMES";
/// What precedes a socket's name if the process that it came from has bound it itself.
const OWN: &str = "own-";
/// What a descriptor must be.
const WANTED: &str = "pass listening TCP or Unix stream sockets only (in a systemd socket unit: ListenStream=, Accept=no)";

/// At least one listening socket.
#[derive(Debug)]
pub(crate) struct ListeningSockets {
    sockets: Vec<ListeningSocket>,
    inherited: bool,
}

#[derive(Debug)]
enum ListeningSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A copy of a listening socket, which keeps its queue open.
#[derive(Debug)]
pub(crate) struct HeldSocket {
    /// Name in `LISTEN_FDNAMES`.
    pub(crate) name: &'static str,
    pub(crate) descriptor: OwnedFd,
}

/// The sockets that a supervisor passed, by what they are for.
#[derive(Debug, Default)]
pub(crate) struct InheritedSockets {
    /// Those that take the place of `listen`.
    pub(crate) main: Option<ListeningSockets>,
    /// Those that take the place of `ops.listen`.
    pub(crate) ops: Option<ListeningSockets>,
    /// Those that take the place of `tls.listen`.
    pub(crate) tls: Option<ListeningSockets>,
}

impl InheritedSockets {
    /// Takes the sockets that a supervisor passed by systemd's protocol (`LISTEN_FDS`, `LISTEN_PID`, `LISTEN_FDNAMES`).
    /// Removes the first two of these variables from the environment, so it must run before other threads start.
    ///
    /// # Errors
    ///
    /// Returns an error if one of the descriptors isn't a listening stream socket, or has a name that means nothing.
    pub(crate) fn take() -> anyhow::Result<Self> {
        let names = descriptor_names();
        let mut descriptors = ListenFd::from_env();
        let mut inherited = Self::default();
        for index in 0..descriptors.len() {
            let socket = take_socket(&mut descriptors, index).with_context(|| {
                format!("file descriptor {} of LISTEN_FDS: {WANTED}", index + 3)
            })?;
            let name = names.get(index).map(String::as_str);
            // This process has passed its own sockets to itself, and no supervisor holds them.
            let own = name.and_then(|name| name.strip_prefix(OWN));
            let place = match own.or(name) {
                Some("ops") => &mut inherited.ops,
                Some("tls") => &mut inherited.tls,
                Some("main") | None => &mut inherited.main,
                // What systemd and others put there if nothing is said.
                Some(name) if name.is_empty() || name == "unknown" || name.ends_with(".socket") => {
                    &mut inherited.main
                }
                Some(name) => bail!(
                    "LISTEN_FDNAMES has {name:?}, and a socket is called main, ops or tls (FileDescriptorName= in a systemd \
                     socket unit)"
                ),
            };
            if matches!((name, &socket), (Some("tls"), ListeningSocket::Unix(_))) {
                bail!(
                    "LISTEN_FDNAMES has \"tls\" for a Unix socket, and TLS is spoken over TCP only: name it main"
                );
            }
            let sockets = place.get_or_insert(ListeningSockets {
                sockets: Vec::new(),
                inherited: own.is_none(),
            });
            sockets.sockets.push(socket);
        }
        Ok(inherited)
    }
}

/// Returns what a socket is for, whoever has bound it.
pub(crate) fn without_own(name: &str) -> &str {
    name.strip_prefix(OWN).unwrap_or(name)
}

/// Returns the names of the inherited descriptors, in their order.
#[expect(
    clippy::disallowed_methods,
    reason = "a part of the protocol for which listenfd has no function"
)]
pub(crate) fn descriptor_names() -> Vec<String> {
    let names = std::env::var(NAMES).unwrap_or_default();
    if names.is_empty() {
        return Vec::new();
    }
    names.split(':').map(str::to_owned).collect()
}

fn take_socket(descriptors: &mut ListenFd, index: usize) -> anyhow::Result<ListeningSocket> {
    let socket = match descriptors.take_unix_listener(index) {
        Ok(socket) => socket.map(ListeningSocket::Unix),
        // A descriptor of another kind is left to be taken.
        Err(_) => descriptors
            .take_tcp_listener(index)?
            .map(ListeningSocket::Tcp),
    };
    let socket = socket.context("it was taken before")?;
    // Listening again also lengthens the queue, which supervisors keep short by default.
    match &socket {
        ListeningSocket::Tcp(socket) => {
            SockRef::from(socket).listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
        }
        ListeningSocket::Unix(socket) => {
            SockRef::from(socket).listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
        }
    }
    Ok(socket)
}

impl ListeningSockets {
    /// Binds `addresses` and listens on them. The files of Unix sockets get `mode`.
    ///
    /// # Errors
    ///
    /// Returns the address that can't be had and the system's error, for example if it is in use.
    pub(crate) fn bind(
        addresses: &ListenAddresses,
        mode: u32,
    ) -> Result<Self, (ListenAddress, io::Error)> {
        let bind = |address: &ListenAddress| {
            let bound = match address {
                ListenAddress::Tcp(tcp) => bind_tcp(*tcp, addresses).map(ListeningSocket::Tcp),
                ListenAddress::Unix(path) => bind_unix(path, mode).map(ListeningSocket::Unix),
            };
            bound.map_err(|error| (address.clone(), error))
        };
        Ok(Self {
            sockets: addresses.all().iter().map(bind).collect::<Result<_, _>>()?,
            inherited: false,
        })
    }

    /// Returns copies of the sockets. `names` are those under which they are passed on: that of sockets that a
    /// supervisor holds too, and that of this process's own.
    ///
    /// # Errors
    ///
    /// Returns the system's error, for example if there are no more file descriptors.
    pub(crate) fn hold(&self, names: [&'static str; 2]) -> io::Result<Vec<HeldSocket>> {
        let [passed, own] = names;
        let hold = |socket: &ListeningSocket| {
            let descriptor = match socket {
                ListeningSocket::Tcp(socket) => socket.try_clone()?.into(),
                ListeningSocket::Unix(socket) => socket.try_clone()?.into(),
            };
            let name = if self.inherited { passed } else { own };
            Ok(HeldSocket { name, descriptor })
        };
        self.sockets.iter().map(hold).collect()
    }

    /// Returns whether a supervisor holds the sockets too, so that they stay open after this process.
    pub(crate) fn inherited(&self) -> bool {
        self.inherited
    }

    /// Returns the addresses that clients connect to, in their order.
    pub(crate) fn addresses(&self) -> io::Result<Vec<ListenAddress>> {
        let address = |socket: &ListeningSocket| match socket {
            ListeningSocket::Tcp(socket) => socket.local_addr().map(ListenAddress::Tcp),
            ListeningSocket::Unix(socket) => {
                let address = socket.local_addr()?;
                let path = address.as_pathname().unwrap_or_else(|| Path::new(""));
                Ok(ListenAddress::Unix(path.to_owned()))
            }
        };
        self.sockets.iter().map(address).collect()
    }

    /// Registers the sockets with this thread's runtime.
    pub(crate) fn into_tokio(self) -> io::Result<Vec<Acceptor>> {
        let register = |socket| match socket {
            ListeningSocket::Tcp(socket) => {
                tokio::net::TcpListener::from_std(socket).map(Acceptor::Tcp)
            }
            ListeningSocket::Unix(socket) => {
                tokio::net::UnixListener::from_std(socket).map(Acceptor::Unix)
            }
        };
        self.sockets.into_iter().map(register).collect()
    }
}

/// A listening socket that is registered with a runtime.
#[derive(Debug)]
pub(crate) enum Acceptor {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Acceptor {
    /// Waits for a connection.
    ///
    /// # Errors
    ///
    /// Returns the system's error, for example if there are no more file descriptors.
    pub(crate) async fn accept(&self) -> io::Result<(ClientSocket, Peer)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                Ok((stream.into(), Peer::at(peer)))
            }
            Self::Unix(socket) => {
                let (stream, _) = socket.accept().await?;
                Ok((ClientSocket::Unix(stream), Peer::on_unix_socket()))
            }
        }
    }
}

fn bind_tcp(address: SocketAddr, all: &ListenAddresses) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        // `[::]` takes IPv4 as well, whatever the system's default, unless the same port is bound there by itself.
        let has_ipv4 = all
            .tcp()
            .any(|other| other.is_ipv4() && other.port() == address.port() && address.port() != 0);
        socket.set_only_v6(has_ipv4)?;
    }
    // Connections of the previous process may still be closing when this one binds.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    remove_stale(path)?;
    let socket = UnixListener::bind(path)?;
    // The process's files are for its own user only, and this one is for the proxy's.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    SockRef::from(&socket).listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Removes the file of a socket on which nobody listens any more.
fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        let why = "a file is there that is no socket; remove it, or choose another path";
        return Err(io::Error::new(ErrorKind::AlreadyExists, why));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(ErrorKind::AddrInUse.into()),
    }
}
