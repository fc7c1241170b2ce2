//! Reading a valid object's members without a tree, borrowed.

/// A value that is valid JSON and yet malformed: a known key twice (PROTOCOL §0), or no object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a known key occurs twice, or the value is no object")]
pub struct Malformed;
