//! Any bytes in any cut give the same values, and never more than the limit is kept.
#![no_main]

use kurir_protocol::framing::{Decoded, Decoder, Limits};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { max_value_bytes: 100, max_depth: 5, max_malformed: 3 };

#[derive(Debug, PartialEq)]
enum Event {
    Value(String),
    Malformed(usize, bool),
    TooLarge,
}

fn events<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Event> {
    let mut decoder = Decoder::new(LIMITS);
    let (mut events, mut buffer, mut dropped) = (Vec::new(), Vec::new(), 0);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            let (consumed, event) = match decoder.decode(&buffer) {
                Decoded::Value { start, end } => {
                    let value = std::str::from_utf8(&buffer[start..end]).expect("values are UTF-8");
                    (end, Some(Event::Value(value.to_owned())))
                }
                Decoded::Malformed { consumed, fatal } => {
                    (consumed, Some(Event::Malformed(dropped + consumed, fatal)))
                }
                Decoded::TooLarge => (buffer.len(), Some(Event::TooLarge)),
                Decoded::Incomplete { consumed } => (consumed, None),
            };
            buffer.drain(..consumed);
            dropped += consumed;
            let Some(event) = event else { break };
            events.push(event);
        }
        assert!(buffer.len() < LIMITS.max_value_bytes);
    }
    events
}

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (size, bytes) = input;
    let pieces = events(bytes.chunks(usize::from(size).max(1)));
    assert_eq!(pieces, events(std::iter::once(bytes.as_slice())));
});
