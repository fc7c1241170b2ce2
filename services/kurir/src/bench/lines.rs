//! A socket's lines, and the few members that a benchmark reads of them without parsing the rest: the generator shares
//! the processors with the server that it measures.

use std::io;

use memchr::{memchr, memmem};
use tokio::{io::AsyncReadExt, net::TcpStream};

use super::check::MARK;

const READ_BYTES: usize = 64 * 1024;

/// What has come on one socket.
#[derive(Debug, Default)]
pub(super) struct Lines {
    input: Vec<u8>,
    taken: usize,
}

impl Lines {
    /// Reads once. False: the peer has closed. Cancel-safe.
    pub(super) async fn read(&mut self, stream: &mut TcpStream) -> io::Result<bool> {
        self.input.drain(..std::mem::take(&mut self.taken));
        self.input.reserve(READ_BYTES);
        Ok(stream.read_buf(&mut self.input).await? != 0)
    }

    /// The next line that is whole, without its LF.
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        let rest = self.input.get(self.taken..)?;
        let line = rest.get(..memchr(b'\n', rest)?)?;
        self.taken += line.len() + 1;
        Some(line)
    }
}

/// Whether the line has this member, written without spaces.
pub(super) fn has(line: &[u8], member: &str) -> bool {
    memmem::find(line, member.as_bytes()).is_some()
}

/// The line's `seq`: a place in the log.
pub(super) fn seq(line: &[u8]) -> Option<u64> {
    const KEY: &[u8] = b"\"seq\":";
    let value = line.get(memmem::find(line, KEY)? + KEY.len()..)?;
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
    str::from_utf8(value.get(..digits)?).ok()?.parse().ok()
}

/// Whose message it is: what stands before the number in a string, `s1` in `"s1#7"`.
pub(super) fn label(line: &[u8]) -> Option<&[u8]> {
    let before = line.get(..memchr(MARK, line)?)?;
    before.get(memchr::memrchr(b'"', before)? + 1..)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELIVERED: &[u8] =
        br#"{"seq":8,"ts":17,"stanza_id":"0194","stanza":"message","from":"a1","to":"b","id":"s1#7","body":"x"}"#;

    #[test]
    fn members_are_read_of_a_delivered_message() {
        assert_eq!(seq(DELIVERED), Some(8));
        assert_eq!(label(DELIVERED), Some(&b"s1"[..]));
        assert!(has(DELIVERED, r#""id":"s1#7""#));
        assert!(!has(DELIVERED, r#""type":"ack""#));
    }

    #[test]
    fn a_line_without_them_has_none() {
        for line in [&b"{\"error\":true}"[..], b"{\"seq\":null}", b"", b"#"] {
            assert_eq!((seq(line), label(line)), (None, None));
        }
    }

    #[test]
    fn lines_come_out_whole_whatever_the_reads_were() {
        let mut lines = Lines { input: b"one\ntwo\nth".to_vec(), taken: 0 };
        assert_eq!(lines.next(), Some(&b"one"[..]));
        assert_eq!(lines.next(), Some(&b"two"[..]));
        assert_eq!(lines.next(), None);
        lines.input.extend_from_slice(b"ree\n");
        assert_eq!(lines.next(), Some(&b"three"[..]));
        assert_eq!(lines.next(), None);
    }
}
