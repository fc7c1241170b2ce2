//! Each thing that can be wrong, in a history in which nothing else is: a check that finds nothing wrong there is
//! none.

use super::*;
use crate::checker::history::{Disturbance, Place, Record};

/// One device each: esa at relay 1, fajar at relay 2.
const ESA: Device = 0;
const FAJAR: Device = 1;

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
        longest_delivery: 10 * MS,
        longest_quiet_delivery: 10 * MS,
    };
    assert_eq!(verdict.figures, expected);
    assert!(
        verdict
            .to_string()
            .contains("lost: 0  duplicated: 0  reordered: 0  late: 0  limbo: 0  loggedout: 0  strange: 0")
    );
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
fn a_late_message_is_late_only_by_undisturbed_time() {
    let late = 100 + 1 + u32::try_from(DELIVERED_WITHIN.as_millis()).unwrap();
    let story = || {
        let mut story = Story::begins();
        story.sent(0, 1).acked(100, 1);
        story
    };
    story().delivered(late - 1, 1).is_wrong_only_with(&[]);
    story().delivered(late, 1).is_wrong_only_with(&[Wrong::Late]);
    // Never: late as well as lost.
    story().ends(late).is_wrong_only_with(&[Wrong::Lost, Wrong::Late]);
    // Something was under way where the receiver is, or somewhere else.
    story().disturbed(1000, 2000, Place::Relay(2)).delivered(late, 1).is_wrong_only_with(&[]);
    story().disturbed(1000, 2000, Place::Everywhere).delivered(late, 1).is_wrong_only_with(&[]);
    story().disturbed(1000, 2000, Place::Relay(1)).delivered(late, 1).is_wrong_only_with(&[Wrong::Late]);
    // After a disturbance the time begins anew, and runs out again.
    story()
        .disturbed(1000, 2000, Place::Relay(2))
        .delivered(late + 2000, 1)
        .is_wrong_only_with(&[Wrong::Late]);
    // While it was away nobody waited.
    let mut away = story();
    away.happens(200, Event::Offline { device: FAJAR });
    away.happens(late, Event::Online { device: FAJAR, relay: 3 }).delivered(late + 10, 1);
    away.is_wrong_only_with(&[]);
}

#[test]
fn a_message_that_nobody_acks_is_in_limbo() {
    Story::begins().sent(100, 1).ends(1000).is_wrong_only_with(&[Wrong::Limbo]);
    // Also where it was delivered, or refused and never sent again.
    Story::begins().sent(100, 1).delivered(200, 1).is_wrong_only_with(&[Wrong::Limbo]);
    let mut given_up = Story::begins();
    given_up
        .sent(100, 1)
        .happens(200, Event::Refused { message: esa(1) })
        .is_wrong_only_with(&[Wrong::Limbo]);
}

