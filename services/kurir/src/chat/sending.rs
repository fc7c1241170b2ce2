//! Messages on their way into the queue. No IO.
//!
//! While the queue is full the line that found no room is held, and no later one is read: the order stays, and a pipe's
//! writer waits. What makes room is that a message is settled, and that is told.

use kurir_client::{Event, NewMessage};

/// Whether the queue takes messages, and the one that waits for that.
#[derive(Debug, Default)]
pub(super) struct Sending {
    held: Option<NewMessage>,
    /// The last try found no room.
    full: bool,
    /// It was said that this waits.
    waits: bool,
    /// Something was settled since the last try began.
    settled: bool,
}

impl Sending {
    /// A message is being tried: what is settled from now on may make room.
    pub(super) fn tries(&mut self) {
        (self.full, self.settled) = (false, false);
    }

    /// There was no room.
    pub(super) fn found_no_room(&mut self) {
        self.full = true;
    }

    /// Keeps the line that found no room. True for the first one since there was some.
    pub(super) fn hold(&mut self, message: NewMessage) -> bool {
        self.held = Some(message);
        !std::mem::replace(&mut self.waits, true)
    }

    /// A message is in the queue.
    pub(super) fn found_room(&mut self) {
        self.waits = false;
    }

    /// Takes an event in.
    pub(super) fn hear(&mut self, event: &Event) {
        self.settled |= matches!(event, Event::Stored { .. } | Event::Refused { .. } | Event::Expired(_));
    }

    /// Trying now would be in vain.
    pub(super) fn must_wait(&self) -> bool {
        self.full && !self.settled
    }

    /// A line is held: no other may pass it.
    pub(super) fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// The line that is held, to be tried again or given up.
    pub(super) fn take(&mut self) -> Option<NewMessage> {
        self.held.take()
    }
}

#[cfg(test)]
mod tests {
    use kurir_client::Waiting;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_is_held_until_something_is_settled_also_while_it_was_being_tried() {
        let id = serde_json::from_value(json!("00000000-0000-0000-0000-000000000001")).unwrap();
        let message = NewMessage::text("fajar", "halo");
        let waiting = Waiting { id, since_ms: 0, expired: true, message: message.clone() };
        for event in [Event::Stored { id, stanza_id: "s".into(), seq: None }, Event::Expired(waiting)] {
            for (before, during, after) in [(false, false, true), (false, true, false), (true, false, false)]
            {
                let mut sending = Sending::default();
                assert!(!sending.must_wait());
                if before {
                    sending.hear(&event);
                }
                sending.tries();
                if during {
                    sending.hear(&event);
                }
                sending.found_no_room();
                assert!(sending.hold(message.clone()));
                assert!(!sending.hold(message.clone()), "the same line again");
                sending.hear(&Event::Sent { id });
                assert_eq!((sending.must_wait(), sending.holds()), (!during, true));
                if after {
                    sending.hear(&event);
                }
                assert_eq!(sending.must_wait(), before);
                assert_eq!((sending.take(), sending.holds()), (Some(message.clone()), false));
            }
        }
    }
}
