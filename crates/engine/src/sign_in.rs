//! Users: a connection signs in as a user, signed by the app's backend (docs/protocol.md#sign-in),
//! and all connections of a user can be closed.

use std::mem;
use std::sync::Arc;

use fanfare_protocol::client::SignIn;
use fanfare_protocol::presence::Member;
use fanfare_protocol::signature::user_auth_text;
use fanfare_protocol::user::{User, parse_user_data};
use fanfare_protocol::{CloseCode, ServerMessage, SocketId, UserId};
use tokio::time::{Instant, timeout};

use crate::app::App;
use crate::bus::{BusError, Topic};
use crate::clock::SUBSCRIBE_TIMEOUT;
use crate::connection::SignedIn;
use crate::engine::Engine;
use crate::error::Refusal;
use crate::live::{LiveEvent, LiveKind};
use crate::refusals::RefusalKind;
use crate::roster::RosterError;
use crate::session::Session;
use crate::shard::Shard;
use crate::watchlist::ConnectionRef;

/// The error code for a watchlist of which only the first part counts; the connection stays.
const WATCHLIST_TOO_LONG: u16 = 4302;

impl Session {
    /// Signs a connection in, and waits for the other nodes. An invalid sign-in gets an error, and
    /// the connection keeps the user that it had. Signing in again as the same user replaces the
    /// watchlist and `user_info`.
    pub(crate) async fn sign_in(&self, request: &SignIn<'_>) {
        let user = match self.try_sign_in(request) {
            Ok(user) => user,
            Err(message) => {
                self.note_refusal(RefusalKind::UserSignIn, &message);
                return self.send_error(&message);
            }
        };
        let app = self.with(|connection| Arc::clone(&connection.app));
        if self.user().is_none() && self.enter(&app, &user.member).await.is_err() {
            return self.close_as_disconnected();
        }
        self.send(&ServerMessage::SignInSuccess {
            user_data: &request.user_data,
        });
        if self.is_watched() {
            self.show_live(LiveEvent {
                user_id: Some(user.member.user_id.as_str()),
                ..LiveEvent::new(LiveKind::SignedIn)
            });
        }
        // After the success message, so that a client knows its user before the first watchlist
        // event.
        self.take_watchlist(&app, user).await;
    }

    /// Checks a sign-in, and returns the user, or the text of the error.
    fn try_sign_in(&self, request: &SignIn<'_>) -> Result<User, String> {
        let app = self.with(|connection| Arc::clone(&connection.app));
        let text = user_auth_text(self.socket_id(), &request.user_data);
        self.check_signature(&request.auth, &text, "to sign in")?;
        let limits = &app.settings().limits;
        let user =
            parse_user_data(&request.user_data, limits).map_err(|error| error.to_string())?;
        match self.user() {
            Some(other) if other.user_id != user.member.user_id => Err(format!(
                "This connection is signed in as {} already",
                other.user_id
            )),
            _ => Ok(user),
        }
    }

    /// Notes that the user is online, and gives the connection the events sent to the user.
    async fn enter(&self, app: &Arc<App>, member: &Member) -> Result<(), RosterError> {
        let implicit_channel = self.open_own_channel(app, &member.user_id).await?;
        // After the await, so that a user who is online receives the events sent to the user.
        let roster = self.shard.engine.roster();
        let here = self.connection_ref();
        let user = &member.user_id;
        app.users.enter(user, here, || roster.sign_in(app, user));
        let signed_in = SignedIn {
            member: member.clone(),
            since: self.with(|connection| connection.connected.elapsed()),
            watchlist: Vec::new(),
            watchlist_position: 0,
            implicit_channel,
        };
        self.with(|connection| connection.user = Some(Box::new(signed_in)));
        self.note_user(member.user_id.as_str());
        Ok(())
    }

    /// Replaces the connection's watchlist, and sends which of these users are online.
    async fn take_watchlist(&self, app: &Arc<App>, user: User) {
        let User {
            member,
            mut watchlist,
        } = user;
        let settings = app.settings();
        let (sent, max) = (watchlist.len(), settings.limits.watchlist);
        watchlist.truncate(if settings.watchlists { max } else { 0 });
        let before = self.with(|connection| {
            let signed_in = connection.user.as_mut()?;
            signed_in.member = member;
            Some(mem::replace(&mut signed_in.watchlist, watchlist.clone()))
        });
        let before = before.unwrap_or_default();
        let changed = before != watchlist;
        if changed && watchlist.is_empty() {
            self.unwatch(app, &before);
        } else if changed && self.watch(app, &watchlist, &before).await.is_none() {
            return self.close_as_disconnected();
        }
        if settings.watchlists && sent > max {
            let message = format!(
                "The watchlist has {sent} users, at most {max} are allowed: the first {max} count"
            );
            self.send(&ServerMessage::Error {
                code: Some(WATCHLIST_TOO_LONG),
                message: &message,
                reference: None,
            });
        }
    }

