#!/usr/bin/env bash
# A WebSocket connection of tungstenite (Rust) that has read one long message keeps the room for it.
#
# Expected: once a message was handed over, an idle connection is as small as before.
# Seen with tungstenite 0.30.0: a server's context with a read buffer of 512 bytes that has read one frame of 100 KB keeps about
# 96 KiB for as long as it lives, without a way to shrink it. A thousand clients that each send one long message cost 94 MiB
# for ever. Making the context anew between two messages (`WebSocketContext::new`, with what was read ahead) gives it back.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "probe"
version = "0.1.0"
edition = "2024"

[dependencies]
tungstenite = { version = "=0.30.0", default-features = false, features = ["handshake"] }
TOML
cat >src/main.rs <<'RUST'
use std::io::{self, Cursor, Read, Write};

use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

const CONNECTIONS: usize = 500;
const PAYLOAD: usize = 100_000;

/// A client that sends one frame and then nothing.
struct Client(Cursor<Vec<u8>>);

impl Read for Client {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn main() {
    // A masked text frame; the mask is zero.
    let mut frame = vec![0x81, 0xff];
    frame.extend((PAYLOAD as u64).to_be_bytes());
    frame.extend([0; 4]);
    frame.extend([b'x'; PAYLOAD]);
    let before = resident_kib();
    let mut kept = Vec::new();
    for _ in 0..CONNECTIONS {
        let config = WebSocketConfig::default().read_buffer_size(512);
        let mut context = WebSocketContext::new(Role::Server, Some(config));
        let message = context.read(&mut Client(Cursor::new(frame.clone()))).unwrap();
        assert_eq!(message.len(), PAYLOAD);
        drop(message);
        kept.push(context);
    }
    println!("{}", (resident_kib() - before) / CONNECTIONS);
    drop(kept);
}
RUST
cargo build --quiet --release
each=$(target/release/probe)
echo "tungstenite $(grep -A1 'name = "tungstenite"' Cargo.lock | grep -oE '[0-9.]+'): an idle connection that has read one message of 100 KB holds $each KiB"
((each > 50)) || { echo 'that has changed'; exit 1; }
