//! Bodies of the HTTP API. What is accepted is within every limit, says what the body says, as `serde_json` reads it,
//! and survives being written and read again; what is refused is refused in few words.
#![no_main]

use fanfare_protocol::api::{BadRequest, Event};
use fanfare_protocol::{ChannelName, Limits};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

/// Most bytes of what a caller is told is wrong.
const MAX_ERROR: usize = 1_500;

/// Small enough that short input reaches all of them.
const LIMITS: Limits = Limits {
    channel_name: 24,
    event_name: 12,
    event_data: 20,
    channels_per_publish: 3,
    batch_events: 2,
    ..Limits::HOSTED
};

fuzz_target!(|body: &[u8]| {
    let whole = Event::parse(body, &LIMITS);
    if let Ok(event) = &whole {
        check(event);
        if let Ok(body) = serde_json::from_slice::<Value>(body) {
            compare(event, &body);
        }
        let again = written(event).to_string();
        assert_eq!(Event::parse(again.as_bytes(), &LIMITS), Ok(event.clone()));
    }
    refused(&whole);

    let batch = Event::parse_batch(body, &LIMITS);
    if let Ok(events) = &batch {
        assert!((1..=LIMITS.batch_events).contains(&events.len()));
        events.iter().for_each(check);
        if let Ok(body) = serde_json::from_slice::<Value>(body) {
            let items = body["batch"].as_array().expect("a batch");
            assert_eq!(items.len(), events.len());
            events
                .iter()
                .zip(items)
                .for_each(|(event, item)| compare(event, item));
        }
        let again = json!({"batch": events.iter().map(written).collect::<Vec<_>>()}).to_string();
        assert_eq!(
            Event::parse_batch(again.as_bytes(), &LIMITS).as_ref(),
            Ok(events)
        );
    }
    refused(&batch);

    // One event in a batch is taken or refused as it is alone.
    if serde_json::from_slice::<&serde_json::value::RawValue>(body).is_ok() {
        let alone = [b"{\"batch\":[", body, b"]}"].concat();
        match (Event::parse_batch(&alone, &LIMITS), whole) {
            (Ok(events), Ok(event)) => assert_eq!(events, [event]),
            (Err(BadRequest::Invalid(_)), Err(BadRequest::Invalid(_)))
            | (Err(BadRequest::TooLarge(_)), Err(BadRequest::TooLarge(_))) => {}
            (batch, whole) => panic!("in a batch {batch:?}, alone {whole:?}"),
        }
    }
});

fn check(event: &Event) {
    assert!((1..=LIMITS.event_name).contains(&event.name.len()));
    assert!(!event.name.starts_with("pusher:") && !event.name.starts_with("pusher_internal:"));
    assert!(event.data.len() <= LIMITS.event_data);
    assert!((1..=LIMITS.channels_per_publish).contains(&event.channels.len()));
    for (index, channel) in event.channels.iter().enumerate() {
        let again = ChannelName::parse(channel.as_str(), LIMITS.channel_name);
        assert_eq!(again.as_ref(), Ok(channel));
        assert!(
            !event.channels[..index].contains(channel),
            "{channel} twice"
        );
    }
}

/// The event says what the body said.
fn compare(event: &Event, body: &Value) {
    assert_eq!(body["name"], *event.name);
    match &body["data"] {
        Value::String(text) => assert_eq!(**text, *event.data),
        value => {
            let data: Value = serde_json::from_str(&event.data).expect("its JSON text");
            assert_eq!(&data, value);
        }
    }
    let several = body["channels"].as_array().into_iter().flatten();
    for name in several.chain(body["channel"].is_string().then_some(&body["channel"])) {
        let name = name.as_str().expect("a name");
        assert!(
            event
                .channels
                .iter()
                .any(|channel| channel.as_str() == name),
            "{name}"
        );
    }
    assert_eq!(
        body["idempotency_key"].as_str(),
        event.idempotency_key.as_deref()
    );
    let socket_id = body["socket_id"].as_str().filter(|text| !text.is_empty());
    assert_eq!(socket_id.is_some(), event.except.is_some());
    let info = body["info"].as_str();
    assert_eq!(info.is_some(), event.info.is_some());
    if let (Some(text), Some(info)) = (info, event.info) {
        let asked = |name: &str| text.split(',').any(|attribute| attribute.trim() == name);
        assert_eq!(asked("user_count"), info.user_count);
        assert_eq!(asked("subscription_count"), info.subscription_count);
        assert_eq!(asked("cache"), info.cache);
    }
}

fn written(event: &Event) -> Value {
    let channels: Vec<&str> = event.channels.iter().map(ChannelName::as_str).collect();
    let info = event.info.map(|info| {
        let names = [
            ("user_count", info.user_count),
            ("subscription_count", info.subscription_count),
            ("cache", info.cache),
        ];
        let asked = names
            .iter()
            .filter(|(_, asked)| *asked)
            .map(|(name, _)| *name);
        asked.collect::<Vec<_>>().join(",")
    });
    json!({
        "name": event.name,
        "data": event.data,
        "channels": channels,
        "socket_id": event.except.map(|id| id.to_string()),
        "info": info,
        "idempotency_key": event.idempotency_key,
    })
}

fn refused<T>(result: &Result<T, BadRequest>) {
    if let Err(error) = result {
        let error = error.to_string();
        assert!(error.len() <= MAX_ERROR, "{} bytes: {error}", error.len());
    }
}
