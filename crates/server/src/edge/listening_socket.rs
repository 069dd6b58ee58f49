//! The sockets that this process listens on: bound by itself, or inherited from a supervisor that keeps them open while
//! the process restarts, so that connection attempts wait in their queues meanwhile.

use std::net::{SocketAddr, TcpListener};

use anyhow::Context;
use listenfd::ListenFd;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Length of the queue of connections that are not accepted yet. The kernel cuts it to `net.core.somaxconn`. A longer
/// queue costs nothing while it is empty; one that overflows costs each client at least a second.
const BACKLOG: i32 = i32::MAX;

/// At least one listening socket.
#[derive(Debug)]
pub(crate) struct ListeningSockets {
    sockets: Vec<TcpListener>,
    inherited: bool,
}

impl ListeningSockets {
    /// Takes the sockets that a supervisor has passed on by systemd's protocol (`LISTEN_FDS`, `LISTEN_PID`), or returns
    /// `None` if there are none. Takes the variables out of the environment, so call it before other threads run.
    ///
    /// # Errors
    ///
    /// Fails if one of the descriptors cannot be a listening TCP socket.
    pub(crate) fn inherit() -> anyhow::Result<Option<Self>> {
        let mut descriptors = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..descriptors.len() {
            let socket = descriptors
                .take_tcp_listener(index)
                .map_err(anyhow::Error::from)
                .and_then(|socket| {
                    let socket = socket.context("it was taken before")?;
                    // Also makes the queue longer than a supervisor asks for by default.
                    SockRef::from(&socket).listen(BACKLOG)?;
                    socket.set_nonblocking(true)?;
                    Ok(socket)
                })
                .with_context(|| {
                    format!(
                        "file descriptor {} of LISTEN_FDS: pass listening TCP sockets only (in a systemd socket unit: \
                         ListenStream=ADDRESS:PORT, Accept=no)",
                        index + 3
                    )
                })?;
            sockets.push(socket);
        }
        Ok((!sockets.is_empty()).then_some(Self {
            sockets,
            inherited: true,
        }))
    }

    /// Binds `address` and listens.
    ///
    /// # Errors
    ///
    /// Fails if the system does not give us the address.
    pub(crate) fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        // A restart binds while connections of the process before are still closing.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self {
            sockets: vec![socket.into()],
            inherited: false,
        })
    }

    /// Whether a supervisor holds the sockets as well, so that they stay open after this process.
    pub(crate) fn inherited(&self) -> bool {
        self.inherited
    }

    /// The addresses that clients connect to, the first one first.
    pub(crate) fn addresses(&self) -> std::io::Result<Vec<SocketAddr>> {
        self.sockets.iter().map(TcpListener::local_addr).collect()
    }

    /// The sockets, for this thread's runtime.
    pub(crate) fn into_tokio(self) -> std::io::Result<Vec<tokio::net::TcpListener>> {
        let sockets = self.sockets.into_iter();
        sockets.map(tokio::net::TcpListener::from_std).collect()
    }
}
