//! A decoder and the buffer in front of it, as a connection has them.

use kurir_protocol::framing::{Decoded, Decoder, Framing, Limits};

/// What came out, with offsets from the beginning of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Value(String),
    Malformed { at: usize, fatal: bool },
    TooLarge,
}

pub(crate) struct Feed {
    pub(crate) decoder: Decoder,
    pub(crate) events: Vec<Event>,
    buffer: Vec<u8>,
    dropped: usize,
    /// Every so many values is one that its session finds malformed; 0: none.
    rejects: usize,
    values: usize,
}

impl Feed {
    pub(crate) fn new(limits: Limits) -> Self {
        Self::with(Decoder::new(limits))
    }

    pub(crate) fn with(decoder: Decoder) -> Self {
        Self { decoder, events: Vec::new(), buffer: Vec::new(), dropped: 0, rejects: 0, values: 0 }
    }

    pub(crate) fn rejecting_every(self, rejects: usize) -> Self {
        Self { rejects, ..self }
    }

    pub(crate) fn receive(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
        loop {
            let (consumed, event) = match self.decoder.decode(&self.buffer) {
                Decoded::Value { start, end } => {
                    self.values += 1;
                    if self.rejects > 0 && self.values.is_multiple_of(self.rejects) {
                        (end, Event::Malformed { at: self.dropped + end, fatal: self.decoder.reject() })
                    } else {
                        (end, Event::Value(String::from_utf8(self.buffer[start..end].to_vec()).unwrap()))
                    }
                }
                Decoded::Malformed { consumed, fatal } => {
                    (consumed, Event::Malformed { at: self.dropped + consumed, fatal })
                }
                Decoded::TooLarge => (self.buffer.len(), Event::TooLarge),
                Decoded::Incomplete { consumed } => {
                    self.drop(consumed);
                    return;
                }
            };
            self.events.push(event);
            self.drop(consumed);
        }
    }

    /// Bytes that the decoder wants kept.
    pub(crate) fn kept(&self) -> usize {
        self.buffer.len()
    }

    fn drop(&mut self, consumed: usize) {
        self.buffer.drain(..consumed);
        self.dropped += consumed;
    }
}

/// Everything that comes out of these bytes in one piece.
pub(crate) fn events(bytes: impl AsRef<[u8]>) -> Vec<Event> {
    let mut feed = Feed::new(Limits { max_malformed: 0, ..Limits::default() });
    feed.receive(bytes.as_ref());
    feed.events
}

pub(crate) fn framing(bytes: impl AsRef<[u8]>) -> Option<Framing> {
    let mut feed = Feed::new(Limits::default());
    feed.receive(bytes.as_ref());
    feed.decoder.framing()
}

pub(crate) fn value(text: &str) -> Event {
    Event::Value(text.to_owned())
}

pub(crate) fn malformed(at: usize) -> Event {
    Event::Malformed { at, fatal: false }
}
