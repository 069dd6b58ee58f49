#!/usr/bin/env bash
# tokio 1.54.1: when one task starts more sends to a bounded channel than its cooperative budget (128) allows, the rest of them is
# carried out in reverse order, although the channel has room for all.
#
# Expected: futures that are polled in order, as `futures::future::join_all` does, on a channel with room put their values there in
# that order.
# Seen with 200 sends: the values 0 to 127 in order, then 199 down to 128. The futures that find the budget used up are woken in the
# reverse order, and join_all (futures-util 0.3.34) polls those that were woken first.
# `tokio::task::unconstrained` around the future keeps the order, and so does sending one after the other.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "probe"
version = "0.0.0"
edition = "2024"
[workspace]
[dependencies]
futures = "=0.3.34"
futures-util = "=0.3.34"
tokio = { version = "=1.54.1", features = ["rt", "sync", "macros"] }
TOML
cat >src/main.rs <<'RUST'
use futures::future::join_all;
use tokio::sync::mpsc;
use tokio::task::unconstrained;

async fn order(constrained: bool) -> Vec<usize> {
    let (send, mut receive) = mpsc::channel(1000);
    let sends = join_all((0..200).map(|number| {
        let send = send.clone();
        async move { send.send(number).await.expect("a receiver") }
    }));
    if constrained {
        sends.await;
    } else {
        unconstrained(sends).await;
    }
    drop(send);
    let mut seen = Vec::new();
    while let Some(number) = receive.recv().await {
        seen.push(number);
    }
    seen
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let constrained = tokio::spawn(order(true)).await.expect("a task");
    let unconstrained = tokio::spawn(order(false)).await.expect("a task");
    println!("with the budget: {constrained:?}");
    let in_order: Vec<usize> = (0..200).collect();
    assert_eq!(unconstrained, in_order, "without the budget");
    let reversed: Vec<usize> = (0..128).chain((128..200).rev()).collect();
    assert_eq!(constrained, reversed, "with the budget");
}
RUST
cargo run -q
