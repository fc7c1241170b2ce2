//! Loss, duplication and order of one pair's messages, told by the numbers they carry.

use std::{collections::BTreeSet, ops::AddAssign};

/// Starts the number in a payload; no name and no key of a stanza holds it.
pub(super) const MARK: u8 = b'#';

/// What a receiver saw of one sender's messages numbered 0, 1, 2, …
#[derive(Debug, Default)]
pub(super) struct Check {
    next: u64,
    /// Below `next` and not received.
    missing: BTreeSet<u64>,
    duplicated: u64,
    reordered: u64,
}

/// The findings of any number of pairs.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Findings {
    /// Sent and never received, or never acknowledged.
    pub(super) lost: u64,
    /// Received more often than sent.
    pub(super) duplicated: u64,
    /// Received after a message that was sent later.
    pub(super) reordered: u64,
}

impl Check {
    /// Notes one received line. Its number, if it is that of a message that had not come yet.
    pub(super) fn note(&mut self, line: &[u8]) -> Option<u64> {
        let number = number(line)?;
        if number >= self.next {
            self.missing.extend(self.next..number);
            self.next = number + 1;
        } else if self.missing.remove(&number) {
            self.reordered += 1;
        } else {
            self.duplicated += 1;
            return None;
        }
        Some(number)
    }

    /// How many messages have come, each counted once.
    pub(super) fn received(&self) -> u64 {
        self.next - self.missing.len() as u64
    }

    /// After the last message: what became of `sent` messages.
    pub(super) fn findings(&self, sent: u64) -> Findings {
        Findings {
            lost: sent.saturating_sub(self.received()),
            duplicated: self.duplicated,
            reordered: self.reordered,
        }
    }
}

impl Findings {
    /// Of the same messages, as their sender and their receiver saw them: one that neither knows of is lost once.
    pub(super) fn of_both(sender: Findings, receiver: Findings) -> Findings {
        Findings {
            lost: sender.lost.max(receiver.lost),
            duplicated: sender.duplicated + receiver.duplicated,
            reordered: sender.reordered + receiver.reordered,
        }
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

/// The number that a line carries.
pub(super) fn number(line: &[u8]) -> Option<u64> {
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
            check.note(payload(*number, 20).as_bytes());
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
        assert_eq!(findings(&[0, 0, 2], 3), (1, 1, 0));
        assert_eq!(findings(&[2, 1, 1, 4], 5), (2, 1, 1));
    }

    #[test]
    fn a_message_counts_once_however_often_it_comes() {
        let mut check = Check::default();
        assert_eq!(check.note(b"#1 "), Some(1));
        assert_eq!(check.note(b"#1 "), None);
        assert_eq!(check.note(b"#0 "), Some(0));
        assert_eq!(check.note(b"#0 "), None);
        assert_eq!(check.received(), 2);
    }

    #[test]
    fn a_line_without_a_number_is_no_message() {
        assert_eq!(number(b"{\"error\":true}"), None);
        assert_eq!(number(b"#x"), None);
    }
}
