//! What nodes report, in Postgres: a function for each kind of change, and one for each question.

use std::time::Duration;

use fanfare_engine::{
    BoxFuture, DueTransitions, LOST_NODE_GRACE, Online, PresenceSnapshot, Present, Transition,
    TransitionKind,
};
use fanfare_protocol::{AppId, UserId};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::PostgresConnection;
use super::answer::{self, count, done, flag, list, numbers_by_name, position, snapshot};
use super::broker::bounded;
use crate::backend::{
    BackendError, Call, Change, Counted, Joined, LogRules, Moment, NodeName, Presence, Reply,
    Report, millis, transition_entry,
};

/// Most entries of a transition log that one call handles.
const PART: usize = 500;

impl Presence for PostgresConnection {
    fn report(
        &self,
        node: &NodeName,
        deadline: Moment,
        reports: Vec<Report>,
    ) -> BoxFuture<'static, Vec<Result<(), BackendError>>> {
        let reports = reports
            .into_iter()
            .map(|report| self.report_one(node, deadline, report));
        // They are first polled in this order, which is the order in which they are taken.
        Box::pin(join_all(reports.collect::<Vec<_>>()))
    }

    fn snapshot(&self, app: &AppId, channel: &str) -> Call<PresenceSnapshot> {
        let call = json!({ "kind": "snapshot", "app": app.as_str(), "channel": channel });
        self.ask(call, Vec::new(), snapshot)
    }

    fn user_counts(&self, app: &AppId, channels: Vec<String>) -> Call<Vec<usize>> {
        let call = json!({ "kind": "user_counts", "app": app.as_str(), "channels": channels });
        self.ask(call, Vec::new(), |answer| list(answer, count))
    }

    fn remote_subscriptions(&self, app: &AppId, node: &NodeName, channel: &str) -> Call<usize> {
        let call = json!({
            "kind": "remote_subscriptions",
            "app": app.as_str(),
            "node": **node,
            "channel": channel,
        });
        self.ask(call, Vec::new(), count)
    }

    fn all_remote_subscriptions(
        &self,
        app: &AppId,
        node: &NodeName,
        prefix: &str,
    ) -> Call<Vec<(String, usize)>> {
        // No channel's name has it, and no text in Postgres can.
        if prefix.contains('\0') {
            return Box::pin(async { Ok(Vec::new()) });
        }
        let call = json!({
            "kind": "all_remote_subscriptions",
            "app": app.as_str(),
            "node": **node,
            "prefix": prefix,
        });
        self.ask(call, Vec::new(), numbers_by_name)
    }

    fn online(&self, app: &AppId, users: Vec<UserId>) -> Call<Online> {
        let users: Vec<&str> = users.iter().map(UserId::as_str).collect();
        let call = json!({ "kind": "online", "app": app.as_str(), "users": users });
        self.ask(call, Vec::new(), |answer| {
            Some(Online {
                position: position(&answer["position"])?,
                online: list(&answer["online"], flag)?,
            })
        })
    }

    fn remote_connections(&self, app: &AppId, node: &NodeName) -> Call<usize> {
        let call = json!({ "kind": "remote_connections", "app": app.as_str(), "node": **node });
        self.ask(call, Vec::new(), count)
    }

    fn connections_by_node(&self, app: &AppId) -> Call<Vec<(String, usize)>> {
        let call = json!({ "kind": "connections_by_node", "app": app.as_str() });
        self.ask(call, Vec::new(), numbers_by_name)
    }

    fn due_transitions(&self, app: &AppId, max: usize) -> Call<DueTransitions> {
        // The longest time until an entry is due.
        let longest = millis(TransitionKind::Vacated.delay(LOST_NODE_GRACE));
        let call = json!({
            "kind": "due_transitions",
            "app": app.as_str(),
            "max": bounded(max),
            "longest": longest,
        });
        self.ask(call, Vec::new(), |answer| {
            Some(DueTransitions {
                stamp: answer["stamp"].as_i64()?,
                due: list(&answer["due"], |pair| {
                    Some(Transition {
                        key: transition_entry::key(pair[0].as_str()?)?,
                        due_ms: pair[1].as_u64()?,
                    })
                })?,
                next_due: answer["next_due"].as_u64().map(Duration::from_millis),
                refused: answer["refused"].as_u64()?,
            })
        })
    }

    fn settle_transitions(&self, app: &AppId, handled: Vec<Transition>) -> Call<()> {
        let entry =
            |handled: &Transition| json!([transition_entry::entry(&handled.key), handled.due_ms]);
        let entries: Vec<Value> = handled.iter().map(entry).collect();
        self.in_parts(
            &entries,
            |part| json!({ "kind": "settle_transitions", "app": app.as_str(), "handled": part }),
        )
    }

    fn arm_transitions(
        &self,
        app: &AppId,
        present: Vec<Present>,
        newest_stamp: i64,
        log: LogRules,
    ) -> Call<()> {
        let entries: Vec<String> = present.iter().map(transition_entry::end_of).collect();
        self.in_parts(&entries, |part| {
            json!({
                "kind": "arm_transitions",
                "app": app.as_str(),
                "newest_stamp": newest_stamp,
                "log": rules(log),
                "ends": part,
            })
        })
    }

    fn forget_transitions(&self, app: &AppId) -> Call<()> {
        let call = json!({ "kind": "forget_transitions", "app": app.as_str() });
        self.ask(call, Vec::new(), done)
    }
}

