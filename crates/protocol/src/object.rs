//! Reading a valid object's members without a tree, borrowed.
//!
//! What comes in here has passed the [`Decoder`](crate::framing::Decoder), so the readers look only for where things
//! end. On text that is not valid JSON they find something or nothing, but never panic.

mod fields;
mod key;
mod members;
mod text;

pub use fields::Fields;
pub use key::{KNOWN_KEYS, Key, Seen};
pub use members::{Elements, Member, Members};
pub use text::{is_null, text, truthy};

/// A value that is valid JSON and yet malformed: a known key twice (PROTOCOL §0), or no object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a known key occurs twice, or the value is no object")]
pub struct Malformed;
