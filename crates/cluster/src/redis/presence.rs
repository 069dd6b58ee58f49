//! What nodes report, in Redis: a script for each kind of change, and one for each question.

use fanfare_engine::{BoxFuture, DueTransitions, Online, PresenceSnapshot, Present, Transition};
use fanfare_protocol::presence::Member;
use fanfare_protocol::{AppId, UserId};
use redis::Value;

use super::answer::{self, array, count, flag, one_count, pairs, parts, position, text};
use super::connection::{Command, RedisConnection};
use super::script::{Script, Scripts};
use super::transitions;
use crate::backend::{
    BackendError, Call, Change, Counted, Joined, LogRules, Moment, NodeName, Presence, Reply,
    Report, transition_entry,
};

/// Most entries of a transition log that one script handles.
const PART: usize = 500;

/// Reads the reply to a report, and hands it over.
type Receive = Box<dyn FnOnce(Value) -> Result<(), BackendError> + Send>;

impl Presence for RedisConnection {
    fn report(
        &self,
        node: &NodeName,
        deadline: Moment,
        reports: Vec<Report>,
    ) -> BoxFuture<'static, Vec<Result<(), BackendError>>> {
        let (mut commands, mut receivers) = (Vec::new(), Vec::new());
        for report in reports {
            let (command, receive) = self.report_command(node, deadline, report);
            commands.push(command);
            receivers.push(receive);
        }
        let values = self.take_in_order(commands);
        Box::pin(async move {
            let received = values.await.into_iter().zip(receivers);
            received.map(|(value, receive)| receive(value?)).collect()
        })
    }

    fn snapshot(&self, app: &AppId, channel: &str) -> Call<PresenceSnapshot> {
        let mut call = self.of_app(app, |scripts| &scripts.presence_snapshot);
        call.arg(channel);
        self.ask(call, |value| {
            let [position, members] = parts(value)?;
            snapshot(position, members)
        })
    }

    fn user_counts(&self, app: &AppId, channels: Vec<String>) -> Call<Vec<usize>> {
        let mut call = self.of_app(app, |scripts| &scripts.user_counts);
        call.arg(channels);
        self.ask(call, |value| array(value)?.into_iter().map(count).collect())
    }

    fn remote_subscriptions(&self, app: &AppId, node: &NodeName, channel: &str) -> Call<usize> {
        let mut call = self.of_app(app, |scripts| &scripts.remote_subscriptions);
        call.arg(&**node).arg(channel);
        self.ask(call, one_count)
    }

    fn all_remote_subscriptions(
        &self,
        app: &AppId,
        node: &NodeName,
        prefix: &str,
    ) -> Call<Vec<(String, usize)>> {
        let mut call = self.of_app(app, |scripts| &scripts.all_remote_subscriptions);
        call.arg(&**node).arg(prefix);
        self.ask(call, |value| {
            pairs(value, |name, number| Some((text(name)?, count(number)?)))
        })
    }

    fn online(&self, app: &AppId, users: Vec<UserId>) -> Call<Online> {
        let mut call = self.of_app(app, |scripts| &scripts.online);
        for user in &users {
            call.arg(user.as_str());
        }
        self.ask(call, |value| {
            let [at, online] = parts(value)?;
            Some(Online {
                position: position(at)?,
                online: array(online)?
                    .into_iter()
                    .map(flag)
                    .collect::<Option<_>>()?,
            })
        })
    }

    fn remote_connections(&self, app: &AppId, node: &NodeName) -> Call<usize> {
        let mut call = self.of_app(app, |scripts| &scripts.remote_connections);
        call.arg(&**node);
        self.ask(call, one_count)
    }

    fn connections_by_node(&self, app: &AppId) -> Call<Vec<(String, usize)>> {
        let call = self.of_app(app, |scripts| &scripts.connections_by_node);
        self.ask(call, |value| {
            pairs(value, |node, connections| {
                Some((text(node)?, text(connections)?.parse().unwrap_or(0)))
            })
        })
    }

    fn due_transitions(&self, app: &AppId, max: usize) -> Call<DueTransitions> {
        let mut call = self.of_app(app, |scripts| &scripts.due_transitions);
        call.arg(max).arg(transitions::longest_delay());
        self.ask(call, transitions::due)
    }

    fn settle_transitions(&self, app: &AppId, handled: Vec<Transition>) -> Call<()> {
        self.in_parts(
            app,
            |scripts| &scripts.settle_transitions,
            &handled,
            |call, part| {
                for Transition { due_ms, key } in part {
                    call.arg(transition_entry::entry(key)).arg(due_ms);
                }
            },
        )
    }

    fn arm_transitions(
        &self,
        app: &AppId,
        present: Vec<Present>,
        newest_stamp: i64,
        rules: LogRules,
    ) -> Call<()> {
        self.in_parts(
            app,
            |scripts| &scripts.arm_transitions,
            &present,
            |call, part| {
                call.arg(newest_stamp).arg(transitions::rules(rules));
                for present in part {
                    call.arg(transition_entry::end_of(present));
                }
            },
        )
    }

    fn forget_transitions(&self, app: &AppId) -> Call<()> {
        let call = self.of_app(app, |scripts| &scripts.forget_transitions);
        self.ask(call, answer::done)
    }
}