impl PostgresConnection {
    /// Returns one call for each part of a list, or for the whole list if it is empty.
    fn in_parts<T>(&self, all: &[T], call: impl Fn(&[T]) -> Value) -> Call<()> {
        let parts = all.chunks(PART).chain(all.is_empty().then_some(all));
        let calls: Vec<_> = parts
            .map(|part| self.ask(call(part), Vec::new(), done))
            .collect();
        Box::pin(async move { join_all(calls).await.into_iter().collect() })
    }

    /// Returns the call of a report, whose answer its reply gets.
    fn report_one(&self, node: &NodeName, deadline: Moment, report: Report) -> Call<()> {
        let Report { app, change } = report;
        let mut call = json!({ "app": app.as_str(), "node": **node, "deadline": deadline });
        let mut set = |name: &str, value: Value| call[name] = value;
        match change {
            Change::Join {
                channel,
                member,
                max,
                wants_members,
                log,
                reply,
            } => {
                set("kind", "join".into());
                set("channel", channel.into());
                set("user", member.user_id.as_str().into());
                set(
                    "info",
                    member.user_info.as_deref().unwrap_or_default().into(),
                );
                set("max", max.into());
                set("wants_members", wants_members.into());
                set("log", rules(log));
                self.reported(call, reply, joined)
            }
            Change::Leave {
                channel,
                user,
                log,
                reply,
            } => {
                set("kind", "leave".into());
                set("channel", channel.into());
                set("user", user.as_str().into());
                set("log", rules(log));
                self.reported(call, reply, flag)
            }
            Change::Subscriptions {
                channel,
                count,
                announce,
                visited,
                log,
                reply,
            } => {
                set("kind", "subscriptions".into());
                set("channel", channel.into());
                set("count", count.into());
                set("announce", announce.into());
                set("visited", visited.into());
                set("log", rules(log));
                self.reported(call, reply, counted)
            }
            Change::SignIn { user, reply } => {
                set("kind", "sign_in".into());
                set("user", user.as_str().into());
                self.reported(call, reply, flag)
            }
            Change::SignOut { user, reply } => {
                set("kind", "sign_out".into());
                set("user", user.as_str().into());
                self.reported(call, reply, flag)
            }
            Change::Connections { count } => {
                set("kind", "connections".into());
                set("count", count.into());
                self.reported(call, Reply::ignore(), done)
            }
            Change::Admit { change, max, reply } => {
                set("kind", "admit".into());
                set("change", change.into());
                set("max", max.into());
                self.reported(call, reply, flag)
            }
        }
    }

    fn reported<T: Send + 'static>(
        &self,
        call: Value,
        reply: Reply<T>,
        read: fn(&Value) -> Option<T>,
    ) -> Call<()> {
        let answer = self.ask(call, Vec::new(), read);
        Box::pin(async move {
            reply.send(answer.await?);
            Ok(())
        })
    }
}

/// Returns rules as functions take them, `null` if nothing is logged.
pub(super) fn rules(rules: LogRules) -> Value {
    let LogRules {
        channels,
        members,
        grace,
        max_entries,
    } = rules;
    if !channels && !members {
        return Value::Null;
    }
    json!({
        "channels": channels,
        "members": members,
        "grace": millis(grace),
        "max_entries": bounded(max_entries),
    })
}

fn joined(answer: &Value) -> Option<Joined> {
    if answer.as_str() == Some("full") {
        return Some(Joined::Full);
    }
    Some(Joined::Member {
        added: flag(&answer["added"])?,
        snapshot: snapshot(answer)?,
    })
}

fn counted(answer: &Value) -> Option<Counted> {
    Some(Counted {
        before: answer::count(&answer["before"])?,
        after: answer::count(&answer["after"])?,
    })
}
