//! Devices that do not go by places.

use super::*;

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
