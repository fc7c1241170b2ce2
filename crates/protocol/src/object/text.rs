//! What a raw value means.

use std::borrow::Cow;

/// The text of a raw value that is a string; `None` for any other value.
///
/// Borrowed unless there is an escape. JSON allows half a surrogate pair as an escape, which is no character: it
/// becomes U+FFFD.
pub fn text(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    Some(match inner.find('\\') {
        None => Cow::Borrowed(inner),
        Some(_) => Cow::Owned(unescape(inner)),
    })
}

/// Whether a raw value is `null`.
pub fn is_null(raw: &str) -> bool {
    raw == "null"
}

/// Whether a raw value counts as true where the original asks: everything but `null`, `false`, zero, and what is empty.
pub fn truthy(raw: &str) -> bool {
    match raw.as_bytes() {
        b"null" | b"false" | b"\"\"" => false,
        [b'[', inner @ .., b']'] | [b'{', inner @ .., b'}'] => !inner.trim_ascii().is_empty(),
        [b'-' | b'0'..=b'9', ..] => raw.parse::<f64>().is_ok_and(|number| number != 0.0),
        _ => true,
    }
}

fn unescape(inner: &str) -> String {
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        rest = unescape_one(escape, &mut text);
    }
    text.push_str(rest);
    text
}

/// `escape` begins after the backslash. Returns what follows it.
fn unescape_one<'a>(escape: &'a str, text: &mut String) -> &'a str {
    let mut characters = escape.chars();
    let Some(character) = characters.next() else { return "" };
    let after = characters.as_str();
    match character {
        'b' => text.push('\u{8}'),
        'f' => text.push('\u{C}'),
        'n' => text.push('\n'),
        'r' => text.push('\r'),
        't' => text.push('\t'),
        'u' => {
            let Some((first, after)) = unit(after) else {
                text.push(char::REPLACEMENT_CHARACTER);
                return after;
            };
            let second = after.strip_prefix("\\u").and_then(unit);
            if let Some((second, after)) = second
                && let Some(Ok(pair)) = char::decode_utf16([first, second]).next()
                && pair.len_utf16() == 2
            {
                text.push(pair);
                return after;
            }
            text.push(char::from_u32(first.into()).unwrap_or(char::REPLACEMENT_CHARACTER));
            return after;
        }
        other => text.push(other),
    }
    after
}

fn unit(digits: &str) -> Option<(u16, &str)> {
    let (digits, after) = digits.split_at_checked(4)?;
    Some((u16::from_str_radix(digits, 16).ok()?, after))
}
