//! Bounds what the kernel holds of a connection. Bytes in its send queue aren't charged to a payer, and a client that
//! doesn't read would keep megabytes there, even after its connection was closed.

use std::time::Duration;

use super::client_socket::ClientSocket;

/// Bytes that may wait in the kernel before they are sent. Bytes in flight come on top, so this doesn't slow down a
/// client that reads. Everything else waits in the outbox, where it is charged.
#[cfg(any(target_os = "android", target_os = "linux", target_vendor = "apple"))]
const MAX_UNSENT: u32 = 16 * 1024;
/// How long the kernel may try to deliver what was written to a connection that has ended.
const LINGER_TIMEOUT: Duration = Duration::from_secs(10);

/// Bounds the send queue of a connection that was just accepted, and sets how long its client may acknowledge nothing.
pub(crate) fn bound_send_queue(socket: &ClientSocket, write_timeout: Duration) {
    #[cfg(any(target_os = "android", target_os = "linux", target_vendor = "apple"))]
    if socket.is_tcp() {
        note(socket.options().set_tcp_notsent_lowat(MAX_UNSENT));
    }
    set_write_timeout(socket, write_timeout);
}

/// Lets the kernel reset the connection if the client acknowledges nothing of what was sent for `write_timeout`.
pub(crate) fn set_write_timeout(socket: &ClientSocket, write_timeout: Duration) {
    #[cfg(any(target_os = "android", target_os = "linux"))]
    if socket.is_tcp() {
        note(socket.options().set_tcp_user_timeout(Some(write_timeout)));
    }
}

/// Sets how a socket ends that is dropped next: it is reset at once if the client left bytes `unread` until its
/// time-out. Otherwise the kernel has [`LINGER_TIMEOUT`] to deliver what was written.
pub(crate) fn end(socket: &ClientSocket, unread: bool) {
    if unread {
        note(socket.options().set_linger(Some(Duration::ZERO)));
    } else {
        set_write_timeout(socket, LINGER_TIMEOUT);
    }
}

/// Logs a failure and ignores it: a socket that is already gone has no options, and its next read or write fails.
fn note(set: std::io::Result<()>) {
    if let Err(error) = set {
        tracing::debug!(%error, "a socket was gone before its options were set");
    }
}
