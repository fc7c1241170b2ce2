//! Values off a stream.

use memchr::memchr2;

use super::{
    DELIMITER, Framing, Limits,
    scanner::{Scan, Scanner},
};

/// Splits values off a byte stream and validates them, in one pass.
///
/// It holds no bytes: its user keeps what is not consumed, appends what arrives, and asks again. A value in pieces is
/// never scanned twice. What it finds does not depend on how the bytes were cut.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    arrays: bool,
    place: Place,
    scanner: Scanner,
    framing: Option<Framing>,
    /// The first value is over, so the next byte that is not space, tab or CR decides the framing.
    framing_due: bool,
    malformed_in_a_row: u32,
    malformed_before_last_value: u32,
}

/// One step of a [`Decoder`]. Offsets are into the `input` of that call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded {
    /// `input[start..end]` is one valid value, within the limits. Consumed: `end`.
    Value {
        /// First byte of the value.
        start: usize,
        /// One past its last byte.
        end: usize,
    },
    /// Answer [`BAD_REQUEST`](crate::replies::BAD_REQUEST). Skipping to the next delimiter or LF goes on by itself.
    Malformed {
        /// Bytes to drop: everything before the offending byte.
        consumed: usize,
        /// [`Limits::max_malformed`] in a row is reached: close.
        fatal: bool,
    },
    /// Answer [`TOO_LARGE`](crate::replies::TOO_LARGE) and close. Nothing more comes out of this decoder.
    TooLarge,
    /// Drop `consumed` bytes, keep the rest, read more.
    Incomplete {
        /// Separators and skipped bytes.
        consumed: usize,
    },
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Between,
    /// In a value that begins where `input` does.
    Inside {
        scanned: usize,
    },
    /// After an offending byte, looking for a delimiter or LF.
    Skipping,
    /// After a value that was too large.
    Over,
}

impl Decoder {
    /// Reads what clients send: objects.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            arrays: false,
            place: Place::Between,
            scanner: Scanner::new(),
            framing: None,
            framing_due: false,
            malformed_in_a_row: 0,
            malformed_before_last_value: 0,
        }
    }

    /// Reads what servers send: objects, and in two places arrays.
    pub fn for_client_library(limits: Limits) -> Self {
        Self { arrays: true, ..Self::new(limits) }
    }

    /// The next step. `input`: every byte received and not yet consumed.
    pub fn decode(&mut self, input: &[u8]) -> Decoded {
        let mut at = 0;
        if self.framing_due {
            self.decide_framing(input);
        }
        loop {
            match self.place {
                Place::Over => return Decoded::Incomplete { consumed: input.len() },
                Place::Inside { scanned } => return self.inside(input, at, scanned),
                Place::Between => match between(input, at) {
                    Found::Here(start) if self.opens(input, start) => {
                        at = start;
                        self.scanner = Scanner::new();
                        self.place = Place::Inside { scanned: 0 };
                    }
                    Found::Here(offending) => return self.malformed(input, offending),
                    Found::Nothing { keep_from } => return Decoded::Incomplete { consumed: keep_from },
                },
                Place::Skipping => match resynchronise(input, at) {
                    Resynchronised::After(end, framing) => {
                        self.framing.get_or_insert(framing);
                        self.framing_due = false;
                        at = end;
                        self.place = Place::Between;
                    }
                    Resynchronised::NotYet { keep_from } => {
                        return Decoded::Incomplete { consumed: keep_from };
                    }
                },
            }
        }
    }

    /// Counts the value that came last as malformed after all ([`Malformed`](crate::Malformed): a known key twice), as
    /// if it had never been good, and goes on after the next delimiter or LF behind it: one inside it may stand between
    /// tokens that would then be read as values. True: close.
    pub fn reject(&mut self) -> bool {
        self.malformed_in_a_row = self.malformed_before_last_value;
        self.place = Place::Skipping;
        self.count_malformed()
    }

    /// How to write to this client, once the first byte after its first value that is not space, tab or CR has said so.
    /// Known at once where that byte is in the same `input` as the value. After a malformed first value, the delimiter
    /// or LF that ends the skipping says so.
    pub fn framing(&self) -> Option<Framing> {
        self.framing
    }

    /// Nobody sent that byte in time: the original's, from now on. Does nothing if the framing is decided.
    pub fn assume_original(&mut self) {
        self.framing.get_or_insert(Framing::Original);
        self.framing_due = false;
    }

    fn inside(&mut self, input: &[u8], start: usize, scanned: usize) -> Decoded {
        let received = input.get(start..).unwrap_or_default();
        let value = received.get(..self.limits.max_value_bytes).unwrap_or(received);
        match self.scanner.scan(value, scanned, &self.limits) {
            Scan::Complete(length) => {
                self.place = Place::Between;
                self.malformed_before_last_value = self.malformed_in_a_row;
                self.malformed_in_a_row = 0;
                if self.framing.is_none() {
                    self.framing_due = true;
                    self.decide_framing(received.get(length..).unwrap_or_default());
                }
                Decoded::Value { start, end: start + length }
            }
            Scan::Offending(offset) => self.malformed(input, start + offset),
            // A value that has not ended at the limit has at least one byte more.
            Scan::More if value.len() < self.limits.max_value_bytes => {
                self.place = Place::Inside { scanned: value.len() };
                Decoded::Incomplete { consumed: start }
            }
            Scan::More | Scan::TooDeep => {
                self.place = Place::Over;
                Decoded::TooLarge
            }
        }
    }

    fn malformed(&mut self, input: &[u8], offending: usize) -> Decoded {
        self.place = Place::Skipping;
        if self.framing.is_none()
            && let Resynchronised::After(_, framing) = resynchronise(input, offending)
        {
            self.framing = Some(framing);
        }
        Decoded::Malformed { consumed: offending, fatal: self.count_malformed() }
    }

    fn count_malformed(&mut self) -> bool {
        self.malformed_in_a_row = self.malformed_in_a_row.saturating_add(1);
        self.limits.max_malformed > 0 && self.malformed_in_a_row >= self.limits.max_malformed
    }

    fn decide_framing(&mut self, after: &[u8]) {
        let Some(byte) = after.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r')) else { return };
        self.framing = Some(if *byte == b'\n' { Framing::Lines } else { Framing::Original });
        self.framing_due = false;
    }

    fn opens(&self, input: &[u8], at: usize) -> bool {
        match input.get(at) {
            Some(b'{') => true,
            Some(b'[') => self.arrays,
            _ => false,
        }
    }
}

