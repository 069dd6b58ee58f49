//! Server-sent events as Fanfare writes them: a name and one line of data. Read here, because crates for them bring
//! their own reconnects and HTTP clients.

/// An event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ServerEvent {
    pub(super) name: String,
    pub(super) data: String,
}

/// Reads events from parts of any length.
#[derive(Debug, Default)]
pub(super) struct Parser {
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    event: ServerEvent,
}

impl Parser {
    /// Returns the events that end with this part.
    pub(super) fn push(&mut self, part: &[u8]) -> Vec<ServerEvent> {
        let mut events = Vec::new();
        for byte in part {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(&line);
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if !event.data.is_empty() {
                    events.push(event);
                }
            } else if let Some(name) = line.strip_prefix("event: ") {
                self.event.name = name.to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                self.event.data = data.to_owned();
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_whatever_the_length_of_the_parts() {
        let text = "event: hello\ndata: {\"a\":\"é\"}\n\n: still here\n\nevent: line\ndata: {}\n\nevent: cut\ndata: {";
        let event = |name: &str, data: &str| ServerEvent {
            name: name.into(),
            data: data.into(),
        };
        let expected = [event("hello", "{\"a\":\"é\"}"), event("line", "{}")];
        for length in 1..text.len() {
            let mut parser = Parser::default();
            let parts = text.as_bytes().chunks(length);
            let events: Vec<_> = parts.flat_map(|part| parser.push(part)).collect();
            assert_eq!(events, expected, "{length}");
        }
    }
}
