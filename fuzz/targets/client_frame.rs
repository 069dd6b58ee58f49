//! Text frames of clients. What is accepted says what the frame says, as `serde_json` reads it, and survives being
//! written and read again; what is refused is refused in few words.
#![no_main]

use fanfare_protocol::ClientMessage;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};

/// Most bytes of what a client is told is wrong.
const MAX_ERROR: usize = 1_500;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let expected = serde_json::from_str(text)
        .ok()
        .and_then(|frame| meaning(&frame));
    match ClientMessage::parse(text) {
        Ok(message) => {
            let found = written(&message);
            // serde_json refuses some text that we pass through unread, for example numbers that are too large.
            if serde_json::from_str::<Value>(text).is_ok() {
                assert_eq!(Some(&found), expected.as_ref());
            }
            let again = found.to_string();
            let again = ClientMessage::parse(&again).expect("what was written is read");
            assert_eq!(written(&again), found);
        }
        Err(error) => {
            let error = error.to_string();
            assert!(error.len() <= MAX_ERROR, "{} bytes: {error}", error.len());
            // The one difference: a field that is there twice, of which serde_json takes the last.
            assert!(
                expected.is_none() || error.contains("duplicate field"),
                "{error}"
            );
        }
    }
});

/// The message as a frame of nothing but what counts.
fn written(message: &ClientMessage<'_>) -> Value {
    match message {
        ClientMessage::Ping => json!({"event": "pusher:ping"}),
        ClientMessage::Pong => json!({"event": "pusher:pong"}),
        ClientMessage::Subscribe(subscribe) => {
            let fields = [
                ("channel", Some(&subscribe.channel)),
                ("auth", subscribe.auth.as_ref()),
                ("channel_data", subscribe.channel_data.as_ref()),
            ];
            let data: Map<String, Value> = fields
                .into_iter()
                .filter_map(|(name, text)| Some((name.to_owned(), text?.as_ref().into())))
                .collect();
            json!({"event": "pusher:subscribe", "data": data})
        }
        ClientMessage::Unsubscribe { channel } => {
            json!({"event": "pusher:unsubscribe", "data": {"channel": channel}})
        }
        ClientMessage::SignIn(sign_in) => json!({
            "event": "pusher:signin",
            "data": {"auth": sign_in.auth, "user_data": sign_in.user_data},
        }),
        ClientMessage::ClientEvent(event) => {
            let mut frame = json!({"event": event.name, "channel": event.channel});
            // Of what serde_json cannot hold, only that it is passed on counts here.
            if let Some(data) = event.data {
                frame["data"] = serde_json::from_str(data.get()).unwrap_or_else(|_| "?".into());
            }
            frame
        }
    }
}

/// What `written` should give for a frame; none for a frame that is to be refused.
fn meaning(frame: &Value) -> Option<Value> {
    let event = frame.as_object()?.get("event")?.as_str()?;
    match event {
        "pusher:ping" | "pusher:pong" => Some(json!({"event": event})),
        "pusher:subscribe" | "pusher:unsubscribe" => {
            let data = frame.get("data")?;
            let decoded;
            let data = match data.as_str() {
                Some(text) => {
                    decoded = serde_json::from_str::<Value>(text).ok()?;
                    decoded.as_object()?
                }
                None => data.as_object()?,
            };
            let channel = data.get("channel")?.as_str()?;
            let mut meant = json!({"channel": channel});
            // On unsubscribing it is read as well, for one shape of both.
            match data.get("channel_data") {
                None | Some(Value::Null) => {}
                Some(value) => {
                    let text = value.as_str()?;
                    if !text.is_empty() {
                        meant["channel_data"] = text.into();
                    }
                }
            }
            match data.get("auth").and_then(Value::as_str) {
                Some(text) if !text.is_empty() => meant["auth"] = text.into(),
                _ => {}
            }
            if event == "pusher:unsubscribe" {
                meant = json!({"channel": channel});
            }
            Some(json!({"event": event, "data": meant}))
        }
        "pusher:signin" => {
            let data = frame.get("data")?.as_object()?;
            let text = |field: &str| data.get(field).and_then(Value::as_str);
            let data = json!({"auth": text("auth")?, "user_data": text("user_data")?});
            Some(json!({"event": event, "data": data}))
        }
        name if name.starts_with("client-") => {
            let mut meant = json!({"event": name, "channel": frame.get("channel")?.as_str()?});
            match frame.get("data") {
                None | Some(Value::Null) => {}
                Some(data) => meant["data"] = data.clone(),
            }
            Some(meant)
        }
        _ => None,
    }
}
