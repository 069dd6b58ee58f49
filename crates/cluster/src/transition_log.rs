//! The engine's transition log over all nodes. The back end keeps none yet, so it cannot be reached.

use std::future::ready;

use fanfare_engine::{
    BoxFuture, DueTransitions, Generation, LogResult, Present, Transition, TransitionLog,
    TransitionLogUnavailable,
};
use fanfare_protocol::AppId;
use tokio::sync::watch;

use crate::cluster::Cluster;

fn unavailable<'a, T: Send + 'a>() -> BoxFuture<'a, LogResult<T>> {
    Box::pin(ready(Err(TransitionLogUnavailable)))
}

impl TransitionLog for Cluster {
    fn due<'a>(&'a self, _: &'a AppId, _: usize) -> BoxFuture<'a, LogResult<DueTransitions>> {
        unavailable()
    }

    fn settle<'a>(&'a self, _: &'a AppId, _: Vec<Transition>) -> BoxFuture<'a, LogResult<()>> {
        unavailable()
    }

    fn arm<'a>(&'a self, _: &'a AppId, _: Vec<Present>, _: i64) -> BoxFuture<'a, LogResult<()>> {
        unavailable()
    }

    fn forget<'a>(&'a self, _: &'a AppId) -> BoxFuture<'a, LogResult<()>> {
        unavailable()
    }

    fn generations(&self) -> watch::Receiver<Generation> {
        self.log_generation.subscribe()
    }
}
