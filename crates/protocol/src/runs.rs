//! Runs of bytes in a string that need no second look, eight at a time.
//!
//! The tests on a word may mark bytes above a marked one wrongly (the borrow runs upwards), so only the lowest mark counts.

const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);

/// How many bytes from the beginning are neither quote, backslash, control character nor beyond ASCII.
#[inline]
pub(crate) fn plain(bytes: &[u8]) -> usize {
    run(
        bytes,
        |word| equal(word, b'"') | equal(word, b'\\') | below_space(word) | (word & HIGHS),
        |byte| byte == b'"' || byte == b'\\' || !(0x20..0x80).contains(&byte),
    )
}

/// How many bytes from the beginning are neither quote nor backslash.
#[inline]
pub(crate) fn unquoted(bytes: &[u8]) -> usize {
    run(bytes, |word| equal(word, b'"') | equal(word, b'\\'), |byte| byte == b'"' || byte == b'\\')
}

#[inline]
fn run(bytes: &[u8], marks: impl Fn(u64) -> u64, special: impl Fn(u8) -> bool) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let marked = marks(u64::from_le_bytes(*word));
        if marked != 0 {
            return index * 8 + (marked.trailing_zeros() / 8) as usize;
        }
    }
    let rest_length = rest.iter().position(|&byte| special(byte)).unwrap_or(rest.len());
    words.len() * 8 + rest_length
}

#[inline]
fn equal(word: u64, byte: u8) -> u64 {
    let difference = word ^ u64::from_ne_bytes([byte; 8]);
    difference.wrapping_sub(ONES) & !difference & HIGHS
}

#[inline]
fn below_space(word: u64) -> u64 {
    word.wrapping_sub(u64::from_ne_bytes([0x20; 8])) & !word & HIGHS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_end_where_a_plain_search_says(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'a')], 0..40)) {
            let expected = bytes.iter().position(|&byte| matches!(byte, b'"' | b'\\' | 0..0x20 | 0x80..)).unwrap_or(bytes.len());
            prop_assert_eq!(plain(&bytes), expected);
            let expected = bytes.iter().position(|&byte| matches!(byte, b'"' | b'\\')).unwrap_or(bytes.len());
            prop_assert_eq!(unquoted(&bytes), expected);
        }
    }
}
