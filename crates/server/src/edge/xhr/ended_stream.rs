//! The answer to a streaming request that must not hang.

use std::io::Write;
use std::sync::LazyLock;

use axum::body::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::pipe::MAX_STREAM_LENGTH;

/// Returns the compressed answer to a streaming request that must not hang: the lines, and then enough padding that
/// pusher-js asks for the next stream. pusher-js asks again because of a stream's length, not because of its end.
///
/// The padding is one line that begins with a space, which clients ignore. Compressed it takes about 300 bytes.
pub(super) fn ended_stream(lines: &[u8]) -> Bytes {
    static PADDING: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut line = vec![b' '; MAX_STREAM_LENGTH + 1];
        line.push(b'\n');
        line
    });
    let mut compressed = GzEncoder::new(Vec::new(), Compression::default());
    for part in [lines, &PADDING] {
        compressed
            .write_all(part)
            .expect("writing into memory does not fail");
    }
    let compressed = compressed.finish();
    compressed
        .expect("writing into memory does not fail")
        .into()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn an_ended_stream_is_small_and_longer_than_a_client_reads_of_one() {
        let compressed = ended_stream(b"o\na[\"x\"]\n");
        assert!(compressed.len() < 2048, "{}", compressed.len());
        let mut text = String::new();
        flate2::read::GzDecoder::new(&compressed[..])
            .read_to_string(&mut text)
            .expect("gzip");
        let mut lines = text.lines();
        assert_eq!((lines.next(), lines.next()), (Some("o"), Some("a[\"x\"]")));
        assert!(lines.next().expect("padding").starts_with(' '));
        assert!(text.len() > MAX_STREAM_LENGTH && text.ends_with('\n'));
    }
}
