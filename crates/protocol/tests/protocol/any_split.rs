//! What comes out of a stream does not depend on how it was cut, and is what an independent reader says.

use kurir_protocol::framing::{DELIMITER, Limits};
use proptest::{collection::vec, prelude::*, sample::select};
use serde::de::IgnoredAny;

use crate::feed::{Event, Feed};

/// Small enough that the limits are met all the time.
const LIMITS: Limits = Limits { max_value_bytes: 60, max_depth: 4, max_malformed: 3 };

fn json(depth: u32) -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        select(vec!["null", "true", "false", "0", "-1", "1.5e-3", "12E+9", "\"\"", "[]", "{ }"])
            .prop_map(str::to_owned),
        "[ -!#-\\[\\]-~é😀\u{80}\u{81}\u{82}]{0,12}".prop_map(|text| format!("\"{text}\"")),
        r#"(\\["\\/bfnrt]|\\u[0-9a-fA-F]{4}|[a-z]){0,6}"#.prop_map(|text| format!("\"{text}\"")),
    ];
    scalar.prop_recursive(depth, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(" ,\n"))),
            vec(inner, 0..3).prop_map(|values| object(&values)),
        ]
    })
}

fn object(values: &[String]) -> String {
    let members: Vec<_> =
        values.iter().enumerate().map(|(index, value)| format!("\"k{index}\" :{value}")).collect();
    format!("{{{}}}", members.join(","))
}

fn packet() -> impl Strategy<Value = Vec<u8>> {
    vec(json(3), 0..3).prop_map(|values| object(&values).into_bytes())
}

/// A packet in which a few bytes were replaced, added or left out.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![select(b"{}[]\",:\\0e.-+tn \n\t\xC2\x80\x81\x82\xED\xF4".to_vec()), any::<u8>()];
    (packet(), vec((any::<prop::sample::Index>(), byte, 0..3_u8), 1..3)).prop_map(|(mut packet, changes)| {
        for (index, byte, how) in changes {
            let at = index.index(packet.len() + 1);
            match how {
                0 => packet.insert(at, byte),
                1 if at < packet.len() => packet[at] = byte,
                _ if at < packet.len() => drop(packet.remove(at)),
                _ => {}
            }
        }
        packet
    })
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let separator = prop_oneof![
        4 => Just(DELIMITER.to_vec()),
        4 => select(vec!["\n", "\r\n", " ", "", "\t\n\n"]).prop_map(|text| text.as_bytes().to_vec()),
        1 => (1..6_usize).prop_map(|length| DELIMITER[..length].to_vec()),
    ];
    let value = prop_oneof![4 => packet(), 2 => damaged(), 1 => vec(any::<u8>(), 0..6)];
    vec((value, separator), 1..7)
        .prop_map(|parts| parts.into_iter().flat_map(|(value, end)| [value, end].concat()).collect())
}

fn fed<'a>(limits: Limits, pieces: impl Iterator<Item = &'a [u8]>) -> Feed {
    fed_to(Feed::new(limits), pieces)
}

fn fed_to<'a>(mut feed: Feed, pieces: impl Iterator<Item = &'a [u8]>) -> Feed {
    pieces.for_each(|piece| feed.receive(piece));
    feed
}

proptest! {
    #[test]
    fn any_split_gives_the_same_events(
        stream in stream(),
        cuts in vec(1..20_usize, 1..8),
        // Values that their session finds malformed, as one with a key twice.
        rejects in 0..4_usize,
    ) {
        let feed = || Feed::new(LIMITS).rejecting_every(rejects);
        let whole = fed_to(feed(), std::iter::once(&stream[..]));
        for size in [1, 2, 3, 7] {
            let pieces = fed_to(feed(), stream.chunks(size));
            prop_assert_eq!(&pieces.events, &whole.events);
            prop_assert_eq!(pieces.decoder.framing(), whole.decoder.framing());
            prop_assert_eq!(pieces.kept(), whole.kept());
        }
        let mut feed = feed();
        let mut rest = &stream[..];
        for cut in cuts.iter().cycle() {
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            feed.receive(piece);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(&feed.events, &whole.events);
    }

    #[test]
    fn what_is_valid_is_what_serde_json_reads(packet in prop_oneof![packet(), damaged()]) {
        let ours = fed(Limits::default(), std::iter::once(&packet[..]));
        let text = std::str::from_utf8(&packet).ok().map(|text| text.trim_matches([' ', '\t', '\r', '\n']));
        let theirs = text.filter(|text| text.starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok());
        if let Some(text) = theirs {
            prop_assert_eq!(ours.events, [Event::Value(text.to_owned())]);
        } else {
            let one_value = matches!(&ours.events[..], [Event::Value(_)]) && ours.kept() == 0;
            prop_assert!(!one_value, "{:?}", String::from_utf8_lossy(&packet));
        }
    }

    /// The offending byte is exact: up to it the value could still have become good, with it no more.
    #[test]
    fn everything_before_the_offending_byte_is_good(packet in damaged()) {
        let ours = fed(Limits::default(), std::iter::once(&packet[..]));
        if let Some(Event::Malformed { at, .. }) = ours.events.first() {
            let before = fed(Limits::default(), std::iter::once(&packet[..*at]));
            prop_assert_eq!(before.events, []);
            let with = fed(Limits::default(), std::iter::once(&packet[..=*at]));
            // A byte that may begin a delimiter is known to offend only when the next one has come.
            prop_assert!(with.events.len() == 1 || packet[*at] == 0xC2);
        }
    }
}
