//! Text frames of clients that don't speak Pusher's protocol. What is accepted says what the frame says, as
//! `serde_json` reads it; what is refused is refused in few words, and a `ref` is sent back as it came.
#![no_main]

use fanfare_protocol::plain_client::MAX_REFERENCE;
use fanfare_protocol::{ClientMessage, PlainMessage, ServerMessage};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Most bytes of what a client is told is wrong.
const MAX_ERROR: usize = 1_500;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let PlainMessage { reference, message } = PlainMessage::parse(text);
    let frame = serde_json::from_str::<Value>(text).unwrap_or_default();
    if let Some(reference) = reference {
        assert!(reference.len() <= MAX_REFERENCE);
        let ack = ServerMessage::Ack { reference }.to_json();
        // serde_json refuses numbers that are too large, and they are passed through.
        if let Ok(ack) = serde_json::from_slice::<Value>(&ack) {
            assert!(frame.is_null() || ack["ref"] == frame["ref"]);
            assert!(ack["ref"].is_string() || ack["ref"].is_number());
        }
    }
    let is = |field: &str, text: &str| frame.is_null() || frame[field] == text;
    match message {
        Ok(ClientMessage::Ping) => assert!(is("type", "ping")),
        Ok(ClientMessage::Subscribe(subscribe)) => {
            assert!(is("type", "subscribe") && is("channel", &subscribe.channel));
            let auth = subscribe.auth.as_deref();
            assert!(auth.is_none_or(|auth| is("auth", auth)));
        }
        Ok(ClientMessage::Unsubscribe { channel }) => {
            assert!(is("type", "unsubscribe") && is("channel", &channel));
        }
        Ok(ClientMessage::ClientEvent(event)) => {
            assert!(is("type", "event") && is("channel", &event.channel));
            assert!(is("event", &event.name) && event.name.starts_with("client-"));
        }
        Ok(ClientMessage::Pong | ClientMessage::SignIn(_)) => {
            panic!("no plain message asks for it")
        }
        Err(error) => {
            let error = error.to_string();
            assert!(error.len() <= MAX_ERROR, "{} bytes: {error}", error.len());
        }
    }
});
