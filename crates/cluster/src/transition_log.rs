//! The engine's transition log over all nodes: the back end writes it in the steps that decide
//! transitions, and every node may read it.

use fanfare_engine::{
    BoxFuture, DueTransitions, Generation, LOST_NODE_GRACE, LogResult, Present, Transition,
    TransitionLog, TransitionLogUnavailable,
};
use fanfare_protocol::AppId;
use tokio::sync::watch;

use crate::backend::{Call, LogRules};
use crate::cluster::Cluster;
use crate::link::Link;

impl TransitionLog for Cluster {
    fn due<'a>(&'a self, app: &'a AppId, max: usize) -> BoxFuture<'a, LogResult<DueTransitions>> {
        Box::pin(self.ask_log(move |link| link.presence.due_transitions(app, max)))
    }

    fn settle<'a>(
        &'a self,
        app: &'a AppId,
        handled: Vec<Transition>,
    ) -> BoxFuture<'a, LogResult<()>> {
        Box::pin(self.ask_log(move |link| link.presence.settle_transitions(app, handled)))
    }

    fn arm<'a>(
        &'a self,
        app: &'a AppId,
        present: Vec<Present>,
        newest_stamp: i64,
    ) -> BoxFuture<'a, LogResult<()>> {
        let rules = LogRules {
            channels: true,
            members: true,
            grace: LOST_NODE_GRACE,
            max_entries: self.node.max_transitions(),
        };
        Box::pin(self.ask_log(move |link| {
            link.presence
                .arm_transitions(app, present, newest_stamp, rules)
        }))
    }

    fn forget<'a>(&'a self, app: &'a AppId) -> BoxFuture<'a, LogResult<()>> {
        Box::pin(self.ask_log(move |link| link.presence.forget_transitions(app)))
    }

    fn generations(&self) -> watch::Receiver<Generation> {
        self.log_generation.subscribe()
    }
}

impl Cluster {
    /// Makes a call that concerns a transition log, and waits for its answer.
    async fn ask_log<T>(&self, call: impl FnOnce(&Link) -> Call<T>) -> LogResult<T> {
        let link = self.link().ok_or(TransitionLogUnavailable)?;
        link.in_time(call(&link)).await.map_err(|error| {
            tracing::debug!(%error, "the transition log was asked in vain");
            TransitionLogUnavailable
        })
    }
}
