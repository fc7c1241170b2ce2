//! Canonical lines into a client's framing.

use super::{DELIMITER, Framing};

/// Appends canonical lines (each ending with LF) to `out` as `framing` has them.
///
/// [`Framing::Original`]: the delimiter for each LF, and `\uXXXX` (surrogate pairs beyond the BMP) for everything above
/// U+007F, so that no string can carry the delimiter. [`Framing::Lines`]: as they are.
pub fn encode(framing: Framing, lines: &[u8], out: &mut Vec<u8>) {
    if framing == Framing::Lines {
        out.extend_from_slice(lines);
        return;
    }
    out.reserve(lines.len() + DELIMITER.len());
    for line in lines.split_inclusive(|&byte| byte == b'\n') {
        let (value, ended) = line.strip_suffix(b"\n").map_or((line, false), |value| (value, true));
        if value.is_ascii() {
            out.extend_from_slice(value);
        } else {
            escape(value, out);
        }
        if ended {
            out.extend_from_slice(DELIMITER);
        }
    }
}

/// In valid JSON anything above U+007F is inside a string, where it may be escaped.
fn escape(value: &[u8], out: &mut Vec<u8>) {
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_ascii() {
                out.push(character as u8);
            } else {
                character.encode_utf16(&mut [0; 2]).iter().for_each(|&unit| escape_unit(unit, out));
            }
        }
        if !chunk.invalid().is_empty() {
            escape_unit(0xFFFD, out);
        }
    }
}

fn escape_unit(unit: u16, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        let digit = DIGITS.get(usize::from(unit >> shift & 0xF)).copied();
        out.push(digit.unwrap_or(b'0'));
    }
}
