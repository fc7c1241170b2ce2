//! What is typed, a line at a time, and no more of it in memory than could be sent.

use std::io;

use kurir_protocol::framing::Limits;
use memchr::memchr;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// As it was typed, without its end; what is not UTF-8 in it is U+FFFD.
    Text(String),
    /// It has more bytes than this, and is not kept.
    TooLong(usize),
}

/// The lines of an input. No byte of a message takes less than a byte in its stanza, so a line longer than a stanza may be
/// is told as soon as that is known, and thrown away to its end.
#[derive(Debug)]
pub(super) struct Lines<R> {
    input: R,
    /// What has been read of the next one.
    line: Vec<u8>,
    limit: usize,
    /// The rest of a line that was too long comes first.
    dropping: bool,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, line: Vec::new(), limit: Limits::default().max_value_bytes, dropping: false }
    }

    /// The next line; None: that was the last one. Cancel-safe.
    pub(super) async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let read = self.input.fill_buf().await?;
            if read.is_empty() {
                return Ok((!self.line.is_empty()).then(|| self.take()));
            }
            let end = memchr(b'\n', read);
            let part = end.map_or(read, |end| read.split_at(end).0);
            let used = part.len() + usize::from(end.is_some());
            let dropped = self.dropping;
            let too_long = !dropped && self.line.len() + part.len() > self.limit;
            if !dropped && !too_long {
                self.line.extend_from_slice(part);
            }
            self.input.consume(used);
            self.dropping = (dropped || too_long) && end.is_none();
            if too_long {
                self.line.clear();
                return Ok(Some(Line::TooLong(self.limit)));
            }
            if end.is_some() && !dropped {
                return Ok(Some(self.take()));
            }
        }
    }

    fn take(&mut self) -> Line {
        let line = std::mem::take(&mut self.line);
        Line::Text(String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line)).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::BufReader;

    use super::*;

    fn text(line: &str) -> Line {
        Line::Text(line.into())
    }

    #[tokio::test]
    async fn lines_come_whole_in_pieces_of_any_size() {
        for capacity in 1..=9 {
            let mut lines = Lines::new(BufReader::with_capacity(capacity, &b"\nhalo\r\ncaf\xe9\nlast"[..]));
            for line in ["", "halo", "caf\u{fffd}", "last"] {
                assert_eq!(lines.next().await.unwrap(), Some(text(line)), "capacity {capacity}");
            }
            assert_eq!(lines.next().await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_told_once_and_is_not_kept() {
        let limit = Limits::default().max_value_bytes;
        let long = |bytes: usize| "x".repeat(bytes);
        let input = [long(limit), long(limit + 1), "next".into(), long(10 * limit), "last".into()].join("\n");
        // The limit falls on the end of a piece, and into one.
        for capacity in [1, 1000, 8192, 2 * limit, input.len()] {
            let mut lines = Lines::new(BufReader::with_capacity(capacity, input.as_bytes()));
            let told =
                [text(&long(limit)), Line::TooLong(limit), text("next"), Line::TooLong(limit), text("last")];
            for told in told {
                assert_eq!(lines.next().await.unwrap(), Some(told));
                // A vector at most doubles what it has.
                assert!(lines.line.capacity() <= 2 * limit, "{}", lines.line.capacity());
            }
            assert_eq!(lines.next().await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_told_when_it_is_too_long() {
        let mut endless = Lines::new(BufReader::new(tokio::io::repeat(b'x')));
        assert_eq!(endless.next().await.unwrap(), Some(Line::TooLong(65_536)));
        let input = "x".repeat(65_537);
        let mut cut = Lines::new(input.as_bytes());
        assert_eq!(cut.next().await.unwrap(), Some(Line::TooLong(65_536)));
        assert_eq!(cut.next().await.unwrap(), None);
    }
}
