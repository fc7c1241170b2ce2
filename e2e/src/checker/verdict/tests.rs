//! Each thing that can be wrong, in a history in which nothing else is: a check that finds nothing wrong there is
//! none.

mod devices;
mod plain;
mod times;

use super::*;
use crate::checker::history::{Device, Disturbance, Event, Message, Place, Record, Shown};

/// One device each: esa at relay 1, fajar at relay 2.
const ESA: Device = 0;
const FAJAR: Device = 1;

/// Esa's other device, at relay 2, which is to get what esa sends.
const OTHER: Device = 2;

const MS: Duration = Duration::from_millis(1);

/// A history in the making.
struct Story(History);

impl Story {
    /// Both are online from the beginning.
    fn begins() -> Story {
        let mut story = Story(History { devices: vec![0, 1], ..History::default() });
        story.happens(0, Event::Online { device: ESA, relay: 1 });
        story.happens(0, Event::Online { device: FAJAR, relay: 2 });
        story
    }

    fn happens(&mut self, at: u32, event: Event) -> &mut Story {
        self.0.records.push(Record { at: at * MS, event });
        self.0.end = self.0.end.max(at * MS);
        self
    }

    fn sent(&mut self, at: u32, number: u64) -> &mut Story {
        self.happens(at, Event::Sent { message: esa(number), to: 1 })
    }

    /// Stored at the place of its number in both logs.
    fn acked(&mut self, at: u32, number: u64) -> &mut Story {
        self.acked_at(at, number, number)
    }

    fn acked_at(&mut self, at: u32, number: u64, seq: u64) -> &mut Story {
        self.happens(at, Event::Acked { message: esa(number), stanza_id: name(number), seq })
    }

    fn delivered(&mut self, at: u32, number: u64) -> &mut Story {
        self.delivered_at(at, number, number)
    }

    fn delivered_at(&mut self, at: u32, number: u64, seq: u64) -> &mut Story {
        let delivered =
            Event::Delivered { device: FAJAR, message: esa(number), stanza_id: name(number), seq };
        self.happens(at, delivered)
    }

    fn disturbed(&mut self, from: u32, until: u32, place: Place) -> &mut Story {
        self.0.disturbances.push(Disturbance { from: from * MS, until: until * MS, place });
        self
    }

    fn ends(&mut self, at: u32) -> &mut Story {
        self.0.end = at * MS;
        self
    }

    #[track_caller]
    fn is_wrong_only_with(&mut self, expected: &[Wrong]) {
        let verdict = judge(&self.0);
        let found: Vec<Wrong> = verdict.wrongs.iter().map(|(wrong, _)| *wrong).collect();
        assert_eq!(found, expected, "{:?}", verdict.wrongs);
    }
}

fn esa(number: u64) -> Message {
    Message { from: ESA, number }
}

fn name(number: u64) -> String {
    format!("stanza {number}")
}

/// Two messages as they should go, through a refusal and a reconnection.
fn two_messages() -> Story {
    let mut story = Story::begins();
    story.sent(100, 1).sent(200, 2);
    story.happens(300, Event::Refused { message: esa(1) }).happens(300, Event::Refused { message: esa(2) });
    story.sent(500, 1).sent(500, 2).acked(600, 1).delivered(610, 1);
    story.happens(650, Event::Offline { device: ESA }).happens(700, Event::Online { device: ESA, relay: 2 });
    story.sent(710, 2).delivered(720, 2).acked(730, 2);
    story
}

#[test]
fn a_good_history_is_good_and_counted() {
    let story = two_messages();
    let verdict = judge(&story.0);
    assert_eq!(verdict.wrongs, []);
    let expected = Figures {
        sent: 2,
        again: 3,
        refused: 2,
        acked: 2,
        delivered: 2,
        repeated: 0,
        gone: 0,
        came_online: 3,
        by_password: 0,
        by_session: 0,
        longest_ack: 530 * MS,
        longest_quiet_ack: 500 * MS,
        longest_delivery: 10 * MS,
        longest_quiet_delivery: Waited { longest: 10 * MS, in_all: 10 * MS },
    };
    assert_eq!(verdict.figures, expected);
    assert!(verdict.to_string().contains(
        "lost: 0  duplicated: 0  reordered: 0  late: 0  unacked: 0  limbo: 0  loggedout: 0  strange: 0"
    ));
}

#[test]
fn an_acked_message_that_is_never_delivered_is_lost() {
    Story::begins().sent(100, 1).acked(200, 1).ends(1000).is_wrong_only_with(&[Wrong::Lost]);
}

