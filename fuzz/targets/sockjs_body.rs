//! Bodies of `xhr_send`, and frames as lines of SockJS. A body gives exactly the strings that it holds or is refused in few
//! words; a frame is one line, whatever is in it, and the client gets the frame back from it.
#![no_main]

use fanfare_protocol::frame::Framing;
use fanfare_protocol::sockjs::{BadSend, MAX_SENT_FRAMES, parse_send};
use fanfare_protocol::{CloseCode, Frame};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

/// Most bytes of what a caller is told is wrong.
const MAX_ERROR: usize = 500;
/// Small enough that short input reaches it.
const MAX_FRAME: usize = 40;

fuzz_target!(|body: &[u8]| {
    let expected = serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|body| strings(&body));
    match parse_send(body, MAX_FRAME) {
        Ok(frames) => {
            assert!(frames.iter().all(|frame| frame.len() <= MAX_FRAME));
            assert!(frames.len() <= MAX_SENT_FRAMES);
            let frames: Vec<String> = frames.iter().map(str::to_owned).collect();
            assert_eq!(Some(&frames), expected.as_ref());
            frames.iter().for_each(|frame| one_line(frame));
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() <= MAX_ERROR, "{} bytes: {text}", text.len());
            let is_large = |frames: &Vec<String>| frames.iter().any(|it| it.len() > MAX_FRAME);
            match error {
                // It is read no further, so what follows may be anything.
                BadSend::TooLarge { size, max } => {
                    assert!(size > MAX_FRAME && max == MAX_FRAME);
                    assert!(expected.is_none_or(|frames| is_large(&frames)));
                }
                BadSend::TooMany => {
                    assert!(expected.is_none_or(|frames| frames.len() > MAX_SENT_FRAMES));
                }
                BadSend::NotFrames(_) => assert_eq!(expected, None),
            }
        }
    }
    if let Ok(text) = std::str::from_utf8(body) {
        one_line(text);
    }
});

fn strings(body: &Value) -> Option<Vec<String>> {
    let frames = body.as_array()?.iter();
    frames
        .map(|frame| frame.as_str().map(str::to_owned))
        .collect()
}

fn one_line(text: &str) {
    let line = line(&Frame::text(text.as_bytes()));
    assert_eq!(read(&line, 'a'), json!([text]));

    let line = self::line(&Frame::close(CloseCode::UnknownApp, text));
    let read = read(&line, 'c');
    assert_eq!(read[0], CloseCode::UnknownApp.number());
    let reason = read[1].as_str().expect("a reason");
    assert!(text.starts_with(reason) && (reason.len() == text.len() || reason.len() > 119));
}

fn line(frame: &Frame) -> String {
    let line = String::from_utf8(frame.bytes(Framing::SockJs).to_vec()).expect("UTF-8");
    let content = line.strip_suffix('\n').expect("the end of a line");
    assert!(!content.contains(['\n', '\r']), "{line:?}");
    content.to_owned()
}

fn read(line: &str, kind: char) -> Value {
    let array = line.strip_prefix(kind).expect("the kind of line");
    serde_json::from_str(array).expect("JSON")
}
