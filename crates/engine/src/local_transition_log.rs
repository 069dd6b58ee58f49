//! The [`TransitionLog`] of a node by itself: each app has its own, which the locks of its channels
//! and members guard.

use std::future::ready;
use std::sync::Arc;

use fanfare_protocol::{AppId, ChannelName, UserId};
use tokio::sync::watch;

use crate::app::App;
use crate::bus::BoxFuture;
use crate::memory::Memory;
use crate::node::Node;
use crate::sequence::Generation;
use crate::transition_log::{LogResult, Present, TransitionLog};
use crate::transitions::{DueTransitions, LOST_NODE_GRACE, Transition, TransitionKind};

/// No limit for channel names, because they had a higher one when they were recorded.
const ANY_LENGTH: usize = usize::MAX;

/// The transition logs of a node by itself. They end with the process, and [`TransitionLog::arm`]
/// finds what receivers are owed then.
#[derive(Debug)]
pub struct LocalTransitionLog {
    node: Arc<Node>,
    memory: Arc<Memory>,
    generation: watch::Sender<Generation>,
}

impl LocalTransitionLog {
    /// Returns the transition logs of `node`, whose roster is `memory`.
    pub(crate) fn new(node: Arc<Node>, memory: Arc<Memory>) -> Self {
        let generation = watch::Sender::new(node.deliverer.generation());
        Self {
            node,
            memory,
            generation,
        }
    }

    /// Runs `read` on an app's log. An app that is gone has none.
    fn of_app<'a, T: Send + 'a>(
        &self,
        app: &AppId,
        read: impl FnOnce(&Arc<App>) -> T,
        gone: impl FnOnce() -> T,
    ) -> BoxFuture<'a, LogResult<T>> {
        let app = self.node.app(app.as_str());
        Box::pin(ready(Ok(app.map_or_else(gone, |app| read(&app)))))
    }

    /// Adds an entry if a channel or member that receivers believe to be present is absent.
    fn arm_one(&self, app: &Arc<App>, Present { channel, user }: &Present) {
        let Ok(name) = ChannelName::parse(channel, ANY_LENGTH) else {
            return;
        };
        match user {
            None => {
                let routes = app.channels.stripe(channel).lock();
                if !routes.contains_key(&name) {
                    let kind = TransitionKind::Vacated;
                    app.transitions
                        .add_if_none(kind, channel, None, LOST_NODE_GRACE);
                }
            }
            Some(user) => {
                let Some(id) = UserId::new(user) else {
                    return;
                };
                self.memory.unless_member(app, &name, &id, || {
                    let kind = TransitionKind::Removed;
                    let user = Some(user.as_str());
                    app.transitions
                        .add_if_none(kind, channel, user, LOST_NODE_GRACE);
                });
            }
        }
    }
}

impl TransitionLog for LocalTransitionLog {
    fn due<'a>(&'a self, app: &'a AppId, max: usize) -> BoxFuture<'a, LogResult<DueTransitions>> {
        let nothing = || DueTransitions {
            stamp: 0,
            due: Vec::new(),
            next_due: None,
            refused: 0,
        };
        self.of_app(app, |app| app.transitions.due(max), nothing)
    }

    fn settle<'a>(
        &'a self,
        app: &'a AppId,
        handled: Vec<Transition>,
    ) -> BoxFuture<'a, LogResult<()>> {
        self.of_app(app, |app| app.transitions.settle(&handled), || ())
    }

    fn arm<'a>(
        &'a self,
        app: &'a AppId,
        present: Vec<Present>,
        newest_stamp: i64,
    ) -> BoxFuture<'a, LogResult<()>> {
        let arm = |app: &Arc<App>| {
            app.transitions.raise_stamp(newest_stamp);
            present.iter().for_each(|one| self.arm_one(app, one));
        };
        self.of_app(app, arm, || ())
    }

    fn forget<'a>(&'a self, app: &'a AppId) -> BoxFuture<'a, LogResult<()>> {
        self.of_app(app, |app| app.transitions.clear(), || ())
    }

    fn generations(&self) -> watch::Receiver<Generation> {
        self.generation.subscribe()
    }
}
