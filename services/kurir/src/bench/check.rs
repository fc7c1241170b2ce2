//! Loss, duplication and order of one pair's messages, told by the numbers they carry.

use std::ops::AddAssign;

/// Starts the number in a payload; no name and no key of a stanza holds it.
const MARK: u8 = b'#';

/// What a receiver saw of one sender's messages numbered 0, 1, 2, …
#[derive(Debug, Default)]
pub(super) struct Check {
    next: u64,
    pub(super) received: u64,
    missing: u64,
    late: u64,
}

/// The findings of any number of pairs.
#[derive(Debug, Default, Clone, Copy, serde::Serialize)]
pub(super) struct Findings {
    /// Sent and never received.
    pub(super) lost: u64,
    /// Received more often than sent.
    pub(super) duplicated: u64,
    /// Received after a message that was sent later.
    pub(super) reordered: u64,
}

impl Check {
    /// Notes one received line and returns its number.
    pub(super) fn note(&mut self, line: &[u8]) -> Option<u64> {
        let number = number(line)?;
        self.received += 1;
        if number >= self.next {
            self.missing += number - self.next;
            self.next = number + 1;
        } else {
            self.late += 1;
        }
        Some(number)
    }

    /// After the last message: what became of `sent` messages.
    pub(super) fn findings(&self, sent: u64) -> Findings {
        let skipped = self.missing + sent.saturating_sub(self.next);
        // A message that came late fills a gap; one that fills none came twice.
        let reordered = self.late.min(self.missing);
        Findings { lost: skipped - reordered, duplicated: self.late - reordered, reordered }
    }
}

impl AddAssign for Findings {
    fn add_assign(&mut self, other: Findings) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
    }
}

/// A payload of `bytes` bytes that carries `number`; safe inside a JSON string.
pub(super) fn payload(number: u64, bytes: usize) -> String {
    let mut text = format!("#{number} ");
    while text.len() < bytes {
        text.push('x');
    }
    text
}

fn number(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == MARK).nth(1)?;
    let mut number = None;
    for byte in digits.iter().take_while(|byte| byte.is_ascii_digit()) {
        number = Some(number.unwrap_or(0) * 10 + u64::from(byte - b'0'));
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(numbers: &[u64], sent: u64) -> (u64, u64, u64) {
        let mut check = Check::default();
        for number in numbers {
            assert_eq!(check.note(payload(*number, 20).as_bytes()), Some(*number));
        }
        let found = check.findings(sent);
        (found.lost, found.duplicated, found.reordered)
    }

    #[test]
    fn loss_duplication_and_order_are_told_apart() {
        assert_eq!(findings(&[0, 1, 2], 3), (0, 0, 0));
        assert_eq!(findings(&[0, 2], 3), (1, 0, 0));
        assert_eq!(findings(&[0, 1], 3), (1, 0, 0));
        assert_eq!(findings(&[0, 1, 1, 2], 3), (0, 1, 0));
        assert_eq!(findings(&[0, 2, 1], 3), (0, 0, 1));
        assert_eq!(findings(&[], 2), (2, 0, 0));
    }

    #[test]
    fn a_line_without_a_number_is_no_message() {
        assert_eq!(number(b"{\"error\":true}"), None);
        assert_eq!(number(b"#x"), None);
    }
}
