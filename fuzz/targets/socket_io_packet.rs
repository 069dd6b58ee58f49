//! Packets of clients of Socket.IO. What is accepted says what the packet's JSON says, as `serde_json` reads it, in the namespace that
//! it names; what is refused is refused in few words.
#![no_main]

use fanfare_protocol::ClientMessage;
use fanfare_protocol::socket_io::{Emit, EngineIoPacket, Packet, PacketKind, ROOT, Request};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Most bytes of what a client is told is wrong.
const MAX_ERROR: usize = 1_500;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Some(EngineIoPacket::Message(message)) = EngineIoPacket::parse(text) else {
        return;
    };
    let Some(packet) = Packet::parse(message) else {
        return;
    };
    assert!(packet.namespace == ROOT || message.contains(packet.namespace));
    assert!(packet.namespace.starts_with('/') && !packet.namespace.contains(char::is_control));
    assert!(
        packet
            .id
            .is_none_or(|id| id.bytes().all(|byte| byte.is_ascii_digit()))
    );
    assert!(message.ends_with(packet.data));
    if packet.kind != PacketKind::Event {
        return;
    }
    let emit = Emit::parse(packet.data).expect("a packet of an event has one");
    // serde_json refuses numbers that are too large, and they are passed through.
    let Ok(arguments) = serde_json::from_str::<Vec<Value>>(packet.data) else {
        return;
    };
    match emit.request() {
        Ok(Request::Broadcast { name, data }) => {
            assert!(name.ends_with(arguments[0].as_str().expect("a name")));
            assert!(name.starts_with("client-") && data.is_some() == (arguments.len() == 2));
        }
        Ok(Request::Message(ClientMessage::Subscribe(subscribe))) => {
            assert!(arguments[0] == "join" && arguments[1] == *subscribe.channel);
        }
        Ok(Request::Message(ClientMessage::Unsubscribe { channel })) => {
            assert!(arguments[0] == "leave" && arguments[1] == *channel);
        }
        Ok(Request::Message(ClientMessage::ClientEvent(event))) => {
            assert!(event.name.starts_with("client-") && arguments[2]["channel"] == *event.channel);
        }
        Ok(Request::Message(_)) => panic!("no client of Socket.IO asks for it"),
        Err(error) => {
            let error = error.to_string();
            assert!(error.len() <= MAX_ERROR, "{} bytes: {error}", error.len());
        }
    }
});
