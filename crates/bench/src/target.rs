//! The measured server as the generator sees it, and the requests sent to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use fanfare_protocol::signature::{Credential, SigningKey, sign_request};
use rustls::ClientConfig;
use serde_json::{Value, json};

use crate::clients::Clients;
use crate::layout::payload;
use crate::wire::masked_text_frame;

/// An app, as a backend knows it.
#[derive(Debug, Clone)]
pub(crate) struct App {
    /// Its id, in the paths of the HTTP API.
    pub(crate) id: String,
    /// Its key, in the path of clients.
    pub(crate) key: String,
    /// Its secret.
    pub(crate) secret: String,
}

/// A running server.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Addresses, one for each node. Connections are spread over them.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Process ids, to read CPU time and memory.
    pub(crate) pids: Vec<u32>,
    /// The app to use.
    pub(crate) app: App,
    /// How clients speak TLS, if they do.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// What its subscribers speak.
    pub(crate) clients: Clients,
}

impl Target {
    /// Returns the address for the connection with this number. It spreads the subscribers of each channel evenly over
    /// the nodes, which taking turns would not do if there are as many channels as nodes.
    pub(crate) fn address(&self, number: usize) -> SocketAddr {
        let scattered = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        self.addresses[scattered as usize % self.addresses.len()]
    }

    /// Returns a client's subscription, with its auth if the channel needs one.
    pub(crate) fn subscription(&self, socket_id: &str, channel: &str) -> Vec<u8> {
        let mut data = json!({ "channel": channel });
        self.authorize(&mut data, socket_id, channel);
        message(&json!({ "event": "pusher:subscribe", "data": data }))
    }

    /// Adds to a subscription what its channel needs. The user of a presence channel is named after the socket.
    pub(crate) fn authorize(&self, data: &mut Value, socket_id: &str, channel: &str) {
        let mut signed = format!("{socket_id}:{channel}");
        if channel.starts_with("presence-") {
            let member = json!({ "user_id": socket_id, "user_info": { "name": "A Member" } });
            let member = member.to_string();
            signed = format!("{signed}:{member}");
            data["channel_data"] = member.into();
        } else if !channel.starts_with("private-") {
            return;
        }
        let signature = SigningKey::new(&self.app.secret).sign(&signed);
        data["auth"] = format!("{}:{signature}", self.app.key).into();
    }

    /// Returns the message with which a client leaves a channel.
    pub(crate) fn unsubscription(channel: &str) -> Vec<u8> {
        message(&json!({ "event": "pusher:unsubscribe", "data": { "channel": channel } }))
    }

    /// Returns an event of a client.
    pub(crate) fn client_event(channel: &str, sequence: u32, payload_len: usize) -> Vec<u8> {
        let data = payload(sequence, payload_len);
        message(&json!({ "event": "client-e", "channel": channel, "data": data }))
    }

    /// Returns a backend's signed request to publish one event.
    pub(crate) fn publish(&self, channel: &str, sequence: u32, payload_len: usize) -> Vec<u8> {
        self.publish_text(channel, &payload(sequence, payload_len))
    }

    /// Does the same with any text as its data.
    pub(crate) fn publish_text(&self, channel: &str, data: &str) -> Vec<u8> {
        let body = json!({ "name": "e", "channel": channel, "data": data }).to_string();
        self.post("events", &body)
    }

    /// Returns a backend's signed request to publish several events, numbered from `first`.
    pub(crate) fn publish_batch(
        &self,
        channels: &[String],
        first: u32,
        payload_len: usize,
    ) -> Vec<u8> {
        let event = |(channel, sequence): (&String, u32)| json!({ "name": "e", "channel": channel, "data": payload(sequence, payload_len) });
        let events: Vec<Value> = channels.iter().zip(first..).map(event).collect();
        self.post("batch_events", &json!({ "batch": events }).to_string())
    }

    /// Returns a backend's signed request to publish one event on several channels.
    pub(crate) fn publish_to_all(
        &self,
        channels: &[String],
        sequence: u32,
        payload_len: usize,
    ) -> Vec<u8> {
        let data = payload(sequence, payload_len);
        let body = json!({ "name": "e", "channels": channels, "data": data });
        self.post("events", &body.to_string())
    }

    fn post(&self, what: &str, body: &str) -> Vec<u8> {
        let path = format!("/apps/{}/{what}", self.app.id);
        let credential = Credential {
            key: &self.app.key,
            secret: &self.app.secret,
        };
        let query = sign_request("POST", &path, &[], body.as_bytes(), credential, unix_now());
        format!(
            "POST {path}?{query} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.addresses[0],
            body.len()
        )
        .into_bytes()
    }
}

fn message(json: &Value) -> Vec<u8> {
    masked_text_frame(json.to_string().as_bytes())
}

fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}
