//! A node by itself, with paused time.

use std::future::Future;

pub(crate) use fanfare_engine::testing::{
    Client, KEY, LocalNode as Node, SECRET, Seen, arrival, complaint, data, definition, options,
    settings, settle,
};
use fanfare_engine::{Options, testing};

pub(crate) fn with_node<F: Future<Output = ()>>(shards: usize, test: impl FnOnce(Node) -> F) {
    with_options(options(shards), test);
}

pub(crate) fn with_options<F: Future<Output = ()>>(options: Options, test: impl FnOnce(Node) -> F) {
    testing::run_paused(async { test(Node::alone(options).await).await });
}
