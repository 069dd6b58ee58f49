//! Users: a connection says whose it is, signed by the app's backend (spec 2.7), and can be closed by that name.

use std::sync::Arc;

use fanfare_protocol::client::SignIn;
use fanfare_protocol::presence::Member;
use fanfare_protocol::signature::user_auth_text;
use fanfare_protocol::user::{User, parse_user_data};
use fanfare_protocol::{CloseCode, ServerMessage, UserId};
use tokio::time::{Instant, timeout};

use crate::app::App;
use crate::bus::{BusError, Topic};
use crate::engine::Engine;
use crate::error::Refusal;
use crate::refusals::RefusalKind;
use crate::session::Session;
use crate::shard::Shard;
use crate::subscribe::PATIENCE;
use crate::watchlist::Watcher;

/// The code that says that only part of a watchlist counts; the connection stays.
const WATCHLIST_TOO_LONG: u16 = 4302;

impl Session {
    /// Whatever is wrong with it, the connection stays usable, and who it was before it stays.
    pub(crate) async fn sign_in(&self, request: &SignIn<'_>) {
        let user = match self.try_sign_in(request) {
            Ok(user) => user,
            Err(message) => {
                self.note_refusal(RefusalKind::UserSignIn, &message);
                return self.complain(&message);
            }
        };
        self.send(&ServerMessage::SignInSuccess {
            user_data: &request.user_data,
        });
        if self.user().is_none() {
            self.enter(user).await;
        }
    }

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

    /// The user is online; whoever watches them is told, and they are told of those they watch.
    async fn enter(&self, user: User) {
        let User {
            member,
            mut watchlist,
        } = user;
        let app = self.with(|connection| Arc::clone(&connection.app));
        let settings = app.settings();
        let roster = self.shard.engine.roster();
        app.users.enter(&app, &member.user_id, roster);
        let (sent, max) = (watchlist.len(), settings.limits.watchlist);
        watchlist.truncate(if settings.watchlists { max } else { 0 });
        let watched = watchlist.clone();
        self.with(|connection| connection.user = Some(Box::new(User { member, watchlist })));
        if !watched.is_empty() && self.watch(&app, &watched).await.is_none() {
            return self.close_as_away();
        }
        if settings.watchlists && sent > max {
            let message = format!(
                "The watchlist has {sent} users, at most {max} are allowed: the first {max} count"
            );
            self.send(&ServerMessage::Error {
                code: Some(WATCHLIST_TOO_LONG),
                message: &message,
            });
        }
    }

    /// Tells who of the watched is online, and from then on what changes; nothing if the others stay away.
    async fn watch(&self, app: &Arc<App>, watched: &[UserId]) -> Option<()> {
        let engine = &self.shard.engine;
        let watcher = self.watcher();
        app.users.watch(watcher, watched);
        if app.users.listening() != engine.deliverer().generation() {
            let since = self.listen(Topic::Users(Arc::clone(app))).await?;
            app.users.note_listening(since);
        }
        let since = app.users.listening();
        let answer = timeout(PATIENCE, engine.roster().online(app, watched)).await;
        let answer = answer.ok()?.ok()?;
        if since != engine.deliverer().generation() {
            return None;
        }
        let (online, offline) = app.users.settle(watcher, watched, answer);
        self.send(&ServerMessage::WatchlistEvents {
            online: &online,
            offline: &offline,
        });
        Some(())
    }

    /// The connection has ended.
    pub(crate) fn sign_out(&self) {
        let Some(user) = self.with(|connection| connection.user.take()) else {
            return;
        };
        let app = self.with(|connection| Arc::clone(&connection.app));
        let engine = &self.shard.engine;
        if !user.watchlist.is_empty() && app.users.unwatch(self.watcher(), &user.watchlist) {
            engine.bus().unlisten(&Topic::Users(Arc::clone(&app)));
        }
        app.users.leave(&app, &user.member.user_id, engine.roster());
    }

    fn watcher(&self) -> Watcher {
        Watcher {
            shard: self.shard.index,
            slot: self.slot,
            socket_id: self.socket_id(),
        }
    }

    /// Who is signed in.
    pub(crate) fn user(&self) -> Option<Member> {
        self.with(|connection| connection.user.as_ref().map(|user| user.member.clone()))
    }

    /// Checks `KEY:SIGNATURE` of a text; any key of the app in force will do.
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
            format!("Invalid key in auth data {purpose}: {key:?} is no key of this app")
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
    /// Closes every connection that is signed in as this user, on every node; they may come back only as somebody else's.
    ///
    /// # Errors
    ///
    /// The other nodes cannot be told now.
    pub async fn terminate_user(&self, app: &Arc<App>, user: &UserId) -> Result<(), BusError> {
        self.bus().terminate(app, user).await
    }
}

impl Shard {
    pub(crate) fn terminate(&self, app: &Arc<App>, user: &UserId) {
        let refusal = Refusal::new(
            CloseCode::Unauthorized,
            "The app has closed the connections of this user",
        );
        let now = Instant::now();
        let mut state = self.state();
        let theirs = |c: &crate::connection::Connection| {
            Arc::ptr_eq(&c.app, app)
                && c.user
                    .as_ref()
                    .is_some_and(|signed_in| signed_in.member.user_id == *user)
        };
        let slots: Vec<usize> = state
            .connections
            .iter()
            .filter(|(_, c)| theirs(c))
            .map(|(slot, _)| slot)
            .collect();
        slots
            .into_iter()
            .for_each(|slot| state.close(slot, &refusal, now));
    }
}
