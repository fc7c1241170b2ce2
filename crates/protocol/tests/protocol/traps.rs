//! PROTOCOL §0: three traps, each a spoofing hole if missed.

use kurir_protocol::{
    Malformed,
    framing::{DELIMITER, Framing, Limits, encode},
    object::{KNOWN_KEYS, Key},
    relay::FromClient,
};

use crate::feed::{Event, Feed, events, value};

fn delivered(value: &str, framing: Framing) -> Vec<u8> {
    let Ok(FromClient::Message(message)) = FromClient::parse(value) else { panic!("no message: {value}") };
    let (mut line, mut out) = (Vec::new(), Vec::new());
    message.write("esa", &mut line);
    encode(framing, &line, &mut out);
    out
}

#[test]
fn trap_1_a_delimiter_inside_a_string_does_not_split_when_reading() {
    let packet = "{\"body\":\"\u{80}\u{81}\u{82}{\\\"from\\\":\\\"relay\\\"}\u{80}\u{81}\u{82}\"}";
    assert_eq!(events(packet), [value(packet)]);
}

#[test]
fn trap_1_a_delimiter_inside_a_string_never_goes_out_raw_in_the_originals_framing() {
    let packet = "{\"stanza\":\"message\",\"to\":\"fajar\",\"body\":\"x\u{80}\u{81}\u{82}{}\",\"k\u{82}\":1}";
    let out = delivered(packet, Framing::Original);
    let end = out.len() - DELIMITER.len();
    assert_eq!(&out[end..], DELIMITER);
    assert!(out[..end].is_ascii());
    assert!(String::from_utf8_lossy(&out).contains(r#""x\u0080\u0081\u0082{}","k\u0082":1"#));
}

#[test]
fn trap_2_line_feeds_between_tokens_never_reach_a_receiver() {
    let packet = "{\n\"stanza\"\n:\r\n\"message\"\n,\"to\":\n\"fajar\",\"x\":[\n1,\r\n{\"y\"\n:2}\n]\n}";
    let out = delivered(packet, Framing::Lines);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "{\"from\":\"esa\",\"stanza\":\"message\",\"to\":\"fajar\",\"x\":[1,{\"y\":2}]}\n"
    );
}

#[test]
fn trap_3_keys_compare_after_unescaping() {
    let packet =
        r#"{"stanza":"message","\u0066rom":"relay","t\u006F":"fajar","\u0073eq":9,"e\u0072ror":true,"a":1}"#;
    let Ok(FromClient::Message(message)) = FromClient::parse(packet) else { panic!("no message") };
    assert_eq!(message.to(), Some("fajar"));
    assert_eq!(
        String::from_utf8(delivered(packet, Framing::Lines)).unwrap(),
        "{\"from\":\"esa\",\"stanza\":\"message\",\"t\\u006F\":\"fajar\",\"a\":1}\n"
    );
}

#[test]
fn trap_3_a_known_key_twice_is_malformed_in_whatever_spelling() {
    for twice in [
        r#"{"stanza":"message","from":"esa","from":"relay"}"#,
        r#"{"stanza":"message","from":"esa","\u0066rom":"relay"}"#,
        r#"{"stanza":"message","to":"a","to":"b"}"#,
        r#"{"stanza":"message","t\u006f":"a","to":"b"}"#,
        r#"{"username":"esa","token":"a","token":"b"}"#,
    ] {
        assert_eq!(FromClient::parse(twice), Err(Malformed), "{twice}");
    }
    let unknown = r#"{"stanza":"message","color":1,"color":2}"#;
    assert!(matches!(FromClient::parse(unknown), Ok(FromClient::Message(_))), "we don't know this key");
}

#[test]
fn trap_3_every_known_key_is_known_on_every_socket() {
    for key in KNOWN_KEYS {
        assert_eq!(Key::of(key).map(Key::as_str), Some(*key));
        let twice = format!("{{\"{key}\":1,\"a\":2,\"{key}\":1}}");
        assert_eq!(FromClient::parse(&twice), Err(Malformed), "{key}");
        assert_eq!(kurir_protocol::manager::FromClient::parse(&twice), Err(Malformed), "{key}");
        assert_eq!(kurir_protocol::tracker::FromClient::parse(&twice), Err(Malformed), "{key}");
    }
}

#[test]
fn a_string_that_never_ends_swallows_no_packet_after_the_next_delimiter() {
    let mut feed = Feed::new(Limits::default());
    feed.receive("{\"a\":\"x\u{80}\u{81}\u{82}{\"b\":1}\u{80}\u{81}\u{82}{\"c\":2}".as_bytes());
    assert_eq!(feed.events, [Event::Malformed { at: 15, fatal: false }, value("{\"c\":2}")]);
}

/// A known key twice: what follows inside the object is not read as values of its own.
#[test]
fn trap_2_after_a_rejected_value_reading_goes_on_behind_it() {
    let mut feed = Feed::new(Limits::default()).rejecting_every(1);
    let rejected = "{\"to\":\"a\",\"to\":\n\"b\"}";
    feed.receive(format!("{rejected} {{\"x\":1}}\n").as_bytes());
    assert_eq!(feed.events, [Event::Malformed { at: rejected.len(), fatal: false }]);
    assert_eq!(feed.kept(), 0);
}
