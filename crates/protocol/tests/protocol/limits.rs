//! PROTOCOL §0: the limits, each at its edge.

use kurir_protocol::framing::Limits;

use crate::feed::{Event, Feed};

fn of_size(bytes: usize) -> String {
    format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8))
}

fn of_depth(depth: usize) -> String {
    format!("{{\"a\":{}1{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1))
}

fn fed(limits: Limits, stream: impl AsRef<[u8]>) -> Feed {
    let mut feed = Feed::new(limits);
    feed.receive(stream.as_ref());
    feed
}

#[test]
fn a_value_of_65_536_bytes_is_read_and_one_byte_more_is_too_large() {
    assert!(matches!(fed(Limits::default(), of_size(65_536)).events[..], [Event::Value(_)]));
    assert_eq!(fed(Limits::default(), of_size(65_537)).events, [Event::TooLarge]);
}

#[test]
fn a_value_that_never_ends_is_too_large_before_it_is_buffered() {
    let mut feed = Feed::new(Limits::default());
    feed.receive(&of_size(100_000).as_bytes()[..65_535]);
    assert_eq!(feed.events, []);
    feed.receive(b"x");
    assert_eq!(feed.events, [Event::TooLarge]);
    assert_eq!(feed.kept(), 0);
}

#[test]
fn depth_32_is_read_and_depth_33_is_too_large() {
    assert!(matches!(fed(Limits::default(), of_depth(32)).events[..], [Event::Value(_)]));
    assert_eq!(fed(Limits::default(), of_depth(33)).events, [Event::TooLarge]);
}

#[test]
fn no_more_than_64_containers_are_ever_open() {
    let limits = Limits { max_depth: u8::MAX, ..Limits::default() };
    assert!(matches!(fed(limits, of_depth(64)).events[..], [Event::Value(_)]));
    assert_eq!(fed(limits, of_depth(65)).events, [Event::TooLarge]);
}

#[test]
fn nothing_comes_out_after_a_value_that_was_too_large() {
    let mut feed = fed(Limits::default(), of_depth(33));
    feed.receive(b"\n{}\n");
    assert_eq!(feed.events, [Event::TooLarge]);
    assert_eq!(feed.kept(), 0);
}

#[test]
fn the_third_malformed_value_in_a_row_is_fatal() {
    let fatal = |event: &Event| matches!(event, Event::Malformed { fatal: true, .. });
    assert_eq!(
        fed(Limits::default(), "x\nx\nx\n").events.iter().map(fatal).collect::<Vec<_>>(),
        [false, false, true]
    );
    let never = Limits { max_malformed: 0, ..Limits::default() };
    assert!(!fed(never, "x\n".repeat(50)).events.iter().any(fatal));
}

#[test]
fn brackets_without_end_are_one_malformed_value_and_no_memory() {
    let mut feed = Feed::new(Limits::default());
    let piece = vec![b'['; 65_536];
    for _ in 0..16 {
        feed.receive(&piece);
        assert_eq!(feed.kept(), 0);
    }
    assert_eq!(feed.events.len(), 1);
}
