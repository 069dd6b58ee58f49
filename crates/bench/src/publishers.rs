//! Keep-alive HTTP connections to publish on, each with at most one request in flight.

use std::io::ErrorKind;

use anyhow::{Context, Result, bail, ensure};
use mio::{Poll, Registry, Token};

use crate::generator::Watch;
use crate::http;
use crate::stream::Stream;
use crate::target::Target;

/// All publishers of a run.
pub(crate) struct Publishers {
    target: Target,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
}

struct Connection {
    stream: Stream,
    registry: Registry,
    token: Token,
    busy: bool,
    /// Start of an answer whose end hasn't come yet.
    carry: Vec<u8>,
}

impl Publishers {
    pub(crate) fn new(target: Target) -> Self {
        Self {
            target,
            connections: Vec::new(),
            buffer: vec![0; 16 * 1024],
        }
    }

    /// Opens one more connection.
    pub(crate) fn open(&mut self, poll: &Poll, token: Token) -> Result<()> {
        let address = self.target.address(self.connections.len());
        let mut stream = Stream::connect(address, self.target.tls.as_ref())?;
        stream.register(poll.registry(), token)?;
        self.connections.push(Connection {
            stream,
            registry: poll.registry().try_clone()?,
            token,
            busy: false,
            carry: Vec::new(),
        });
        Ok(())
    }

    /// Returns whether a request waits for its answer.
    pub(crate) fn is_busy(&self, index: usize) -> bool {
        self.connections[index].busy
    }

    /// Sends a whole request.
    pub(crate) fn send(&mut self, index: usize, request: &[u8]) -> Result<()> {
        let connection = &mut self.connections[index];
        debug_assert!(!connection.busy, "one request in flight at most");
        connection.busy = true;
        // The previous request was answered, so the socket's buffer is empty and this never blocks.
        connection
            .stream
            .send(request)
            .with_context(|| format!("cannot send on publisher {index}"))
    }

    /// Reads answers. An answer that isn't a success is an error.
    pub(crate) fn ready(&mut self, index: usize, watch: &mut impl Watch) -> Result<()> {
        let connection = &mut self.connections[index];
        loop {
            let kept = connection.carry.len();
            self.buffer[..kept].copy_from_slice(&connection.carry);
            let end = match connection.stream.read(&mut self.buffer[kept..]) {
                Ok(0) => bail!("the server closed publisher {index}"),
                Ok(read) => kept + read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context(format!("publisher {index}")),
            };
            let mut closes = false;
            let used = answers(&self.buffer[..end], |answer| {
                connection.busy = false;
                closes = says_close(answer);
                if !closes {
                    watch.answered(index);
                }
            })?;
            if closes {
                // Some servers do this after every answer. The next request goes over another connection.
                let address = self.target.address(index);
                connection.stream = Stream::connect(address, self.target.tls.as_ref())?;
                connection.carry.clear();
                connection
                    .stream
                    .register(&connection.registry, connection.token)?;
                watch.answered(index);
                return Ok(());
            }
            connection.carry.clear();
            connection.carry.extend_from_slice(&self.buffer[used..end]);
            if end < self.buffer.len() && connection.stream.is_emptied_by_a_short_read() {
                return Ok(());
            }
        }
    }
}

/// Returns whether the server closes the connection after this answer.
fn says_close(answer: &[u8]) -> bool {
    http::header(answer, "connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"))
}

/// Handles all whole answers, and returns where the last one ends.
fn answers(bytes: &[u8], mut answered: impl FnMut(&[u8])) -> Result<usize> {
    let mut used = 0;
    while let Some(message) = http::message(&bytes[used..]) {
        let answer = &bytes[used..used + message.len];
        ensure!(
            matches!(http::status(answer), Some(200..=299)),
            "a publish was refused: {}",
            String::from_utf8_lossy(answer)
        );
        answered(answer);
        used += message.len;
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_answers_are_counted_and_the_rest_is_left() {
        let one = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".as_slice();
        let mut count = 0;
        let bytes = [one, one, &one[..20]].concat();
        let used = answers(&bytes, |_| count += 1).expect("only successes");
        assert_eq!((count, used), (2, 2 * one.len()));
    }

    #[test]
    fn an_answer_may_say_that_the_connection_closes() {
        assert!(says_close(b"HTTP/1.1 200 OK\r\nConnection: Close\r\n\r\n"));
        assert!(!says_close(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    }

    #[test]
    fn a_refusal_is_an_error_that_says_why() {
        let refusal = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\nwhy!";
        let error = answers(refusal, |_| {}).expect_err("a refusal");
        assert!(error.to_string().contains("why!"), "{error}");
    }
}