enum Found {
    /// A byte that is no separator.
    Here(usize),
    /// Only separators; from here on perhaps the beginning of a delimiter.
    Nothing { keep_from: usize },
}

fn between(input: &[u8], from: usize) -> Found {
    let mut at = from;
    while let Some(byte) = input.get(at) {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => at += 1,
            0xC2 => match delimiter(input.get(at..).unwrap_or_default()) {
                Delimiter::Whole => at += DELIMITER.len(),
                Delimiter::Beginning => break,
                // Its first byte offends, not the one that differs: a whole delimiter may begin between the two.
                Delimiter::Other => return Found::Here(at),
            },
            _ => return Found::Here(at),
        }
    }
    Found::Nothing { keep_from: at }
}

enum Resynchronised {
    /// One past the delimiter or LF, and which it was.
    After(usize, Framing),
    NotYet {
        keep_from: usize,
    },
}

fn resynchronise(input: &[u8], from: usize) -> Resynchronised {
    let mut at = from;
    loop {
        let rest = input.get(at..).unwrap_or_default();
        let Some(offset) = memchr2(b'\n', 0xC2, rest) else {
            return Resynchronised::NotYet { keep_from: input.len() };
        };
        at += offset;
        if input.get(at) == Some(&b'\n') {
            return Resynchronised::After(at + 1, Framing::Lines);
        }
        match delimiter(input.get(at..).unwrap_or_default()) {
            Delimiter::Whole => return Resynchronised::After(at + DELIMITER.len(), Framing::Original),
            Delimiter::Beginning => return Resynchronised::NotYet { keep_from: at },
            Delimiter::Other => at += 1,
        }
    }
}

enum Delimiter {
    Whole,
    /// As far as it goes.
    Beginning,
    Other,
}

fn delimiter(bytes: &[u8]) -> Delimiter {
    if bytes.starts_with(DELIMITER) {
        Delimiter::Whole
    } else if DELIMITER.starts_with(bytes) {
        Delimiter::Beginning
    } else {
        Delimiter::Other
    }
}
