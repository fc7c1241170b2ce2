//! Splitting JSON values off a byte stream, and writing them back (PROTOCOL §0).
//!
//! [`Decoder`] reads both framings at once, since both are only white space between values. [`encode()`] writes the one
//! that the client turned out to speak.

mod decoder;
mod encode;
mod scanner;

pub use decoder::{Decoded, Decoder};
pub use encode::encode;

/// What the original writes after every value: U+0080 U+0081 U+0082 as UTF-8.
pub const DELIMITER: &[u8] = b"\xC2\x80\xC2\x81\xC2\x82";

/// How a client wants to be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// ASCII only, and [`DELIMITER`] after every value.
    Original,
    /// UTF-8, and LF after every value.
    Lines,
}

/// What a value may weigh. See the table of PROTOCOL §0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one value, without delimiter.
    pub max_value_bytes: usize,
    /// Objects and arrays inside each other; the value itself counts as 1. At most 64 have effect.
    pub max_depth: u8,
    /// Malformed values in a row after which a connection is closed; 0 never closes.
    pub max_malformed: u32,
}

impl Limits {
    /// For reading what servers send: a roster has no bound but the account's own.
    pub const FROM_SERVERS: Self =
        Self { max_value_bytes: 16 * 1024 * 1024, max_depth: 64, max_malformed: 3 };
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_value_bytes: 65_536, max_depth: 32, max_malformed: 3 }
    }
}
