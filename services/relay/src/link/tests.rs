use kurir_socket::Outbox;

use super::*;
use crate::connection::Connection;

fn sender() -> Arc<Connection> {
    Connection::alone("esa", 1, Outbox::new(1000))
}

fn parcel(line: &'static str) -> Parcel {
    let (to, line) = (Bytes::from_static(b"fajar"), Bytes::from_static(line.as_bytes()));
    Parcel { from: Some(Author::new(&sender())), to, line, device: None, trips: Trips::Fresh }
}

fn link(limit_bytes: usize) -> Arc<Link> {
    let peer = "relay-2".parse().unwrap();
    Link::new(peer, Generation::new(), limit_bytes, CancellationToken::new())
}

fn batches(frames: &[Frame]) -> Vec<(u64, usize)> {
    let batch = |frame: &Frame| match &frame.frame {
        Some(frame::Frame::Batch(batch)) => Some((batch.number, batch.deliveries.len())),
        _ => None,
    };
    frames.iter().filter_map(batch).collect()
}

#[test]
fn what_waits_for_the_first_stream_is_sent_as_its_first_batch() {
    let link = link(10_000);
    link.push(parcel("{}\n")).unwrap();
    link.push(parcel("{}\n")).unwrap();
    assert!(link.up());
    assert_eq!(batches(&link.take()), [(1, 2)]);
    link.push(parcel("{}\n")).unwrap();
    assert_eq!(batches(&link.take()), [(2, 1)]);
    assert_eq!(batches(&link.take()), []);
}

#[test]
fn a_stanza_travels_without_its_line_feed() {
    let link = link(10_000);
    link.push(parcel("{\"a\":1}\n")).unwrap();
    let Some(Frame { frame: Some(frame::Frame::Batch(batch)) }) = link.take().pop() else {
        panic!("no batch")
    };
    assert_eq!(batch.deliveries[0].stanza, "{\"a\":1}");
}

/// Sent and waiting count alike, until they are acknowledged or come back.
#[test]
fn a_full_link_refuses_until_something_is_settled() {
    let two = 2 * parcel("{}\n").bytes();
    let link = link(two);
    assert!(link.up());
    link.push(parcel("{}\n")).unwrap();
    link.push(parcel("{}\n")).unwrap();
    assert_eq!(link.push(parcel("{}\n")).unwrap_err().0, Refusal::Full);
    link.take();
    assert_eq!(link.push(parcel("{}\n")).unwrap_err().0, Refusal::Full);
    let back = link.bounced(&Bounces { number: 1, indexes: vec![1, 1, 7] }).unwrap();
    assert_eq!(back.iter().map(|(position, _)| *position).collect::<Vec<_>>(), [(1, 1)]);
    link.push(parcel("{}\n")).unwrap();
    link.acknowledged(1).unwrap();
    link.push(parcel("{}\n")).unwrap();
    assert_eq!(link.push(parcel("{}\n")).unwrap_err().0, Refusal::Full);
}

#[test]
fn an_answer_to_a_batch_that_was_not_sent_is_an_error() {
    let link = link(10_000);
    assert!(link.up());
    link.push(parcel("{}\n")).unwrap();
    assert!(link.acknowledged(1).is_err());
    assert!(link.bounced(&Bounces { number: 1, indexes: vec![0] }).is_err());
    link.take();
    assert!(link.acknowledged(2).is_err());
    assert!(link.acknowledged(u64::MAX).is_err());
    assert!(link.acknowledged(1).is_ok());
    assert!(link.bounced(&Bounces { number: 1, indexes: vec![0] }).is_err());
}

