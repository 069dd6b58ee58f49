//! A connection that is not let in: it is told why and closed, without bothering a shard.

use std::time::Duration;

use fanfare_engine::Refusal;
use fanfare_protocol::{Frame, Framing, ServerMessage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long the client may take to hear it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends the reason twice: as a message, for clients that look there, and as the close code.
pub(crate) async fn refuse(mut stream: TcpStream, refusal: Refusal) {
    let told = async {
        let error = ServerMessage::Error {
            code: Some(refusal.code.number()),
            message: &refusal.message,
        };
        stream
            .write_all(error.to_frame().bytes(Framing::WebSocket))
            .await?;
        stream
            .write_all(Frame::close(refusal.code, &refusal.message).bytes(Framing::WebSocket))
            .await?;
        stream.shutdown().await?;
        // Closing with unread bytes would reset the connection and take our words with it.
        let mut ignored = [0; 512];
        while stream.read(&mut ignored).await? > 0 {}
        std::io::Result::Ok(())
    };
    // Whether it heard us is its own affair.
    let _ = timeout(CLOSE_TIMEOUT, told).await;
}
