//! A sender's tracked messages: what is under way and what the server says of it (PROTOCOL Part II, `id`), as a client
//! has to go about it ([docs/clients.md](../../../../docs/clients.md)). Plain data; whoever drives it has the socket.

use std::{collections::BTreeSet, time::Instant};

use anyhow::bail;

use super::{
    check::{self, Check, Findings},
    lines::has,
};

/// One sender's messages, numbered 0, 1, 2, …
#[derive(Debug)]
pub(super) struct Sending {
    /// The receiver's name.
    to: String,
    /// Tells this sender's ids from others' in one log.
    label: String,
    /// Bytes of one message, LF included; its members may make it longer.
    bytes: usize,
    /// When each number counts as sent.
    since: Vec<Instant>,
    under_way: BTreeSet<u64>,
    /// Refused for now: the server takes nothing later before them.
    refused: BTreeSet<u64>,
    refusals: u64,
    acknowledged: Check,
}

impl Sending {
    pub(super) fn new(to: &str, label: &str, bytes: usize) -> Self {
        Self {
            to: to.to_owned(),
            label: label.to_owned(),
            bytes,
            since: Vec::new(),
            under_way: BTreeSet::new(),
            refused: BTreeSet::new(),
            refusals: 0,
            acknowledged: Check::default(),
        }
    }

    /// How many messages were sent, each counted once.
    pub(super) fn sent(&self) -> u64 {
        self.since.len() as u64
    }

    /// When that message was sent for the first time.
    pub(super) fn since(&self, number: u64) -> Option<Instant> {
        self.since.get(usize::try_from(number).ok()?).copied()
    }

    /// How many of them wait for their acknowledgement.
    pub(super) fn unsettled(&self) -> u64 {
        (self.under_way.len() + self.refused.len()) as u64
    }

    /// Appends the next message, due at `now`. False: something refused has to go first.
    pub(super) fn send(&mut self, out: &mut Vec<u8>, now: Instant) -> bool {
        if !self.refused.is_empty() {
            return false;
        }
        let number = self.sent();
        self.since.push(now);
        self.under_way.insert(number);
        self.write(out, number);
        true
    }

    /// Notes an answer: the number it acknowledges, if it does. An error: the server will never store the message.
    pub(super) fn note(&mut self, line: &[u8]) -> anyhow::Result<Option<u64>> {
        if has(line, r#""type":"ack""#) {
            let number = self.acknowledged.note(line);
            if let Some(number) = number {
                self.under_way.remove(&number);
                self.refused.remove(&number);
            }
            return Ok(number);
        }
        let refused = has(line, r#""error":{"type":"wait""#);
        let Some(number) = check::number(line).filter(|_| refused) else {
            bail!("a sender was told {}", String::from_utf8_lossy(line));
        };
        self.refusals += 1;
        if self.under_way.remove(&number) {
            self.refused.insert(number);
        }
        Ok(None)
    }

    /// What was refused has to be sent again, a moment from now: everything else has its answer.
    pub(super) fn is_held(&self) -> bool {
        self.under_way.is_empty() && !self.refused.is_empty()
    }

    /// Appends what was refused, in order.
    pub(super) fn send_again(&mut self, out: &mut Vec<u8>) {
        for number in std::mem::take(&mut self.refused) {
            self.under_way.insert(number);
            self.write(out, number);
        }
    }

    /// How often the server has asked to wait.
    pub(super) fn refusals(&self) -> u64 {
        self.refusals
    }

    /// What became of the messages, from the sender's side: lost is what was never acknowledged. An acknowledgement that
    /// comes twice is none too many (docs/clients.md).
    pub(super) fn findings(&self) -> Findings {
        Findings { duplicated: 0, ..self.acknowledged.findings(self.sent()) }
    }

    fn write(&self, out: &mut Vec<u8>, number: u64) {
        let Self { to, label, .. } = self;
        let head = format!(r#"{{"stanza":"message","to":"{to}","id":"{label}#{number}","body":""#);
        out.extend_from_slice(head.as_bytes());
        let body = self.bytes.saturating_sub(head.len() + TAIL.len()).max(1);
        out.resize(out.len() + body, b'x');
        out.extend_from_slice(TAIL);
    }
}

const TAIL: &[u8] = b"\"}\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(number: u64) -> Vec<u8> {
        format!(r#"{{"stanza":"message","type":"ack","id":"s#{number}","level":"stored","seq":9}}"#).into()
    }

    fn wait(number: u64) -> Vec<u8> {
        let error = r#"{"type":"wait","condition":"resource-constraint"}"#;
        format!(r#"{{"stanza":"message","type":"error","id":"s#{number}","error":{error}}}"#).into()
    }

    fn sending(count: usize) -> Sending {
        let mut sending = Sending::new("b", "s", 80);
        for _ in 0..count {
            assert!(sending.send(&mut Vec::new(), Instant::now()));
        }
        sending
    }

    #[test]
    fn a_message_is_as_long_as_asked_for_and_carries_its_number() {
        let mut out = Vec::new();
        Sending::new("b", "s", 80).send(&mut out, Instant::now());
        assert_eq!(out.len(), 80);
        let message: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&message["id"], &message["to"]), (&"s#0".into(), &"b".into()));
    }

    #[test]
    fn what_is_refused_is_sent_again_first_and_in_order() {
        let mut sending = sending(3);
        assert_eq!(sending.note(&ack(0)).unwrap(), Some(0));
        assert_eq!(sending.note(&wait(2)).unwrap(), None);
        assert!(!sending.is_held(), "1 has no answer yet");
        assert!(!sending.send(&mut Vec::new(), Instant::now()), "2 goes first");
        assert_eq!(sending.note(&wait(1)).unwrap(), None);
        assert!(sending.is_held());
        let mut out = Vec::new();
        sending.send_again(&mut out);
        let ids: Vec<_> = out.split(|byte| *byte == b'\n').filter_map(check::number).collect();
        assert_eq!((ids, sending.unsettled(), sending.refusals()), (vec![1, 2], 2, 2));
        assert!(!sending.is_held());
        assert_eq!(sending.findings().lost, 2);
        for number in [1, 2] {
            assert_eq!(sending.note(&ack(number)).unwrap(), Some(number));
        }
        assert_eq!((sending.findings(), sending.unsettled()), (Findings::default(), 0));
    }

    #[test]
    fn acknowledgements_that_are_missing_or_out_of_order_are_found_and_may_come_twice() {
        let mut sending = sending(3);
        for (number, first) in [(1, Some(1)), (0, Some(0)), (1, None)] {
            assert_eq!(sending.note(&ack(number)).unwrap(), first);
        }
        assert_eq!(sending.findings(), Findings { lost: 1, duplicated: 0, reordered: 1 });
    }

    #[test]
    fn a_refusal_for_good_ends_the_benchmark() {
        let conflict = br#"{"stanza":"message","type":"error","id":"s#0","error":{"type":"cancel","condition":"conflict"}}"#;
        let nobody = br#"{"stanza":"message","from":"relay","error":true,"id":"s#0"}"#;
        for line in [&conflict[..], nobody] {
            assert!(sending(1).note(line).is_err());
        }
    }
}
