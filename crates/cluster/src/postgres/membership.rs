//! The nodes, in Postgres.

use std::time::Duration;

use fanfare_protocol::{AppId, UserId};
use serde_json::json;

use super::PostgresConnection;
use super::answer::{count, done, flag, list, position, text, texts};
use super::presence::rules;
use crate::backend::{
    Call, Census, INSTALLATION_LEASE, LeaseRenewal, LiveNodes, LogRules, Membership, Moment,
    NodeName, Reaped, millis,
};

impl Membership for PostgresConnection {
    fn heartbeat(&self, renewal: LeaseRenewal) -> Call<Census> {
        let LeaseRenewal {
            node,
            first,
            lease,
            message,
            installation,
        } = renewal;
        let call = json!({
            "kind": "heartbeat", "node": *node, "lease": millis(lease), "first": first,
            "installation": *installation, "claim": millis(INSTALLATION_LEASE),
        });
        self.ask(call, vec![message], |answer| {
            Some(Census {
                now: position(&answer["now"])?,
                live: texts(&answer["live"])?,
                dead: texts(&answer["dead"])?,
            })
        })
    }

    fn live_nodes(&self) -> Call<LiveNodes> {
        let (class, object) = self.schema.listening_lock();
        // Postgres shows the numbers of locks without signs.
        let (class, object) = (class.cast_unsigned(), object.cast_unsigned());
        let call = json!({ "kind": "live_nodes", "class": class, "object": object });
        self.ask(call, Vec::new(), |answer| {
            Some(LiveNodes {
                receiving: count(&answer["receiving"])?,
                names: texts(&answer["names"])?,
            })
        })
    }

    fn register(&self, app: &AppId, node: &NodeName, deadline: Moment) -> Call<()> {
        let call = json!({ "kind": "register", "app": app.as_str(), "node": **node, "deadline": deadline });
        self.ask(call, Vec::new(), done)
    }

    fn apps(&self, node: &NodeName) -> Call<Vec<String>> {
        self.ask(json!({ "kind": "apps", "node": **node }), Vec::new(), texts)
    }

    fn enlist(&self, app: &AppId, node: &NodeName, deadline: Moment) -> Call<()> {
        let call =
            json!({ "kind": "enlist", "app": app.as_str(), "node": **node, "deadline": deadline });
        self.ask(call, Vec::new(), done)
    }

    fn enlisted(&self, app: &AppId) -> Call<Vec<String>> {
        let call = json!({ "kind": "enlisted", "app": app.as_str() });
        self.ask(call, Vec::new(), texts)
    }

    fn claim(&self, node: &NodeName, lease: Duration) -> Call<bool> {
        let call = json!({ "kind": "claim", "node": **node, "lease": millis(lease) });
        self.ask(call, Vec::new(), flag)
    }

    fn reap(&self, app: &AppId, node: &NodeName, log: LogRules) -> Call<Reaped> {
        let call =
            json!({ "kind": "reap", "app": app.as_str(), "node": **node, "log": rules(log) });
        self.ask(call, Vec::new(), |answer| {
            Some(Reaped {
                removed: list(&answer["removed"], |pair| {
                    Some((text(&pair[0])?, UserId::new(pair[1].as_str()?)?))
                })?,
                vacated: texts(&answer["vacated"])?,
                counted: texts(&answer["counted"])?,
                more: flag(&answer["more"])?,
            })
        })
    }

    fn forget(&self, node: &NodeName) -> Call<bool> {
        self.ask(
            json!({ "kind": "forget", "node": **node }),
            Vec::new(),
            flag,
        )
    }
}
