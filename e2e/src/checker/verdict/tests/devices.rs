//! Several devices of one account, and what a device is shown of its own.

use super::*;

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
