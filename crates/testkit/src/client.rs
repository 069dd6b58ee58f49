//! A WebSocket client that waits for expected frames and panics if they don't come.

use std::net::SocketAddr;
use std::time::Duration;

use fanfare_protocol::SocketId;
use fanfare_protocol::signature::{SigningKey, channel_auth_text};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::{KEY, SECRET};

const RECEIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client waits to be sure that nothing comes.
const QUIET: Duration = Duration::from_millis(150);

/// A WebSocket connection.
#[derive(Debug)]
pub struct Client {
    socket: WebSocketStream<TcpStream>,
    /// Headers of the handshake's answer.
    pub headers: HeaderMap,
    /// Socket id, empty before the greeting.
    pub socket_id: String,
}

/// A frame from the server.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// A text frame, parsed.
    Event(Value),
    /// A PONG and its payload.
    Pong(Vec<u8>),
    /// The close code.
    Close(u16),
    /// The end of the stream.
    End,
}

impl Client {
    /// Opens a connection at a path, and reads nothing yet.
    pub async fn open(
        address: SocketAddr,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, Error> {
        let mut request = format!("ws://{address}{path}").into_client_request()?;
        for (name, value) in headers {
            request
                .headers_mut()
                .insert(*name, HeaderValue::from_str(value).unwrap());
        }
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (socket, response) = client_async(request, stream).await?;
        Ok(Self {
            socket,
            headers: response.headers().clone(),
            socket_id: String::new(),
        })
    }

    /// Opens a connection and reads the greeting.
    pub async fn connect(address: SocketAddr, path: &str) -> Self {
        let mut client = Self::open(address, path, &[]).await.unwrap();
        let greeting = client.event().await;
        assert_eq!(
            greeting["event"], "pusher:connection_established",
            "{greeting}"
        );
        client.socket_id = data(&greeting)["socket_id"].as_str().unwrap().to_owned();
        client
    }

    /// Returns the next frame, which must come within five seconds.
    pub async fn frame(&mut self) -> Frame {
        timeout(RECEIVE_TIMEOUT, self.read())
            .await
            .expect("a frame within five seconds")
    }

    async fn read(&mut self) -> Frame {
        loop {
            return match self.socket.next().await {
                Some(Ok(Message::Text(text))) => Frame::Event(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Pong(payload))) => Frame::Pong(payload.to_vec()),
                Some(Ok(Message::Close(close))) => {
                    Frame::Close(close.map_or(1005, |close| close.code.into()))
                }
                Some(Ok(Message::Ping(_))) => continue,
                Some(Ok(other)) => panic!("unexpected {other:?}"),
                Some(Err(_)) | None => Frame::End,
            };
        }
    }

    /// Returns the next frame, which must be an event.
    pub async fn event(&mut self) -> Value {
        match self.frame().await {
            Frame::Event(event) => event,
            other => panic!("expected an event, got {other:?}"),
        }
    }

    /// Returns the text of the next frame, for a raw WebSocket.
    pub async fn text(&mut self) -> String {
        let text = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => return text.to_string(),
                    Some(Ok(Message::Ping(_))) => {}
                    other => panic!("expected a text, got {other:?}"),
                }
            }
        };
        timeout(RECEIVE_TIMEOUT, text)
            .await
            .expect("a text within five seconds")
    }

    /// Returns the next event, which must have this name.
    pub async fn expect(&mut self, name: &str) -> Value {
        let event = self.event().await;
        assert_eq!(event["event"], name, "{event}");
        event
    }

    /// Returns the message of the next event, which must be an error without a code.
    pub async fn complaint(&mut self) -> String {
        let error = self.expect("pusher:error").await;
        assert_eq!(error["data"]["code"], Value::Null, "{error}");
        error["data"]["message"].as_str().unwrap().to_owned()
    }

    /// Reads until the connection is closed, and returns the code; 1006 without a close frame.
    pub async fn closed(&mut self) -> u16 {
        loop {
            match self.frame().await {
                Frame::Close(code) => return code,
                Frame::End => return 1006,
                Frame::Event(_) | Frame::Pong(_) => {}
            }
        }
    }

    /// Checks that nothing comes within 150 ms.
    pub async fn expect_nothing(&mut self) {
        if let Ok(frame) = timeout(QUIET, self.read()).await {
            panic!("expected nothing, got {frame:?}");
        }
    }

    /// Sends an event.
    pub async fn send(&mut self, message: &Value) {
        self.send_message(Message::text(message.to_string())).await;
    }

    /// Sends any message.
    pub async fn send_message(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    /// Subscribes, with a signature if the channel needs one, and waits for the answer, which it returns.
    pub async fn subscribe(&mut self, channel: &str) -> Value {
        let auth = self.auth(channel, None);
        self.send(
            &json!({"event": "pusher:subscribe", "data": {"channel": channel, "auth": auth}}),
        )
        .await;
        self.expect("pusher_internal:subscription_succeeded").await
    }

    /// Joins a presence channel, and waits for the answer, which it returns.
    pub async fn join(&mut self, channel: &str, channel_data: &str) -> Value {
        let auth = self.auth(channel, Some(channel_data));
        let subscribe = json!({"channel": channel, "auth": auth, "channel_data": channel_data});
        self.send(&json!({"event": "pusher:subscribe", "data": subscribe}))
            .await;
        self.expect("pusher_internal:subscription_succeeded").await
    }

    /// Returns the `auth` that the app's backend would sign.
    #[must_use]
    pub fn auth(&self, channel: &str, channel_data: Option<&str>) -> String {
        let text = channel_auth_text(
            SocketId::parse(&self.socket_id).unwrap(),
            channel,
            channel_data,
        );
        format!("{KEY}:{}", SigningKey::new(SECRET).sign(&text))
    }
}

/// Returns the `data` of an event, which must be a string of JSON.
#[must_use]
pub fn data(event: &Value) -> Value {
    serde_json::from_str(event["data"].as_str().expect("data is a string")).unwrap()
}