    /// Sends which of the watched users are online, and from then on what changes. Returns `None`
    /// if the other nodes don't answer in time.
    async fn watch(&self, app: &Arc<App>, watched: &[UserId], before: &[UserId]) -> Option<()> {
        let engine = &self.shard.engine;
        let watcher = self.connection_ref();
        // Before the roster is asked, so that changes meanwhile are kept for `finish_watch`.
        app.users.watch(watcher, watched, before);
        if app.users.received_since() != Some(engine.deliverer().generation()) {
            let since = self.receive_topic(Topic::Users(Arc::clone(app))).await?;
            app.users.note_receiving(since);
        }
        // Read again after the await: the generation may have ended, which the check below the next
        // await finds.
        let since = app.users.received_since();
        let answer = timeout(SUBSCRIBE_TIMEOUT, engine.roster().online(app, watched)).await;
        let answer = answer.ok()?.ok()?;
        if since != Some(engine.deliverer().generation()) {
            return None;
        }
        let (online, offline, position) = app.users.finish_watch(watcher, watched, answer);
        // A change that was queued before this answer, for the previous watchlist, is older than
        // the answer.
        self.with(|connection| {
            if let Some(signed_in) = &mut connection.user {
                signed_in.watchlist_position = position;
            }
        });
        self.send(&ServerMessage::WatchlistEvents {
            online: &online,
            offline: &offline,
        });
        Some(())
    }

    /// Ends watching. The bus ends its subscription after the node's last watcher.
    fn unwatch(&self, app: &Arc<App>, watched: &[UserId]) {
        if app.users.unwatch(self.connection_ref(), watched) {
            let bus = self.shard.engine.bus();
            bus.unsubscribe(&Topic::Users(Arc::clone(app)));
        }
    }

    /// Signs the user of an ended connection out.
    pub(crate) fn sign_out(&self) {
        let Some(user) = self.with(|connection| connection.user.take()) else {
            return;
        };
        let app = self.with(|connection| Arc::clone(&connection.app));
        if !user.watchlist.is_empty() {
            self.unwatch(&app, &user.watchlist);
        }
        let roster = self.shard.engine.roster();
        let here = self.connection_ref();
        let user = &user.member.user_id;
        app.users.leave(user, here, || roster.sign_out(&app, user));
    }

    /// Returns how other threads name this connection.
    fn connection_ref(&self) -> ConnectionRef {
        ConnectionRef {
            shard: self.shard.index,
            slot: self.slot,
            socket_id: self.socket_id(),
        }
    }

    /// Returns the signed-in user.
    pub(crate) fn user(&self) -> Option<Member> {
        self.with(|connection| connection.user.as_ref().map(|user| user.member.clone()))
    }

    /// Checks `KEY:SIGNATURE` of a text; any active key of the app is valid. Returns the text for
    /// the client if it is invalid.
    pub(crate) fn check_signature(
        &self,
        auth: &str,
        text: &str,
        purpose: &str,
    ) -> Result<(), String> {
        let (key, signature) = auth.split_once(':').ok_or_else(|| {
            format!("Invalid auth {purpose}: expected KEY:SIGNATURE, got {auth:?}")
        })?;
        let signing = self.with(|connection| connection.app.signing_key(key));
        let signing = signing.ok_or_else(|| {
            match self.with(|connection| connection.app.former_key(key)) {
                Some(former) => format!("Invalid key in auth data {purpose}: {former}"),
                None => {
                    format!("Invalid key in auth data {purpose}: {key:?} is no key of this app")
                }
            }
        })?;
        if signing.verify(text, signature) {
            self.with(|connection| {
                connection.authorized = true;
                connection.app.note_key_use(key, connection.address);
            });
            return Ok(());
        }
        Err(format!(
            "Invalid signature {purpose}: expected HMAC SHA256 in lowercase hex of {text:?} with the secret of {key}, got \
             {signature:?}"
        ))
    }
}

impl Engine {
    /// Closes every connection that is signed in as this user, on every node. The app's backend
    /// decides whether it signs the user in again.
    ///
    /// # Errors
    ///
    /// Returns [`BusError`] if the other nodes cannot be told now.
    pub async fn terminate_user(&self, app: &Arc<App>, user: &UserId) -> Result<(), BusError> {
        self.bus().terminate(app, user).await
    }
}

impl Shard {
    /// Closes a connection because its app has closed its user's connections.
    pub(crate) fn terminate(&self, slot: usize, socket_id: SocketId) {
        let refusal = Refusal::new(
            CloseCode::Unauthorized,
            "The app has closed the connections of this user",
        );
        let mut state = self.state();
        if state.has(slot, socket_id) {
            state.close(slot, &refusal, Instant::now());
        }
    }
}