#[test]
fn a_message_without_an_answer_is_in_limbo_though_it_is_acked_in_the_end() {
    let too_late = 101 + u32::try_from(ANSWERED_WITHIN.as_millis()).unwrap();
    let story = || {
        let mut story = Story::begins();
        story.sent(100, 1);
        story
    };
    story().acked(too_late - 1, 1).delivered(too_late - 1, 1).is_wrong_only_with(&[]);
    story().acked(too_late, 1).delivered(too_late, 1).is_wrong_only_with(&[Wrong::Limbo]);
    // An answer is an answer, and the same again on the same connection is none.
    let mut refused = story();
    refused.happens(5000, Event::Refused { message: esa(1) }).sent(5000, 1);
    refused.acked(too_late, 1).delivered(too_late, 1).is_wrong_only_with(&[]);
    story().sent(5000, 1).acked(too_late, 1).delivered(too_late, 1).is_wrong_only_with(&[Wrong::Limbo]);
    // Another connection is another try.
    let mut moved = story();
    moved
        .happens(5000, Event::Offline { device: ESA })
        .happens(5001, Event::Online { device: ESA, relay: 1 });
    moved.sent(5002, 1).acked(too_late, 1).delivered(too_late, 1).is_wrong_only_with(&[]);
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

/// Esa's first message, written at relay 1, on whose connection no ack came.
fn without_an_ack() -> Story {
    let mut story = Story::begins();
    story.sent(100, 1).delivered(110, 1);
    story
}

fn shown_its_own(story: &mut Story, at: u32) -> &mut Story {
    let (device, message, stanza_id) = (ESA, esa(1), name(1));
    story.happens(at, Event::Delivered { device, message, stanza_id, seq: 1 })
}

#[test]
fn a_device_is_shown_its_own_only_on_a_later_connection() {
    shown_its_own(&mut without_an_ack(), 120).acked(130, 1).is_wrong_only_with(&[Wrong::Duplicated]);
    let back = || {
        let mut story = without_an_ack();
        story.happens(200, Event::Offline { device: ESA });
        story.happens(300, Event::Online { device: ESA, relay: 2 });
        story
    };
    // It sends it again, and learns either way, or both, that it is stored.
    shown_its_own(back().sent(310, 1), 320).acked(330, 1).is_wrong_only_with(&[]);
    // Told so it has it; and nothing comes twice, on whatever connection.
    shown_its_own(back().sent(310, 1).acked(320, 1), 330)
        .is_wrong_only_with(&[Wrong::Duplicated, Wrong::Reordered]);
    let mut twice = back();
    shown_its_own(&mut twice, 310).acked(320, 1).happens(400, Event::Online { device: ESA, relay: 2 });
    shown_its_own(&mut twice, 410).is_wrong_only_with(&[Wrong::Duplicated, Wrong::Reordered]);
}

/// Esa's other device, at relay 2, which is to get what esa sends.
const OTHER: Device = 2;

/// Two messages, of which esa's other device has got nothing yet, and an answer, which it has as the third in the log.
fn with_another_device() -> (Story, Message) {
    let mut story = Story::begins();
    story.0.devices.push(0);
    story.happens(0, Event::Online { device: OTHER, relay: 2 });
    story.sent(100, 1).sent(100, 2).acked(110, 1).acked(110, 2).delivered(120, 1).delivered(120, 2);
    let answer = Message { from: FAJAR, number: 1 };
    story.happens(200, Event::Sent { message: answer, to: 0 });
    story.happens(210, Event::Acked { message: answer, stanza_id: "answer".into(), seq: 3 });
    let got = |device| Event::Delivered { device, message: answer, stanza_id: "answer".into(), seq: 3 };
    story.happens(220, got(ESA));
    (story, answer)
}

fn copied(story: &mut Story, at: u32, number: u64, seq: u64) {
    let copy = Event::Delivered { device: OTHER, message: esa(number), stanza_id: name(number), seq };
    story.happens(at, copy);
}

fn answered(story: &mut Story, at: u32, answer: Message, seq: u64) -> &mut Story {
    let (device, stanza_id) = (OTHER, "answer".into());
    story.happens(at, Event::Delivered { device, message: answer, stanza_id, seq })
}

#[test]
fn the_senders_other_device_gets_each_message_once_in_the_order_of_the_log() {
    let story = |copies: &[(u64, u64)], answer_at: u64| {
        let (mut story, answer) = with_another_device();
        for (number, seq) in copies {
            copied(&mut story, 300, *number, *seq);
        }
        answered(&mut story, 310, answer, answer_at);
        story
    };
    story(&[(1, 1), (2, 2)], 3).is_wrong_only_with(&[]);
    // Never: a hole in its log as well. Twice. The wrong way round, in a log that is said to be another.
    story(&[(2, 2)], 3).is_wrong_only_with(&[Wrong::Lost, Wrong::Lost]);
    story(&[(1, 1), (2, 2), (2, 2)], 3).is_wrong_only_with(&[Wrong::Duplicated, Wrong::Reordered]);
    story(&[(2, 2), (1, 1)], 3).is_wrong_only_with(&[Wrong::Reordered, Wrong::Reordered]);
    // Behind what came after it, though of each sender all is in order.
    let (mut behind, answer) = with_another_device();
    copied(&mut behind, 300, 1, 1);
    answered(&mut behind, 310, answer, 3);
    copied(&mut behind, 320, 2, 2);
    behind.is_wrong_only_with(&[Wrong::Reordered]);
}

#[test]
fn what_comes_after_an_ack_has_its_place_behind_it() {
    let mut story = Story::begins();
    let first = Message { from: FAJAR, number: 1 };
    story.happens(50, Event::Sent { message: first, to: 0 });
    story.happens(60, Event::Acked { message: first, stanza_id: "first".into(), seq: 1 });
    story.sent(100, 1).acked_at(110, 1, 2).delivered_at(120, 1, 2);
    let late = Event::Delivered { device: ESA, message: first, stanza_id: "first".into(), seq: 1 };
    story.happens(130, late).is_wrong_only_with(&[Wrong::Reordered]);
}

#[test]
fn the_same_number_of_two_devices_is_two_messages() {
    let mut story = two_messages();
    story.0.devices.push(0);
    let message = Message { from: OTHER, number: 1 };
    story.happens(0, Event::Online { device: OTHER, relay: 3 });
    copied(&mut story, 750, 1, 1);
    copied(&mut story, 750, 2, 2);
    // Taken for esa's first by the servers: its name, and nothing that anybody gets.
    story.happens(800, Event::Sent { message, to: 1 });
    story.happens(810, Event::Acked { message, stanza_id: name(1), seq: 1 });
    // Two messages at one place in the log; neither the receiver nor esa's first device ever gets it; two of one name.
    story.is_wrong_only_with(&[Wrong::Lost, Wrong::Lost, Wrong::Strange, Wrong::Strange]);
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

/// Fajar's device does not go by places.
fn plain() -> Story {
    let mut story = Story::begins();
    story.0.plain.insert(FAJAR);
    story
}

impl Story {
    fn read(&mut self, at: u32, number: u64) -> &mut Story {
        self.happens(at, Event::Read { device: FAJAR, message: esa(number) })
    }

    fn leaves(&mut self, at: u32) -> &mut Story {
        self.happens(at, Event::Offline { device: FAJAR })
    }

    fn comes(&mut self, at: u32) -> &mut Story {
        self.happens(at, Event::Online { device: FAJAR, relay: 3 })
    }
}

/// Longer than a bound.
fn long() -> u32 {
    100 + u32::try_from(DELIVERED_WITHIN.as_millis()).unwrap()
}

#[test]
fn a_device_without_places_gets_what_its_socket_can_carry() {
    // While it is connected, and what waited while it was away.
    let mut good = plain();
    good.sent(100, 1).acked(110, 1).read(120, 1).leaves(200);
    good.sent(300, 2).acked(310, 2).comes(400).read(410, 2).is_wrong_only_with(&[]);
    plain().sent(100, 1).acked(110, 1).ends(1000).is_wrong_only_with(&[Wrong::Lost]);
    let mut waited = plain();
    waited.leaves(50).sent(1100, 1).acked(1110, 1).comes(1200).ends(2000).is_wrong_only_with(&[Wrong::Lost]);
    // On its way when the connection ended, before the ack or after it.
    let mut gone = plain();
    gone.sent(100, 1).acked(110, 1).sent(140, 2).leaves(150).acked(160, 2).comes(200).ends(1000);
    gone.is_wrong_only_with(&[]);
    assert_eq!(judge(&gone.0).figures.gone, 2);
    // Written to a connection that its relay could not know to be over; not where something hit another relay.
    let unheard = |relay| {
        let mut unheard = plain();
        unheard.disturbed(0, 5000, Place::Relay(relay)).leaves(50);
        unheard.sent(1100, 1).acked(1110, 1).comes(2000).ends(3000);
        unheard
    };
    unheard(2).is_wrong_only_with(&[]);
    unheard(1).is_wrong_only_with(&[Wrong::Lost]);
    unheard(2).sent(2100, 2).acked(2110, 2).is_wrong_only_with(&[Wrong::Lost]);
    // Not so what it waited for much too long before that.
    let mut late = plain();
    late.sent(100, 1).acked(110, 1).leaves(111 + long()).comes(120 + long()).ends(1000 + long());
    late.is_wrong_only_with(&[Wrong::Late]);
    let mut forgotten = plain();
    forgotten.leaves(50).sent(1100, 1).acked(1110, 1).comes(1200).leaves(1201 + long());
    forgotten.is_wrong_only_with(&[Wrong::Late]);
}

#[test]
fn a_device_without_places_is_shown_nothing_twice_on_one_connection() {
    let story = || {
        let mut story = plain();
        story.sent(100, 1).sent(100, 2).acked(110, 1).acked(110, 2).read(120, 1).read(120, 2);
        story
    };
    story().is_wrong_only_with(&[]);
    story().read(130, 2).is_wrong_only_with(&[Wrong::Duplicated]);
    // On the next one what had just been read may come again, in order.
    let mut again = story();
    again.leaves(200).comes(300).read(310, 1).read(310, 2).is_wrong_only_with(&[]);
    assert_eq!(judge(&again.0).figures.repeated, 2);
    again.read(320, 1).is_wrong_only_with(&[Wrong::Duplicated]);
    story().leaves(200).comes(300).read(310, 2).read(320, 1).is_wrong_only_with(&[Wrong::Reordered]);
    // Not what was read long before that connection's end.
    let mut kept = story();
    kept.leaves(121 + long()).comes(130 + long()).read(140 + long(), 1);
    kept.is_wrong_only_with(&[Wrong::Duplicated]);
    // For the first time and behind a later one: it is in no order.
    let mut behind = plain();
    behind.sent(100, 1).sent(100, 2).acked(110, 1).acked(110, 2).read(120, 2).read(130, 1);
    behind.is_wrong_only_with(&[Wrong::Reordered]);
}

#[test]
fn a_device_without_places_is_never_shown_what_its_account_has_sent_to_others() {
    let mut story = two_messages();
    // Esa's other device: no copies are for it, and it is not Lost that none come.
    story.0.devices.push(0);
    story.0.plain.insert(OTHER);
    story.happens(0, Event::Online { device: OTHER, relay: 3 });
    story.is_wrong_only_with(&[]);
    let copy = Event::Read { device: OTHER, message: esa(1) };
    story.happens(800, copy).is_wrong_only_with(&[Wrong::Strange]);
    // What it sends itself is acked without a place, and never shown to it.
    let message = Message { from: OTHER, number: 1 };
    let mut own = plain();
    own.0.devices.push(0);
    own.0.plain.insert(OTHER);
    own.happens(0, Event::Online { device: OTHER, relay: 3 });
    own.happens(100, Event::Sent { message, to: 1 });
    own.happens(110, Event::Stored { message, stanza_id: "own".into() });
    own.happens(120, Event::Read { device: FAJAR, message });
    own.happens(120, Event::Delivered { device: ESA, message, stanza_id: "own".into(), seq: 1 });
    own.is_wrong_only_with(&[]);
    own.happens(130, Event::Read { device: OTHER, message }).is_wrong_only_with(&[Wrong::Strange]);
}

#[test]
fn a_device_like_the_originals_has_no_session() {
    let mut story = plain();
    for at in [0, 10] {
        story.happens(at, Event::LoggedIn { device: FAJAR, with: Shown::Password });
    }
    story.is_wrong_only_with(&[]);
}