#[test]
fn a_broken_stream_hands_everything_back_and_the_next_counts_from_one() {
    let link = link(10_000);
    assert!(link.up());
    let number = link.push(parcel("{}\n")).unwrap();
    link.take();
    let later = link.push(parcel("{}\n")).unwrap();
    assert!(link.settles_later(later, &Bytes::from_static(b"fajar")));
    let rest = link.close(Standing::Down);
    assert_eq!((rest.parcels.len(), rest.waiting.len()), (2, 1));
    assert!(link.is_settled(number) && link.is_settled(later) && link.is_idle());
    assert_eq!(link.push(parcel("{}\n")).unwrap_err().0, Refusal::Down);
    assert!(link.up());
    link.push(parcel("{}\n")).unwrap();
    assert_eq!(batches(&link.take()), [(1, 1)]);
    link.acknowledged(1).unwrap();
}

#[test]
fn a_link_is_given_up_only_while_it_is_opening() {
    let late = link(10_000);
    late.push(parcel("{}\n")).unwrap();
    assert_eq!(late.give_up().parcels.len(), 1);
    assert_eq!(*late.standing().borrow(), Standing::Down);
    assert!(late.up());
    late.push(parcel("{}\n")).unwrap();
    assert_eq!(late.give_up().parcels.len(), 0);
    assert_eq!(*late.standing().borrow(), Standing::Up);
    late.push(parcel("{}\n")).unwrap();
}

#[test]
fn a_dead_link_never_comes_up_again() {
    let link = link(10_000);
    let _ = link.close(Standing::Dead);
    assert!(link.over.is_cancelled());
    assert!(!link.up());
    assert_eq!(link.push(parcel("{}\n")).unwrap_err().0, Refusal::Down);
}

/// Before the first stream and between two, that is when devices move.
#[test]
fn displacements_wait_for_the_next_stream_unless_that_life_of_the_peer_is_over() {
    let displaced = |link: &Link| -> Vec<u64> {
        let frames = link.take().into_iter().filter_map(|frame| frame.frame);
        let numbers = frames.map(|frame| match frame {
            frame::Frame::Displaced(displaced) => displaced.connection,
            other => panic!("{other:?}"),
        });
        numbers.collect()
    };
    let link = link(10_000);
    link.displaced("fajar", 1, false);
    assert!(link.up());
    assert_eq!(displaced(&link), [1]);
    link.displaced("fajar", 2, false);
    let _ = link.close(Standing::Down);
    for number in 3..2000 {
        link.displaced("fajar", number, false);
    }
    assert!(link.up());
    assert_eq!(displaced(&link), (2..2 + NEWS as u64).collect::<Vec<_>>());
    link.displaced("fajar", 2000, false);
    let _ = link.close(Standing::Dead);
    link.displaced("fajar", 2001, false);
    assert!(displaced(&link).is_empty());
}

/// The peer's window opens by our answers, so they go before our messages; acknowledgements are cumulative.
#[test]
fn answers_go_before_messages() {
    let link = link(10_000);
    assert!(link.up());
    link.push(parcel("{}\n")).unwrap();
    link.handled(1, vec![0]);
    link.handled(2, Vec::new());
    let frames: Vec<_> = link.take().into_iter().filter_map(|frame| frame.frame).collect();
    let [frame::Frame::Bounces(bounces), frame::Frame::Acknowledged(2), frame::Frame::Batch(_)] = &*frames
    else {
        panic!("{frames:?}");
    };
    assert_eq!((bounces.number, &*bounces.indexes), (1, &[0][..]));
}

#[test]
fn many_messages_are_several_batches() {
    let link = link(usize::MAX);
    assert!(link.up());
    let count = 3 * BATCH_BYTES / parcel("{}\n").bytes();
    for _ in 0..count {
        link.push(parcel("{}\n")).unwrap();
    }
    let mut sent = 0;
    let mut numbers = 0;
    while let [(number, deliveries)] = batches(&link.take())[..] {
        numbers += 1;
        assert_eq!(number, numbers);
        sent += deliveries;
    }
    assert_eq!(sent, count);
    assert!((3..=4).contains(&numbers), "{numbers}");
}
