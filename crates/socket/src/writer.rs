//! From canonical stanzas to the bytes of the client's framing.

use kurir_protocol::framing::{DELIMITER, Framing, encode};

/// At most about this much is encoded ahead of the socket: a client that reads slowly costs its outbox, not the
/// same again in escapes.
const CHUNK_BYTES: usize = 64 * 1024;

/// Stanzas taken from the outbox and not yet accepted by the socket.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    /// Canonical lines, encoded up to `taken_done`. In lines framing they are written as they are.
    pub(crate) taken: Vec<u8>,
    taken_done: usize,
    encoded: Vec<u8>,
    encoded_done: usize,
    /// PROTOCOL section 1: the tracker's first array carries no delimiter; it is written before the next value.
    first_without_delimiter: bool,
    owes_delimiter: bool,
}

impl Writer {
    pub(crate) fn new(first_without_delimiter: bool) -> Writer {
        Writer { first_without_delimiter, ..Writer::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.taken.is_empty() && self.encoded.is_empty()
    }

    /// The bytes to write next; empty when there are none.
    pub(crate) fn chunk(&mut self, framing: Framing) -> &[u8] {
        if framing == Framing::Lines {
            return self.taken.get(self.taken_done..).unwrap_or_default();
        }
        if self.encoded.is_empty() {
            self.encode_some();
        }
        self.encoded.get(self.encoded_done..).unwrap_or_default()
    }

    /// The socket has accepted `count` bytes of [`Writer::chunk`].
    pub(crate) fn advance(&mut self, framing: Framing, count: usize) {
        if framing == Framing::Lines {
            self.taken_done += count;
        } else {
            self.encoded_done += count;
            if self.encoded_done >= self.encoded.len() {
                self.encoded.clear();
                self.encoded_done = 0;
            }
        }
        if self.taken_done >= self.taken.len() {
            self.taken.clear();
            self.taken_done = 0;
        }
    }

    /// Gives the buffers back: the connection is idle.
    pub(crate) fn release(&mut self) {
        self.taken = Vec::new();
        self.encoded = Vec::new();
    }

    fn encode_some(&mut self) {
        let rest = self.taken.get(self.taken_done..).unwrap_or_default();
        if rest.is_empty() {
            return;
        }
        let end = if self.first_without_delimiter { first_line(rest) } else { whole_lines(rest) };
        // An answer to a ping or to something malformed may come before it, delimited as always.
        let bare = self.first_without_delimiter && rest.starts_with(b"[");
        let lines = rest.get(..end).unwrap_or_default();
        if self.owes_delimiter {
            self.encoded.extend_from_slice(DELIMITER);
            self.owes_delimiter = false;
        }
        encode(Framing::Original, lines, &mut self.encoded);
        if bare {
            self.encoded.truncate(self.encoded.len() - DELIMITER.len());
            self.first_without_delimiter = false;
            self.owes_delimiter = true;
        }
        self.taken_done += end;
    }
}

/// Where the first line ends, its LF included.
fn first_line(lines: &[u8]) -> usize {
    memchr::memchr(b'\n', lines).map_or(lines.len(), |at| at + 1)
}

/// Where the last line that fits into a chunk ends; at least one line.
fn whole_lines(lines: &[u8]) -> usize {
    let Some(head) = lines.get(..CHUNK_BYTES) else { return lines.len() };
    match memchr::memrchr(b'\n', head) {
        Some(at) => at + 1,
        None => first_line(lines),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(writer: &mut Writer, framing: Framing) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let chunk = writer.chunk(framing);
            if chunk.is_empty() {
                return all;
            }
            let count = chunk.len().min(3);
            all.extend_from_slice(&chunk[..count]);
            writer.advance(framing, count);
        }
    }

    #[test]
    fn lines_pass_through_in_lines_framing() {
        let mut writer = Writer::new(true);
        writer.taken = "{\"a\":\"é\"}\n[]\n".into();
        assert_eq!(written(&mut writer, Framing::Lines), "{\"a\":\"é\"}\n[]\n".as_bytes());
        assert!(writer.is_empty());
    }

    #[test]
    fn the_originals_framing_has_the_delimiter_after_each_value() {
        let mut writer = Writer::new(false);
        writer.taken = b"{}\n[]\n".to_vec();
        assert_eq!(written(&mut writer, Framing::Original), [b"{}", DELIMITER, b"[]", DELIMITER].concat());
        assert!(writer.is_empty());
    }

    #[test]
    fn t4_the_trackers_first_reply_has_its_delimiter_only_before_the_next_value() {
        let mut writer = Writer::new(true);
        writer.taken = b"{}\n[]\n".to_vec();
        assert_eq!(written(&mut writer, Framing::Original), [b"{}", DELIMITER, b"[]"].concat());
        writer.taken = b"[1]\n[2]\n".to_vec();
        assert_eq!(
            written(&mut writer, Framing::Original),
            [DELIMITER, b"[1]", DELIMITER, b"[2]", DELIMITER].concat()
        );
    }

    #[test]
    fn much_is_encoded_in_pieces_that_end_with_a_value() {
        let mut writer = Writer::new(false);
        let line = format!("\"{}\"\n", "x".repeat(1000));
        writer.taken = line.repeat(200).into_bytes();
        assert!(writer.chunk(Framing::Original).len() <= CHUNK_BYTES + 200 * DELIMITER.len());
        let expected = format!("\"{}\"", "x".repeat(1000)).repeat(200).len() + 200 * DELIMITER.len();
        assert_eq!(written(&mut writer, Framing::Original).len(), expected);
    }
}
