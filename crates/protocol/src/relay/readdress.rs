//! Who a message says that it is from and to, as its receiver is to read it (PROTOCOL Part II `resource`): plain names to
//! a device without a name of its own, full addresses to the others.
//!
//! A canonical message, as relays pass it on and logs keep it, has the sender's full address in `from` where that device
//! is named, and a plain name otherwise; its `to` is a plain name.

use std::borrow::Cow;

use memchr::memchr2;

use crate::{
    name::{self, Address, Resource, UserKey},
    object::{Key, Members, text},
    write,
};

/// What a canonical message begins with.
const FROM: &str = r#"{"from":""#;

/// Writes a message with another `from` and `to`, the other members as they are, without an LF.
pub fn readdress(stanza: &str, from: &str, to: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"from":"#);
    write::string(out, from);
    out.extend_from_slice(br#","to":"#);
    write::string(out, to);
    for member in Members::of(stanza).into_iter().flatten() {
        if !matches!(Key::of(&member.key), Some(Key::From | Key::To)) {
            out.push(b',');
            out.extend_from_slice(stanza.get(member.span).unwrap_or_default().as_bytes());
        }
    }
    out.push(b'}');
}

/// Whether a canonical message is as a device without a name reads it: its sender has none either.
#[inline]
pub fn is_plain(stanza: &[u8]) -> bool {
    let Some(members) = stanza.strip_prefix(FROM.as_bytes()) else { return true };
    // Neither is in a name, and what is escaped is only in a resource.
    memchr2(b'@', b'"', members).is_none_or(|at| members.get(at) == Some(&b'"'))
}

/// A canonical message for a device without a name: borrowed where [`is_plain`].
fn for_plain(stanza: &str) -> Cow<'_, str> {
    if is_plain(stanza.as_bytes()) {
        return Cow::Borrowed(stanza);
    }
    let from = sender(stanza);
    let mut out = Vec::with_capacity(stanza.len());
    out.extend_from_slice(br#"{"from":"#);
    write::string(&mut out, Address::of(&from).name);
    let mut rest = Members::of(stanza).into_iter().flatten();
    if let Some(first) = rest.next() {
        out.extend_from_slice(stanza.get(first.span.end..).unwrap_or_default().as_bytes());
    }
    Cow::Owned(String::from_utf8(out).unwrap_or_default())
}

/// A canonical message for a named device of `domain`. `to`: its own full address; none for what another device of the
/// account has sent, whose receiver is named by the account's address.
fn for_named(stanza: &str, domain: &str, to: Option<&str>, out: &mut Vec<u8>) {
    let from = sender(stanza);
    let from = match Address::of(&from) {
        Address { domain: Some(_), .. } => from,
        Address { name, .. } => name::full(name, domain, Resource::default_device().as_str()).into(),
    };
    let to = to.map_or_else(|| Cow::Owned(name::bare(&receiver(stanza), domain).into_owned()), Cow::Borrowed);
    readdress(stanza, &from, &to, out);
}

/// A canonical message as a device reads it that reads addresses of `domain`, or with none plain names: see [`for_named`] and
/// [`for_plain`].
pub fn for_device(stanza: &str, domain: Option<&str>, to: Option<&str>, out: &mut Vec<u8>) {
    match domain {
        Some(domain) => for_named(stanza, domain, to, out),
        None => out.extend_from_slice(for_plain(stanza).as_bytes()),
    }
}

/// Whether a canonical message is to somebody else than the user with this case-mapped name.
pub fn is_to_another(stanza: &str, user: &str) -> bool {
    UserKey::map(&receiver(stanza)).is_none_or(|to| *to != *user)
}

fn sender(stanza: &str) -> Cow<'_, str> {
    let first = Members::of(stanza).and_then(|mut members| members.next());
    first.and_then(|member| text(member.raw)).unwrap_or_default()
}

/// The id of a canonical message, if it is tracked.
pub fn id(stanza: &str) -> Option<Cow<'_, str>> {
    let mut members = Members::of(stanza).into_iter().flatten();
    members.find(|member| Key::of(&member.key) == Some(Key::Id)).and_then(|member| text(member.raw))
}

/// Whom a canonical message is to.
fn receiver(stanza: &str) -> Cow<'_, str> {
    let mut members = Members::of(stanza).into_iter().flatten();
    let to = members.find(|member| Key::of(&member.key) == Some(Key::To));
    to.and_then(|member| text(member.raw)).unwrap_or_default()
}

/// Up to which message its sender says to have read the conversation: the `stanza_id` in its `marker`.
pub fn displayed(stanza: &str) -> Option<Cow<'_, str>> {
    let find = |object, key| Members::of(object)?.find(|member| Key::of(&member.key) == Some(key));
    text(find(find(stanza, Key::Marker)?.raw, Key::Displayed)?.raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = r#"{"from":"esa","stanza":"message","to":"fajar","body":"a@b"}"#;
    const NAMED: &str = r#"{"from":"esa@a.example/my \"phone\"","stanza":"message","to":"fajar","body":"x"}"#;

    fn named(stanza: &str, to: Option<&str>) -> String {
        let mut out = Vec::new();
        for_named(stanza, "a.example", to, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_device_without_a_name_reads_plain_names() {
        assert!(matches!(for_plain(PLAIN), Cow::Borrowed(PLAIN)));
        assert_eq!(for_plain(NAMED), r#"{"from":"esa","stanza":"message","to":"fajar","body":"x"}"#);
        let odd = r#"{"from":"a\\b@a.example/x","stanza":"message"}"#;
        assert_eq!(for_plain(odd), r#"{"from":"a\\b","stanza":"message"}"#, "a backslash is in a name");
    }

    #[test]
    fn a_tracked_message_has_an_id() {
        assert_eq!(id(PLAIN), None);
        assert_eq!(id(r#"{"from":"esa","to":"fajar","id":"a\"b"}"#).as_deref(), Some("a\"b"));
    }

    #[test]
    fn a_marker_says_up_to_where_the_conversation_was_read() {
        for (marker, expected) in [
            (r#"{"displayed":"0194"}"#, Some("0194")),
            (r#"{"displayed":7}"#, None),
            (r#""markable""#, None),
            ("null", None),
        ] {
            let stanza = format!(r#"{{"from":"esa","stanza":"message","to":"fajar","marker":{marker}}}"#);
            assert_eq!(displayed(&stanza).as_deref(), expected, "{marker}");
        }
        assert_eq!(displayed(PLAIN), None);
    }

    #[test]
    fn a_named_device_reads_full_addresses() {
        assert_eq!(
            named(PLAIN, Some("fajar@a.example/tv")),
            r#"{"from":"esa@a.example/default","to":"fajar@a.example/tv","stanza":"message","body":"a@b"}"#
        );
        assert_eq!(
            named(NAMED, None),
            r#"{"from":"esa@a.example/my \"phone\"","to":"fajar@a.example","stanza":"message","body":"x"}"#
        );
    }
}
