//! Canonical lines into a client's framing.

use super::Framing;

/// Appends canonical lines (each ending with LF) to `out` as `framing` has them.
///
/// [`Framing::Original`]: the delimiter for each LF, and `\uXXXX` (surrogate pairs beyond the BMP) for everything above
/// U+007F, so that no string can carry the delimiter. [`Framing::Lines`]: as they are.
pub fn encode(_framing: Framing, _lines: &[u8], _out: &mut Vec<u8>) {
    todo!()
}
