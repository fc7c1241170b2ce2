//! PROTOCOL §0: separators, the framing decision, malformed values and where reading goes on after them.

use kurir_protocol::framing::{Decoder, Framing, Limits, encode};

use crate::feed::{Event, Feed, events, framing, malformed, value};

const D: &str = "\u{80}\u{81}\u{82}";

#[test]
fn values_end_themselves_whatever_stands_between_them() {
    for separator in ["", " ", "\t", "\n", "\r\n", D, &format!("{D}{D}"), &format!("\n{D} \r\n")] {
        let stream = format!("{separator}{{\"a\":1}}{separator}{{}}{separator}");
        assert_eq!(events(&stream), [value("{\"a\":1}"), value("{}")], "{separator:?}");
    }
}

#[test]
fn the_first_byte_after_the_first_value_decides_the_framing() {
    assert_eq!(framing("{}"), None);
    assert_eq!(framing("{} \t\r"), None);
    assert_eq!(framing("\n{}"), None);
    assert_eq!(framing("{}\n"), Some(Framing::Lines));
    assert_eq!(framing("{}\r\n{}"), Some(Framing::Lines));
    assert_eq!(framing(b"{}\xC2"), Some(Framing::Original));
    assert_eq!(framing(format!("{{}}{D}\n")), Some(Framing::Original));
    assert_eq!(framing("{}{}\n"), Some(Framing::Original));
    assert_eq!(framing(format!("{{}}\n{{}}{D}")), Some(Framing::Lines));
}

#[test]
fn after_a_malformed_first_value_what_ends_the_skipping_decides_the_framing() {
    assert_eq!(framing("hello"), None);
    assert_eq!(framing("hello\r\n"), Some(Framing::Lines));
    assert_eq!(framing(format!("hello{D}{{}}\n")), Some(Framing::Original));
}

#[test]
fn where_no_byte_comes_the_framing_is_the_originals() {
    let mut feed = Feed::new(Limits::default());
    feed.receive(b"{}");
    feed.decoder.assume_original();
    feed.receive(b"\n{}\n");
    assert_eq!(feed.decoder.framing(), Some(Framing::Original));
}

#[test]
fn the_offending_byte_is_the_first_that_no_value_can_have_there() {
    for (stream, at) in [
        ("hello", 0),
        ("[1]", 0),
        ("\"{}\"", 0),
        ("1", 0),
        ("null", 0),
        ("  }", 2),
        ("\u{FEFF}{}", 0),
        ("{a", 1),
        ("{\"a\"}", 4),
        ("{\"a\":}", 5),
        ("{\"a\":1,}", 7),
        ("{,", 1),
        ("{\"a\":[1,]}", 8),
        ("{\"a\":[1}", 7),
        ("{\"a\":{\"b\":1]", 11),
        ("{\"a\":01}", 6),
        ("{\"a\":+1}", 5),
        ("{\"a\":-}", 6),
        ("{\"a\":1.}", 7),
        ("{\"a\":1e}", 7),
        ("{\"a\":.5}", 5),
        ("{\"a\":1 2}", 7),
        ("{\"a\":tru}", 8),
        ("{\"a\":nulll}", 9),
        ("{\"a\":NaN}", 5),
        ("{\"a\":\"\t\"}", 6),
        ("{\"a\":\"\n\"}", 6),
        ("{\"a\":\"\0\"}", 6),
        ("{\"a\":\"\\x\"}", 7),
        ("{\"a\":\"\\u12G4\"}", 10),
        ("{'a':1}", 1),
        ("{\"a\":1}//", 7),
    ] {
        let first = events(stream).into_iter().find(|event| matches!(event, Event::Malformed { .. }));
        assert_eq!(first, Some(malformed(at)), "{stream:?}");
    }
}

#[test]
fn invalid_utf8_is_malformed_at_its_first_impossible_byte() {
    for (bytes, at) in [
        (&b"{\"\x80"[..], 2),
        (b"{\"\xC0\x80", 2),
        (b"{\"\xC1\xBF", 2),
        (b"{\"\xC3\"", 3),
        (b"{\"\xE0\x9F\xBF", 3),
        (b"{\"\xED\xA0\x80", 3),
        (b"{\"\xF0\x8F\xBF\xBF", 3),
        (b"{\"\xF4\x90\x80\x80", 3),
        (b"{\"\xF5\x80", 2),
        (b"{\"\xE2\x82\"", 4),
    ] {
        assert_eq!(events(bytes), [malformed(at)], "{bytes:02X?}");
    }
    assert_eq!(events("{\"é€😀\u{7FF}\u{D7FF}\u{E000}\u{10FFFF}\":\"\u{7F}\"}").len(), 1);
}

#[test]
fn reading_goes_on_after_the_first_delimiter_or_line_feed_at_or_after_the_offending_byte() {
    let good = value("{\"b\":2}");
    for (stream, at) in [
        (format!("hello {{\"a\":1}}{D}{{\"b\":2}}"), 0),
        ("hello {\"a\":1}\n{\"b\":2}".to_owned(), 0),
        ("{\"a\":\"x\n{\"b\":2}".to_owned(), 7),
        (format!("{{\"a\":{D}{{\"b\":2}}"), 5),
        (format!("{{\"a\":1 {D}{{\"b\":2}}"), 7),
        ("{\"a\":1,,\n\n{\"b\":2}".to_owned(), 7),
        (format!("]\u{80}\u{81}\u{80}{D}{{\"b\":2}}"), 0),
        (format!("\u{80}{D}{{\"b\":2}}"), 0),
    ] {
        assert_eq!(events(&stream), [malformed(at), good.clone()], "{stream:?}");
    }
}

#[test]
fn a_good_value_ends_a_row_of_malformed_ones() {
    let mut feed = Feed::new(Limits::default());
    feed.receive(b"x\nx\n{}\nx\nx\n");
    assert!(feed.events.iter().all(|event| !matches!(event, Event::Malformed { fatal: true, .. })));
    feed.receive(b"x");
    assert_eq!(feed.events.last(), Some(&Event::Malformed { at: 11, fatal: true }));
}

#[test]
fn a_value_found_malformed_later_counts_as_if_it_had_never_been_good() {
    let mut feed = Feed::new(Limits::default());
    feed.receive(b"x\nx\n{}");
    assert!(feed.decoder.reject());
    feed.receive(b"{\"a\":1}\n{\"b\":2}{\"c\":3}");
    assert_eq!(feed.events[3..], [value("{\"b\":2}"), value("{\"c\":3}")], "skipped up to the line feed");
    assert!(!feed.decoder.reject(), "the row had ended");
}

#[test]
fn only_a_client_library_reads_arrays() {
    let mut feed = Feed::with(Decoder::for_client_library(Limits::FROM_SERVERS));
    feed.receive(b"[{\"port\":1},[]][]\n{}");
    assert_eq!(feed.events, [value("[{\"port\":1},[]]"), value("[]"), value("{}")]);
}

#[test]
fn the_originals_framing_is_ascii_but_for_its_delimiter() {
    let mut out = Vec::new();
    encode(Framing::Original, "{\"a\":\"é\u{81}😀\"}\n{}\n".as_bytes(), &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        format!("{{\"a\":\"\\u00e9\\u0081\\ud83d\\ude00\"}}{D}{{}}{D}")
    );
}

#[test]
fn lines_are_written_as_they_are() {
    let lines = "{\"a\":\"é😀\"}\n{}\n".as_bytes();
    let mut out = Vec::new();
    encode(Framing::Lines, lines, &mut out);
    assert_eq!(out, lines);
}
