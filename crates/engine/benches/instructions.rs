//! The operations whose instructions `scripts/count-instructions` counts, each by its name in a process of its own. What runs
//! inside [`counted`] counts, and nothing else does. Sinks make no system calls.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program of one thread that stops where something is missing, and whose output is a number"
)]

use std::cell::Cell;
use std::future::Future;
use std::hint::black_box;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use fanfare_engine::testing::{KEY, LocalNode, SECRET, arrival, options, run_paused, settle};
use fanfare_engine::{Session, Sink};
use fanfare_protocol::api::Event;
use fanfare_protocol::signature::{SigningKey, channel_auth_text};
use fanfare_protocol::{Limits, ServerMessage};
use serde_json::json;

// The server's, which doesn't depend on the version of the system's library.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Operations before the first that counts: tables have grown by then, and buffers are there for reuse.
const WARM_UP: usize = 50;
/// Operations that count.
const OPERATIONS: usize = 500;

fn main() {
    // Cargo adds "--bench".
    let mut names = std::env::args().skip(1).filter(|name| name != "--bench");
    match names.next().as_deref() {
        Some("encode") => encode(),
        Some("deliver_100") => run_paused(deliver()),
        Some("subscribe_private") => run_paused(subscribe()),
        Some("presence_join") => run_paused(presence_join()),
        Some("outbox_flush") => run_paused(flush()),
        other => {
            println!("no scenario {other:?}: run scripts/count-instructions");
            return;
        }
    }
    println!("{OPERATIONS} operations");
}

/// Runs an operation whose instructions count: callgrind collects while this function runs.
#[inline(never)]
fn counted<R>(operation: impl FnOnce() -> R) -> R {
    // Not the last call, because a jump instead of a call would end the collection too early.
    black_box(operation())
}

/// Runs an operation, and counts it unless it is part of the warm-up.
fn counted_if<R>(counts: bool, operation: impl FnOnce() -> R) -> R {
    if counts {
        counted(operation)
    } else {
        operation()
    }
}

/// Returns the numbers of the operations of a scenario, each with whether it counts.
fn operations() -> impl Iterator<Item = (usize, bool)> {
    (0..WARM_UP + OPERATIONS).map(|number| (number, number >= WARM_UP))
}

/// Runs what waits for nothing on a node by itself.
fn without_waiting<F: Future>(operation: F) -> F::Output {
    match pin!(operation).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("an operation waits"),
    }
}

/// A socket that takes all, or nothing while it is blocked, at most 16 KiB at a time.
#[derive(Debug, Clone, Default)]
struct Discard {
    is_blocked: Rc<Cell<bool>>,
}

impl Sink for Discard {
    fn write(&self, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_blocked.get() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let waiting: usize = chunks.iter().map(|chunk| chunk.len()).sum();
        Ok(waiting.min(16 * 1024))
    }
}

fn connect(node: &LocalNode, sink: &Discard) -> Session {
    let admitted = node.engine.admit(arrival(KEY)).unwrap();
    node.connect_through(admitted, Box::new(sink.clone()))
}

/// Handles one message as a reader does in one of its turns.
fn take_turn(session: &Session, message: &str) {
    session.note_activity();
    without_waiting(session.handle(message));
    session.count_message();
    session.flush();
    session.serve_inbox();
}

/// Returns a signed `pusher:subscribe`.
fn subscription(session: &Session, channel: &str, channel_data: Option<&str>) -> String {
    let text = channel_auth_text(session.socket_id(), channel, channel_data);
    let auth = format!("{KEY}:{}", SigningKey::new(SECRET).sign(&text));
    let data = json!({"channel": channel, "auth": auth, "channel_data": channel_data});
    json!({"event": "pusher:subscribe", "data": data}).to_string()
}

/// Returns JSON text of about this many bytes, with what must be escaped.
fn data(bytes: usize) -> String {
    let line = json!({"id": 4711, "text": "Grüße an \"alle\"", "price": 12.5}).to_string();
    let lines = bytes.div_ceil(line.len() + 1);
    format!("[{}]", vec![line; lines].join(","))
}

fn event(channel: &str, bytes: usize) -> Event {
    let body =
        json!({"name": "order-updated", "channel": channel, "data": data(bytes)}).to_string();
    Event::parse(body.as_bytes(), &Limits::HOSTED).unwrap()
}

/// Publishes an event, and writes it to its subscribers.
fn publish(node: &LocalNode, event: &Event, any: &Session) {
    let events = std::slice::from_ref(event);
    without_waiting(node.engine.publish(&node.app(), events, None)).unwrap();
    any.serve_inbox();
}

/// Encodes an event of 200 bytes.
fn encode() {
    let data = data(200);
    for (_, counts) in operations() {
        let message = ServerMessage::Event {
            name: black_box("order-updated"),
            channel: black_box("private-orders"),
            data: black_box(&data),
            user_id: None,
            position: None,
        };
        counted_if(counts, || message.to_frame());
    }
}

/// Publishes an event of 200 bytes to a channel with 100 subscribers, and writes it to them.
async fn deliver() {
    let node = LocalNode::alone(options(1)).await;
    let sessions: Vec<_> = (0..100)
        .map(|_| connect(&node, &Discard::default()))
        .collect();
    for session in &sessions {
        take_turn(session, &subscription(session, "orders", None));
    }
    let event = event("orders", 200);
    for (_, counts) in operations() {
        counted_if(counts, || publish(&node, &event, &sessions[0]));
        settle().await;
    }
}

/// Subscribes to a private channel that has no other subscriber.
async fn subscribe() {
    let node = LocalNode::alone(options(1)).await;
    for (number, counts) in operations() {
        let session = connect(&node, &Discard::default());
        let channel = format!("private-user-{number:04}");
        let message = subscription(&session, &channel, None);
        counted_if(counts, || take_turn(&session, &message));
        assert!(session.is_subscribed(&channel));
        end(session).await;
    }
}

/// Joins a presence channel with 20 other members, who are told of it.
async fn presence_join() {
    let node = LocalNode::alone(options(1)).await;
    let join = |number: usize| {
        let session = connect(&node, &Discard::default());
        let user = json!({"user_id": format!("user-{number:04}"), "user_info": {"name": "Grüße"}});
        let message = subscription(&session, "presence-room", Some(&user.to_string()));
        (session, message)
    };
    let mut members = Vec::new();
    for number in 0..20 {
        let (session, message) = join(1000 + number);
        take_turn(&session, &message);
        members.push(session);
    }
    for (number, counts) in operations() {
        let (session, message) = join(number);
        counted_if(counts, || take_turn(&session, &message));
        assert!(session.is_subscribed("presence-room"));
        end(session).await;
    }
}

/// Writes 32 events that waited for a socket, every other one too long to be copied.
async fn flush() {
    let node = LocalNode::alone(options(1)).await;
    let sink = Discard::default();
    let session = connect(&node, &sink);
    take_turn(&session, &subscription(&session, "orders", None));
    let events = [event("orders", 200), event("orders", 2000)];
    for (_, counts) in operations() {
        sink.is_blocked.set(true);
        for event in events.iter().cycle().take(32) {
            publish(&node, event, &session);
        }
        sink.is_blocked.set(false);
        counted_if(counts, || session.flush());
        assert!(session.is_flushed());
        settle().await;
    }
}

/// Ends a connection, whose part is not counted.
async fn end(session: Session) {
    session.end().await;
    settle().await;
}
