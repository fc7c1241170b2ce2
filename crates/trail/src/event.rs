//! What can become of a message. The words are what `kurir explain` prints and what is stored: they do not change.

use std::sync::Arc;

use uuid::Uuid;

use crate::Device;

/// One thing that became of a message, or how far a connection has come.
#[derive(Debug, Clone)]
pub struct Event {
    /// Microseconds since the Unix epoch, by this machine's clock.
    pub at_us: i64,
    /// What happened.
    pub step: Step,
    /// Why.
    pub reason: Reason,
    /// The message. None: everything up to `seq` on this connection, or a message that was not stored.
    pub stanza_id: Option<Uuid>,
    /// Whose log `seq` counts in, and at which of its devices it happened.
    pub device: Arc<Device>,
    /// The place in that log; 0: none.
    pub seq: u64,
    /// As the sender gave it: what finds the attempts that were refused.
    pub message_id: Option<Box<str>>,
    /// The other component in it.
    pub peer: Option<Arc<str>>,
    /// Attempts, messages of the transaction, or relays that were told.
    pub count: u32,
    /// How long it took, in microseconds.
    pub took_us: u32,
}

impl Event {
    /// An event that says nothing more than this.
    pub fn new(at_us: i64, step: Step, device: &Arc<Device>) -> Self {
        Self {
            at_us,
            step,
            reason: Reason::None,
            stanza_id: None,
            device: Arc::clone(device),
            seq: 0,
            message_id: None,
            peer: None,
            count: 0,
            took_us: 0,
        }
    }

    /// How far a connection has come, for all messages up to there.
    pub(crate) fn is_progress(&self) -> bool {
        let of_connection = matches!(self.step, Step::Heard | Step::Written | Step::Acked | Step::Lost);
        self.stanza_id.is_none() && of_connection
    }

    /// What two events are the same by: a trail may be asked for in two places.
    pub(crate) fn order(&self) -> (i64, Step, u64) {
        (self.at_us, self.step, self.seq)
    }
}

macro_rules! words {
    ($(#[$outer:meta])* $name:ident { $($(#[$meta:meta])* $variant:ident $word:literal)* }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$meta])* $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word for it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }

            /// What the word says; none: a word of a later version.
            pub fn of(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.as_str() == word)
            }
        }
    };
}

words! {
    /// What happened, in the order in which a message meets it: of two at one moment the earlier one is shown first.
    Step {
        /// Sender's relay: it came from the client, and waits to be stored.
        Accepted "accepted"
        /// Sender's relay: the sender was told that it is not stored.
        Refused "refused"
        /// Manager: the transaction that has it is on disk, or another one had it before.
        Committed "committed"
        /// Manager: the relays attached there were told that the receiver's log has grown.
        Announced "announced"
        /// Sender's relay: a manager has answered that it is stored.
        Stored "stored"
        /// Sender's relay: the acknowledgement is in the sender's outbox.
        Confirmed "confirmed"
        /// Device's relay: the device came after the message, and this is when.
        Connected "connected"
        /// Device's relay: a log that a device here reads has grown.
        Heard "heard"
        /// Device's relay: read from the log, and in the device's outbox.
        Read "read"
        /// Device's relay: read from the log, and not for this device.
        Skipped "skipped"
        /// Device's relay: its socket has taken everything up to here.
        Written "written"
        /// Device's relay: the device has said that it has everything up to here.
        Acked "acked"
        /// Device's relay: the connection ended before its socket had taken what was read for it.
        Lost "lost"
    }
}

impl Step {
    /// Whether it can happen to one message any number of times.
    pub fn repeats(self) -> bool {
        matches!(self, Step::Read | Step::Skipped | Step::Refused)
    }
}

words! {
    /// Why it happened.
    Reason {
        /// Nothing more to say.
        None ""
        /// Refused: no manager is attached to the relay.
        NoManager "no-manager"
        /// Refused: no manager has answered that it is stored. It may be stored all the same.
        NoAnswer "no-answer"
        /// Refused: too much waits to be stored (`relay.tracked_bytes`).
        QueueFull "queue-full"
        /// Refused: another message of this sender was refused, and has to come first.
        OutOfTurn "out-of-turn"
        /// Refused: the device has used the id for other content.
        Conflict "conflict"
        /// Refused: there is no such receiver.
        NoAccount "no-account"
        /// Stored, committed: it was stored before, and nothing was changed.
        Repeated "repeated"
        /// Confirmed: only when everything before it in the sender's log had been sent to the device.
        InTurn "in-turn"
        /// Heard: a manager told it.
        Announcement "announcement"
        /// Heard: this relay asked by itself, as it does every few seconds.
        Question "question"
        /// Skipped: the device has sent it itself.
        OwnMessage "own-message"
        /// Skipped: what another device of the account has sent is not for a client of the original.
        CopyToOriginalClient "copy-to-original-client"
        /// Lost: the device did not read what was sent to it.
        SlowConsumer "slow-consumer"
        /// Lost: the device closed the connection.
        ClosedByDevice "closed-by-device"
        /// Lost: the network did.
        ConnectionLost "connection-lost"
        /// Lost: the relay closed the connection, for a newer one or because its login was over.
        ClosedByRelay "closed-by-relay"
        /// Lost: the relay stops.
        RelayStops "relay-stops"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_means_one_thing() {
        for step in Step::ALL {
            assert_eq!(Step::of(step.as_str()), Some(*step));
        }
        for reason in Reason::ALL {
            assert_eq!(Reason::of(reason.as_str()), Some(*reason));
        }
        assert_eq!(Step::of("teleported"), None);
    }

    /// 65,536 of them are what `docs/configuration.md` says.
    #[test]
    fn an_event_is_small() {
        assert!(size_of::<Event>() <= 96, "{}", size_of::<Event>());
    }
}
