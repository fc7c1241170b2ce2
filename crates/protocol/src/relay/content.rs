//! What a message says, however it is written: by this one that is sent again is told from another one with its id.

use crate::{
    object::{Elements, Key, Members, text},
    write,
};

/// The content of a canonical message to `to`, a case-mapped name: the same bytes for the same content. The order of
/// members, escapes and white space don't count, nor who is named as sender, how the receiver is written, or whether the
/// default `type` is.
pub fn content(stanza: &str, to: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(stanza.len());
    write::string(&mut out, to);
    let members = Members::of(stanza).into_iter().flatten();
    object(
        &mut out,
        members.filter(|member| match Key::of(&member.key) {
            Some(Key::From | Key::To) => false,
            Some(Key::Type) => !text(member.raw).is_some_and(|kind| kind.eq_ignore_ascii_case("normal")),
            _ => true,
        }),
    );
    out
}

/// Values are as deep as a relay reads them.
fn value(out: &mut Vec<u8>, raw: &str) {
    let raw = raw.trim_ascii();
    if let Some(members) = Members::of(raw) {
        return object(out, members);
    }
    if let Some(elements) = Elements::of(raw) {
        out.push(b'[');
        for element in elements {
            value(out, element);
            out.push(b',');
        }
        return out.push(b']');
    }
    match text(raw) {
        Some(text) => write::string(out, &text),
        None => out.extend_from_slice(raw.as_bytes()),
    }
}

fn object<'a>(out: &mut Vec<u8>, members: impl Iterator<Item = crate::object::Member<'a>>) {
    let mut members: Vec<_> = members.collect();
    members.sort_by(|one, other| one.key.cmp(&other.key));
    out.push(b'{');
    for member in members {
        write::string(out, &member.key);
        out.push(b':');
        value(out, member.raw);
        out.push(b',');
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &str = r#"{"from":"esa","stanza":"message","to":"Fajar","id":"1","body":"a x","x":{"b":[1,{"c":2}],"a":null}}"#;

    #[test]
    fn the_same_content_is_the_same_however_it_is_written() {
        for same in [
            r#"{"x":{"a":null,"b":[1,{"c":2}]},"body":"a x","id":"1","to":"fajar@a.example","stanza":"message","from":"esa"}"#,
            r#"{"stanza":"message","to":"fajar","id":"\u0031","\u0062ody":"a\u0020x","x":{"b" : [ 1 , {"c":2} ],"a":null}}"#,
            r#"{"type":"normal","stanza":"message","to":"fajar","id":"1","body":"a x","x":{"b":[1,{"c":2}],"a":null}}"#,
        ] {
            assert_eq!(content(same, "fajar"), content(SENT, "fajar"), "{same}");
        }
    }

    #[test]
    fn other_content_is_another() {
        for other in [
            SENT.replace("a x", "a y"),
            SENT.replace("[1,", "[2,"),
            SENT.replace("[1,{\"c\":2}]", "[{\"c\":2},1]"),
            SENT.replace("null", "\"null\""),
            SENT.replace("{\"c\":2}", "\"{\\\"c\\\":2}\""),
            SENT.replace("\"body\"", "\"type\":\"chat\",\"body\""),
            SENT.replace("\"body\"", "\"lang\":\"id\",\"body\""),
        ] {
            assert_ne!(other, SENT);
            assert_ne!(content(&other, "fajar"), content(SENT, "fajar"), "{other}");
        }
        assert_ne!(content(SENT, "budi"), content(SENT, "fajar"));
    }
}
