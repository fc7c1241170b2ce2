//! Values off a stream.

use super::{Framing, Limits};

/// Splits values off a byte stream and validates them, in one pass.
///
/// It holds no bytes: its user keeps what is not consumed, appends what arrives, and asks again. A value in pieces is
/// never scanned twice. What it finds does not depend on how the bytes were cut.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    framing: Option<Framing>,
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

impl Decoder {
    /// Reads what clients send: objects.
    pub fn new(limits: Limits) -> Self {
        Self { limits, framing: None }
    }

    /// Reads what servers send: objects, and in two places arrays.
    pub fn for_client_library(limits: Limits) -> Self {
        Self { limits, framing: None }
    }

    /// The next step. `input`: every byte received and not yet consumed.
    pub fn decode(&mut self, _input: &[u8]) -> Decoded {
        todo!()
    }

    /// Counts a valid value as malformed after all ([`Malformed`](crate::Malformed): a known key twice), as if it had
    /// never been good. True: close.
    pub fn reject(&mut self) -> bool {
        todo!()
    }

    /// How to write to this client, once the first byte after its first value that is not space, tab or CR has said so.
    /// Known at once where that byte is in the same `input` as the value.
    pub fn framing(&self) -> Option<Framing> {
        self.framing
    }

    /// Nobody sent that byte in time: the original's, from now on. Does nothing if the framing is decided.
    pub fn assume_original(&mut self) {
        self.framing.get_or_insert(Framing::Original);
    }
}