impl RedisConnection {
    /// Returns the call of a script for each part of a list, or of one part if the list is empty,
    /// because Redis takes nothing else while a script runs.
    fn in_parts<T>(
        &self,
        app: &AppId,
        script: impl Fn(&Scripts) -> &Script,
        all: &[T],
        append: impl Fn(&mut Command, &[T]),
    ) -> Call<()> {
        let parts = all.chunks(PART).chain(all.is_empty().then_some(all));
        let command = |part| {
            let mut call = self.of_app(app, &script);
            append(&mut call, part);
            call
        };
        self.ask_all(parts.map(command).collect())
    }

    /// Returns the command of a report, and the receiver of its reply.
    fn report_command(
        &self,
        node: &NodeName,
        deadline: Moment,
        report: Report,
    ) -> (Command, Receive) {
        let Report { app, change } = report;
        let mut call = self.of_app(&app, |scripts| match &change {
            Change::Join { .. } => &scripts.join,
            Change::Leave { .. } => &scripts.leave,
            Change::Subscriptions { .. } => &scripts.subscriptions,
            Change::SignIn { .. } => &scripts.sign_in,
            Change::SignOut { .. } => &scripts.sign_out,
            Change::Connections { .. } => &scripts.connections,
            Change::Admit { .. } => &scripts.admit,
        });
        call.arg(deadline).arg(&**node);
        let receive = match change {
            Change::Join {
                channel,
                member,
                max,
                wants_members,
                log,
                reply,
            } => {
                let info = member.user_info.as_deref().unwrap_or_default();
                call.arg(channel).arg(member.user_id.as_str()).arg(info);
                call.arg(max).arg(u8::from(wants_members));
                call.arg(transitions::rules(log));
                receive(reply, joined)
            }
            Change::Leave {
                channel,
                user,
                log,
                reply,
            } => {
                call.arg(channel).arg(user.as_str());
                call.arg(transitions::rules(log));
                receive(reply, flag)
            }
            Change::Subscriptions {
                channel,
                count,
                announce,
                visited,
                log,
                reply,
            } => {
                call.arg(channel).arg(count).arg(u8::from(announce));
                call.arg(transitions::rules(log)).arg(u8::from(visited));
                receive(reply, counted)
            }
            Change::SignIn { user, reply } | Change::SignOut { user, reply } => {
                call.arg(user.as_str());
                receive(reply, flag)
            }
            Change::Connections { count } => {
                call.arg(count);
                receive(Reply::ignore(), answer::done)
            }
            Change::Admit { change, max, reply } => {
                call.arg(max).arg(change);
                receive(reply, flag)
            }
        };
        (call, receive)
    }
}

fn receive<T: 'static>(reply: Reply<T>, read: fn(Value) -> Option<T>) -> Receive {
    Box::new(move |value| {
        reply.send(answer::read(value, read)?);
        Ok(())
    })
}

fn joined(value: Value) -> Option<Joined> {
    if !matches!(value, Value::Array(_)) {
        return Some(Joined::Full);
    }
    let [added, position, members] = parts(value)?;
    Some(Joined::Member {
        added: flag(added)?,
        snapshot: snapshot(position, members)?,
    })
}

fn counted(value: Value) -> Option<Counted> {
    let [before, after] = parts(value)?;
    Some(Counted {
        before: count(before)?,
        after: count(after)?,
    })
}

fn snapshot(at: Value, members: Value) -> Option<PresenceSnapshot> {
    let member = |user, info| {
        Some(Member {
            user_id: UserId::new(&text(user)?)?,
            user_info: Some(text(info)?)
                .filter(|info| !info.is_empty())
                .map(Into::into),
        })
    };
    Some(PresenceSnapshot {
        position: position(at)?,
        members: pairs(members, member)?,
    })
}
