//! The nodes, in Redis.

use std::time::Duration;

use fanfare_protocol::{AppId, UserId};

use super::answer::{count, done, flag, integer, one_count, pairs, parts, position, text, texts};
use super::connection::RedisConnection;
use super::transitions;
use crate::backend::{
    Call, Census, INSTALLATION_LEASE, LeaseRenewal, LiveNodes, LogRules, Membership, Moment,
    NodeName, Reaped, millis,
};

impl Membership for RedisConnection {
    fn heartbeat(&self, renewal: LeaseRenewal) -> Call<Census> {
        let LeaseRenewal {
            node,
            first,
            lease,
            message,
            installation,
        } = renewal;
        let mut call = self.of_installation(|scripts| &scripts.heartbeat);
        call.arg(&*node).arg(millis(lease)).arg(&message[..]);
        call.arg(u8::from(first)).arg(&*installation);
        call.arg(millis(INSTALLATION_LEASE));
        self.ask(call, |value| {
            let [now, live, dead] = parts(value)?;
            Some(Census {
                now: position(now)?,
                live: texts(live)?,
                dead: texts(dead)?,
            })
        })
    }

    fn live_nodes(&self) -> Call<LiveNodes> {
        let call = self.of_installation(|scripts| &scripts.live_nodes);
        self.ask(call, |value| {
            let [receiving, names] = parts(value)?;
            Some(LiveNodes {
                receiving: count(receiving)?,
                names: texts(names)?,
            })
        })
    }

    fn register(&self, app: &AppId, node: &NodeName, deadline: Moment) -> Call<()> {
        let mut call = self.of_installation(|scripts| &scripts.register);
        call.arg(deadline).arg(&**node).arg(app.as_str());
        self.ask(call, done)
    }

    fn apps(&self, node: &NodeName) -> Call<Vec<String>> {
        let mut call = self.of_installation(|scripts| &scripts.apps);
        call.arg(&**node);
        self.ask(call, texts)
    }

    fn enlist(&self, app: &AppId, node: &NodeName, deadline: Moment) -> Call<()> {
        let mut call = self.of_app(app, |scripts| &scripts.enlist);
        call.arg(deadline).arg(&**node);
        self.ask(call, done)
    }

    fn enlisted(&self, app: &AppId) -> Call<Vec<String>> {
        let call = self.of_app(app, |scripts| &scripts.enlisted);
        self.ask(call, texts)
    }

    fn claim(&self, node: &NodeName, lease: Duration) -> Call<bool> {
        let mut call = self.of_installation(|scripts| &scripts.claim);
        call.arg(&**node).arg(millis(lease));
        self.ask(call, |value| Some(one_count(value)? == 1))
    }

    fn reap(&self, app: &AppId, node: &NodeName, log: LogRules) -> Call<Reaped> {
        let mut call = self.of_app(app, |scripts| &scripts.reap);
        call.arg(&**node).arg(transitions::rules(log));
        self.ask(call, |value| {
            let [removed, vacated, counted, left] = parts(value)?;
            Some(Reaped {
                removed: pairs(removed, |channel, user| {
                    Some((text(channel)?, UserId::new(&text(user)?)?))
                })?,
                vacated: texts(vacated)?,
                counted: texts(counted)?,
                more: integer(left)? > 0,
            })
        })
    }

    fn forget(&self, node: &NodeName) -> Call<bool> {
        let mut call = self.of_installation(|scripts| &scripts.forget);
        call.arg(&**node);
        self.ask(call, flag)
    }
}
