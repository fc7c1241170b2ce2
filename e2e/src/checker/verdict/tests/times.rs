//! Bounds of time.

use super::*;

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

/// Online for four seconds of five, until a moment.
fn comes_and_goes(story: &mut Story, device: Device, until: u32) -> &mut Story {
    for at in (4000..until).step_by(5000) {
        story.happens(at, Event::Offline { device }).happens(at + 1000, Event::Online { device, relay: 2 });
    }
    story
}

#[test]
fn a_device_that_comes_and_goes_is_not_kept_waiting_for_ever() {
    let delivered = |at| {
        let mut story = Story::begins();
        comes_and_goes(story.sent(0, 1).acked(0, 1), FAJAR, at).delivered(at, 1);
        story
    };
    // Three times four seconds.
    delivered(11_900).is_wrong_only_with(&[]);
    delivered(13_900).is_wrong_only_with(&[Wrong::Late]);
    // Disturbed all the time.
    delivered(53_000).disturbed(0, 60_000, Place::Relay(2)).is_wrong_only_with(&[]);
}

#[test]
fn a_sender_that_comes_and_goes_is_answered() {
    let refused = |at| {
        let mut story = Story::begins();
        comes_and_goes(story.sent(0, 1), ESA, at).happens(at, Event::Refused { message: esa(1) });
        // Acked is another matter.
        story.disturbed(at, at + 10, Place::Everywhere);
        story
    };
    let limbo = |story: Story| {
        let verdict = judge(&story.0);
        verdict.wrongs.iter().any(|(wrong, what)| *wrong == Wrong::Limbo && what.contains("no answer"))
    };
    assert!(!limbo(refused(20_900)));
    assert!(limbo(refused(23_900)));
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

/// Refused every quarter of a second from then on, and sent again after that, until just before `until`.
fn refused_until(story: &mut Story, until: u32) -> &mut Story {
    for at in (250..until).step_by(250) {
        story.happens(at, Event::Refused { message: esa(1) }).sent(at, 1);
    }
    story
}

#[test]
fn to_be_told_to_wait_is_no_acknowledgement() {
    let too_late = 101 + u32::try_from(ACKED_WITHIN.as_millis()).unwrap();
    let acked = |at| {
        let mut story = Story::begins();
        refused_until(story.sent(100, 1), at).acked(at, 1).delivered(at, 1);
        story
    };
    acked(too_late - 1).is_wrong_only_with(&[]);
    assert_eq!(judge(&acked(too_late - 1).0).figures.longest_quiet_ack, ACKED_WITHIN);
    acked(too_late).is_wrong_only_with(&[Wrong::Unacked]);
    // Never.
    let mut never = Story::begins();
    refused_until(never.sent(100, 1), too_late).ends(too_late);
    never.is_wrong_only_with(&[Wrong::Unacked, Wrong::Limbo]);
    // Acked again, much later: it was known long before.
    acked(300).acked(20_000, 1).is_wrong_only_with(&[]);
}

#[test]
fn an_ack_is_late_only_by_undisturbed_time_of_all_the_senders_connections() {
    let too_late = 101 + u32::try_from(ACKED_WITHIN.as_millis()).unwrap();
    let disturbed = |from, until, place, acked| {
        let mut story = Story::begins();
        refused_until(story.sent(100, 1), acked).acked(acked, 1).delivered(acked, 1);
        story.disturbed(from, until, place);
        story
    };
    // Where the sender is, or everywhere; not where the receiver is.
    disturbed(1000, 2000, Place::Relay(1), too_late + 999).is_wrong_only_with(&[]);
    disturbed(1000, 2000, Place::Everywhere, too_late + 999).is_wrong_only_with(&[]);
    disturbed(1000, 2000, Place::Relay(2), too_late).is_wrong_only_with(&[Wrong::Unacked]);
    // Less than the bound before a disturbance, and less than that after it, but more together.
    disturbed(5000, 6000, Place::Relay(1), too_late + 1000).is_wrong_only_with(&[Wrong::Unacked]);
    // A new connection is no new beginning; while the sender is away nobody can tell it anything.
    let moved = |acked| {
        let mut story = Story::begins();
        refused_until(story.sent(100, 1), 4000).happens(4000, Event::Offline { device: ESA });
        story.happens(9000, Event::Online { device: ESA, relay: 2 }).sent(9000, 1);
        story.happens(9001, Event::Refused { message: esa(1) }).sent(9500, 1);
        story.acked(acked, 1).delivered(acked, 1);
        story
    };
    moved(too_late + 4999).is_wrong_only_with(&[]);
    moved(too_late + 5000).is_wrong_only_with(&[Wrong::Unacked]);
}
