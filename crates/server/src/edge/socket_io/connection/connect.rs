//! A client that asks for a namespace: which app that is, whether it is admitted, and what it had before.

use std::sync::Arc;

use fanfare_engine::{Admitted, App, Refusal};
use fanfare_protocol::client::Subscribe;
use fanfare_protocol::signature::channel_auth_text;
use fanfare_protocol::socket_io;
use fanfare_protocol::{ChannelName, CloseCode, HistoryPosition, Recover, json};
use serde::Deserialize;
use serde_json::Value;

use super::{Client, Connection, Flow, may_come_back};
use crate::edge::refusal_log;
use crate::edge::socket_io::recovery::{Offset, Returning};

/// Most namespaces of one connection.
const MAX_NAMESPACES: usize = 16;

/// What a client says when it asks for a namespace.
#[derive(Debug, Default, Deserialize)]
struct ConnectData {
    key: Option<String>,
    /// What a client of the reference server has from an earlier connection. Anything else means nothing.
    #[serde(default)]
    pid: Value,
    #[serde(default)]
    offset: Value,
    #[serde(default)]
    recover: bool,
}

impl ConnectData {
    fn read(data: &str) -> Result<Self, Refusal> {
        if data.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_str(data).map_err(|error| {
            let message = format!("Invalid auth: {}", json::reason(&error));
            Refusal::new(CloseCode::Refused, message)
        })
    }
}

impl Connection {
    /// Connects a client to a namespace. What refuses it for good is told in a packet. What passes ends the connection, because a
    /// packet would end the client for good.
    pub(super) async fn connect(&mut self, namespace: &str, data: &str) -> Flow {
        if matches!(self.clients.get(namespace), Some(Some(_))) {
            return self.malformed("a second request for a namespace");
        }
        let (asked, admitted) = match ConnectData::read(data) {
            Ok(asked) => {
                let admitted = self.admit(namespace, &asked).await;
                (asked, admitted)
            }
            Err(refusal) => (ConnectData::default(), Err(refusal)),
        };
        match admitted {
            Ok((key, admitted)) => {
                (self.connect_by, self.pending) = (None, None);
                self.welcome(namespace, &key, admitted, &asked).await;
                Flow::Continue
            }
            Err(refusal) => self.refuse(namespace, asked.key.as_deref(), &refusal),
        }
    }

    /// Returns the key of the app that a client asks for, and its admission.
    async fn admit(
        &self,
        namespace: &str,
        asked: &ConnectData,
    ) -> Result<(String, Admitted), Refusal> {
        let key = self.key_of(namespace, asked)?;
        if self.clients.len() >= MAX_NAMESPACES && !self.clients.contains_key(namespace) {
            let message = format!("A connection has at most {MAX_NAMESPACES} namespaces");
            return Err(Refusal::new(CloseCode::Refused, message));
        }
        self.state.expect_key(&key).await;
        let arrival = self.arrived.arrival(&key);
        let admitted = self.state.engine.admit_on_all_nodes(arrival).await?;
        Ok((key, admitted))
    }

    fn refuse(&self, namespace: &str, key: Option<&str>, refusal: &Refusal) -> Flow {
        let key = key_in(namespace).or(key);
        refusal_log::note(&self.state, key, self.arrived.address, refusal);
        let code = refusal.code.number();
        if may_come_back(code) {
            return Flow::End;
        }
        self.outlet
            .push(&socket_io::refused(namespace, code, &refusal.message));
        Flow::Continue
    }

    /// Returns the key of the app that a client asks for.
    fn key_of(&self, namespace: &str, asked: &ConnectData) -> Result<String, Refusal> {
        let default = self.state.socket_io_key();
        let key = key_in(namespace).or(asked.key.as_deref()).or(default);
        key.map(str::to_owned).ok_or_else(|| {
            let message = "Name an app: io(\"https://HOST/APP_KEY\"), or auth: {key: \"APP_KEY\"}; this server has no default app";
            Refusal::new(CloseCode::UnknownApp, message)
        })
    }

    async fn welcome(
        &mut self,
        namespace: &str,
        key: &str,
        mut admitted: Admitted,
        asked: &ConnectData,
    ) {
        admitted.came_from(self.arrived.address);
        admitted.count_client("socket.io", "");
        let recovery = &self.state.socket_io.recovery;
        // Without a position nothing can be recovered, and the client must know that it begins anew.
        let before = asked.offset.as_str().map(Offset::parse);
        let before = before.filter(|offset| !offset.is_empty());
        let back = match (asked.pid.as_str(), before) {
            (Some(pid), Some(before)) => {
                let back = recovery.take_back(pid, key, &self.moved);
                back.map(|back| (back, before))
            }
            _ => None,
        };
        let takes_offsets = asked.recover || asked.pid.is_string();
        let offset = takes_offsets.then(Offset::default);
        let returning = match &back {
            Some((back, _)) => Arc::clone(back),
            None => recovery.add(key, &self.moved),
        };
        let app = self.state.engine.apps().by_key(key);
        let client = Client::connect(
            &self.shard,
            admitted,
            namespace,
            &self.outlet,
            offset,
            Arc::clone(&returning),
        );
        let sid = client.session.socket_id().to_string();
        // Before the first line: none was written yet, because the greeting of others isn't one of Socket.IO.
        self.outlet
            .push(&socket_io::connected(namespace, &sid, &returning.pid));
        if let (Some(app), Some((back, before))) = (&app, &back) {
            rejoin(&client, app, back, before).await;
        }
        let settings = app.map(|app| app.settings());
        for channel in settings
            .iter()
            .flat_map(|settings| &settings.socket_io.broadcast)
        {
            if !client.session.is_subscribed(channel) {
                client.join_broadcast(channel).await;
            }
        }
        self.clients.insert(namespace.to_owned(), Some(client));
    }
}

/// Joins the channels that a client had, and sends it what it has missed of their histories.
async fn rejoin(client: &Client, app: &Arc<App>, back: &Returning, before: &Offset) {
    let Some(signing) = app.signing_key(&back.key) else {
        return;
    };
    for (channel, channel_data) in back.channels() {
        let socket_id = client.session.socket_id();
        let text = channel_auth_text(socket_id, &channel, channel_data.as_deref());
        let position = before.position(&channel).and_then(HistoryPosition::parse);
        let name = ChannelName::parse(&channel, app.settings().limits.channel_name).ok();
        let keeps_history = name.is_some_and(|name| app.retention(&name).is_some());
        let recover = match keeps_history {
            true => Recover::From {
                position,
                socket_id: None,
            },
            false => Recover::Start,
        };
        let request = Subscribe {
            channel: channel.clone().into(),
            auth: Some(format!("{}:{}", back.key, signing.sign(&text)).into()),
            channel_data: channel_data.map(Into::into),
            recover: Some(recover),
            rewind: None,
        };
        client.session.subscribe_from_url(&request).await;
        client.session.flush();
    }
}

/// Returns the app key that a namespace names.
fn key_in(namespace: &str) -> Option<&str> {
    namespace.strip_prefix('/').filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_the_key_of_an_app() {
        assert_eq!(key_in("/"), None);
        assert_eq!(key_in("/key"), Some("key"));
    }
}
