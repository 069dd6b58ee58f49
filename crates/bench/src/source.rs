//! Where connections come from: one loopback address has too few ports for many of them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

/// Connections from one address. Linux has 28,000 ports for them by default.
const EACH: usize = 20_000;

/// Source of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Source {
    /// Its address, if the system does not choose it.
    address: Option<Ipv4Addr>,
    /// Size of the buffer for what was received, if the system does not choose it.
    receive_buffer: Option<usize>,
}

/// Returns the source of the connection with this number: the system's choice for the first ones and for servers
/// elsewhere, then one of 127.0.0.2, 127.0.0.3 and so on.
pub(crate) fn of(number: usize, to: SocketAddr, receive_buffer: Option<usize>) -> Source {
    let further = u32::try_from(number / EACH).unwrap_or(u32::MAX);
    let address = match to.ip() {
        IpAddr::V4(to) if to.is_loopback() && further > 0 => {
            Some(Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + further))
        }
        _ => None,
    };
    Source {
        address,
        receive_buffer,
    }
}

impl Source {
    /// Connects.
    pub(crate) fn connect(self, to: SocketAddr) -> io::Result<TcpStream> {
        if self == Self::default() {
            return TcpStream::connect(to);
        }
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(address) = self.address {
            // Ports of connections that have just ended may serve again.
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::from((address, 0)).into())?;
        }
        socket.connect(&to.into())?;
        Ok(socket.into())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn only_connections_beyond_an_addresss_ports_come_from_another() {
        let to = SocketAddr::from(([127, 0, 0, 1], 80));
        assert_eq!(of(EACH - 1, to, None), Source::default());
        let address = |number| of(number, to, None).address;
        assert_eq!(address(EACH), Some(Ipv4Addr::new(127, 0, 0, 2)));
        assert_eq!(address(3 * EACH + 1), Some(Ipv4Addr::new(127, 0, 0, 4)));
        let elsewhere = SocketAddr::from(([192, 0, 2, 1], 80));
        assert_eq!(of(EACH, elsewhere, None).address, None);
    }

    #[test]
    fn a_source_is_what_the_server_sees() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let to = listener.local_addr().expect("its address");
        let _client = of(EACH, to, Some(4096)).connect(to).expect("a connection");
        let (_, peer) = listener.accept().expect("a connection");
        assert_eq!(peer.ip(), IpAddr::from([127, 0, 0, 2]));
    }
}