#[test]
fn a_message_lost_in_the_middle_leaves_a_hole_too() {
    let mut story = two_messages();
    story.sent(800, 3).acked(810, 3).sent(820, 4).acked(830, 4).delivered(840, 4);
    story.is_wrong_only_with(&[Wrong::Lost, Wrong::Lost]);
}

#[test]
fn a_message_that_a_device_of_several_misses_is_lost() {
    let mut story = two_messages();
    // Fajar's second device, which was never online: a device all the same.
    story.0.devices.push(1);
    story.is_wrong_only_with(&[Wrong::Lost, Wrong::Lost]);
    // And the sender's other devices are to get what it sent.
    story.0.devices[2] = 0;
    story.is_wrong_only_with(&[Wrong::Lost, Wrong::Lost]);
}

#[test]
fn a_message_that_comes_twice_is_a_duplicate() {
    // At another place, or at the same one, which then does not grow either.
    two_messages().delivered_at(800, 2, 3).is_wrong_only_with(&[Wrong::Duplicated, Wrong::Reordered]);
    two_messages().delivered(800, 2).is_wrong_only_with(&[Wrong::Duplicated, Wrong::Reordered]);
}

#[test]
fn a_message_stored_twice_is_found() {
    let mut story = two_messages();
    story.acked_at(800, 2, 3);
    story.is_wrong_only_with(&[Wrong::Reordered]);
}

#[test]
fn messages_of_one_sender_out_of_order_are_found() {
    let mut story = Story::begins();
    story.sent(100, 1).sent(100, 2).acked_at(200, 1, 2).acked_at(200, 2, 1);
    // Both logs have them the wrong way round, and the receiver reads them so.
    story.delivered_at(210, 2, 1).delivered_at(220, 1, 2);
    story.is_wrong_only_with(&[Wrong::Reordered, Wrong::Reordered, Wrong::Reordered]);
}

#[test]
fn a_log_read_backwards_is_found() {
    let mut story = Story::begins();
    story.sent(100, 1).sent(100, 2).acked(200, 1).acked(200, 2).delivered(210, 2).delivered(220, 1);
    story.is_wrong_only_with(&[Wrong::Reordered, Wrong::Reordered]);
}

#[test]
fn what_the_protocol_does_not_allow_is_strange() {
    let other_name = |at| {
        let mut story = two_messages();
        let stanza_id = "another".into();
        story.happens(at, Event::Acked { message: esa(2), stanza_id, seq: 2 });
        story
    };
    other_name(800).is_wrong_only_with(&[Wrong::Strange]);
    let what = "a conflict".to_string();
    two_messages().happens(800, Event::Strange { device: ESA, what }).is_wrong_only_with(&[Wrong::Strange]);
    // Never sent; not for this device; at a place that another message has.
    two_messages().acked(800, 3).is_wrong_only_with(&[Wrong::Strange]);
    two_messages().delivered(800, 3).is_wrong_only_with(&[Wrong::Strange]);
    let mut astray = two_messages();
    astray.0.devices.push(2);
    let message = esa(1);
    let delivered = Event::Delivered { device: 2, message, stanza_id: name(1), seq: 1 };
    astray.happens(800, delivered).is_wrong_only_with(&[Wrong::Strange]);
    let mut taken = two_messages();
    taken.sent(800, 3).acked_at(810, 3, 2).delivered(820, 3);
    taken.is_wrong_only_with(&[Wrong::Strange]);
}

#[test]
fn who_has_a_session_that_is_good_is_not_asked_for_the_password() {
    let logged_in = |with| Event::LoggedIn { device: ESA, with };
    let unauthorized = || Event::Unauthorized { device: ESA };
    let story = || {
        let mut story = two_messages();
        story.happens(800, logged_in(Shown::Password)).happens(810, logged_in(Shown::Session));
        story
    };
    story().is_wrong_only_with(&[]);
    let figures = judge(&story().0).figures;
    assert_eq!((figures.by_password, figures.by_session), (1, 1));
    story().happens(820, logged_in(Shown::Password)).is_wrong_only_with(&[Wrong::LoggedOut]);
    // Told so by the connection's end and by the next login: one wrong, and the password is what is left.
    let mut refused = story();
    refused.happens(820, unauthorized()).happens(830, unauthorized());
    refused.happens(840, logged_in(Shown::Password)).is_wrong_only_with(&[Wrong::LoggedOut]);
    refused.happens(850, unauthorized()).is_wrong_only_with(&[Wrong::LoggedOut, Wrong::LoggedOut]);
    // A session is not good for somebody else.
    two_messages().happens(800, logged_in(Shown::Session)).is_wrong_only_with(&[Wrong::Strange]);
}
