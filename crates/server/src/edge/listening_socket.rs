//! The sockets that this process listens on. It binds them itself, or inherits them from a supervisor that keeps them
//! open during a restart, so that connection attempts wait in their queues.

use std::net::{SocketAddr, TcpListener};

use anyhow::Context;
use listenfd::ListenFd;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Length of the queue of connections that aren't accepted yet. The kernel caps it at `net.core.somaxconn`. A longer
/// queue costs nothing while it is empty, and an overflow costs each client at least a second.
const BACKLOG: i32 = i32::MAX;

/// At least one listening socket.
#[derive(Debug)]
pub(crate) struct ListeningSockets {
    sockets: Vec<TcpListener>,
    inherited: bool,
}

impl ListeningSockets {
    /// Takes the sockets that a supervisor passed by systemd's protocol (`LISTEN_FDS`, `LISTEN_PID`), or returns `None`
    /// if there are none. Removes these variables from the environment, so it must run before other threads start.
    ///
    /// # Errors
    ///
    /// Returns an error if one of the descriptors isn't a listening TCP socket.
    pub(crate) fn inherit() -> anyhow::Result<Option<Self>> {
        let mut descriptors = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..descriptors.len() {
            let socket = descriptors
                .take_tcp_listener(index)
                .map_err(anyhow::Error::from)
                .and_then(|socket| {
                    let socket = socket.context("it was taken before")?;
                    // Listening again also lengthens the queue, which supervisors keep short by default.
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

    /// Binds `address` and listens on it.
    ///
    /// # Errors
    ///
    /// Returns the system's error, for example if the address is in use.
    pub(crate) fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        // Connections of the previous process may still be closing when this one binds.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self {
            sockets: vec![socket.into()],
            inherited: false,
        })
    }

    /// Returns whether a supervisor holds the sockets too, so that they stay open after this process.
    pub(crate) fn inherited(&self) -> bool {
        self.inherited
    }

    /// Returns the addresses that clients connect to, the first one first.
    pub(crate) fn addresses(&self) -> std::io::Result<Vec<SocketAddr>> {
        self.sockets.iter().map(TcpListener::local_addr).collect()
    }

    /// Registers the sockets with this thread's runtime.
    pub(crate) fn into_tokio(self) -> std::io::Result<Vec<tokio::net::TcpListener>> {
        let sockets = self.sockets.into_iter();
        sockets.map(tokio::net::TcpListener::from_std).collect()
    }
}
