//! What is wrong with a history.

mod court;
mod sockets;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use self::court::Court;
use super::history::History;
use super::quiet::Waited;

/// A stored message reaches every device that is online so soon, whatever has died meanwhile. Counted from the sender's ack,
/// and only while nothing is under way that excuses a delay ([`Quiet`](super::quiet::Quiet)). To a device that comes and goes, within
/// twice so long in all ([`Waited::is_over`]).
pub const DELIVERED_WITHIN: Duration = Duration::from_secs(5);

/// A relay tells the sender so soon what became of a message, or at least to send it again: two managers that do not answer
/// take it 2 s each, for the message itself and for the batch before it; and a second for a machine that is busy with other
/// things. Over several connections twice so long in all.
pub const ANSWERED_WITHIN: Duration = Duration::from_secs(9);

/// A message is acknowledged so soon after it was first sent, however often it was refused meanwhile, and on however many
/// connections it was sent. Only the time counts in which its sender is online and nothing is under way that excuses a delay; a manager that has died
/// does not, for there is another one.
///
/// At worst a manager dies with the batch before it (2 s without an answer), leaves locks with which the next one gives up (2 s), and
/// then this message is tried at the same two (2 s, and stored at once: by then the database has ended what was left behind). Or it
/// is refused after both, and comes again a moment later to the first (2 s more). That is 8 s, and two for a busy machine.
pub const ACKED_WITHIN: Duration = Duration::from_secs(10);

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// Acknowledged, and a device of the receiver never got it.
    Lost,
    /// A device got it twice, or was shown its own on the connection that it sent it on, or was told on.
    Duplicated,
    /// Got, or stored, after a later one of the same sender; or places in a log that do not grow.
    Reordered,
    /// Got later than [`DELIVERED_WITHIN`].
    Late,
    /// Acknowledged, or not even that, later than [`ACKED_WITHIN`]: to be told to wait is no acknowledgement.
    Unacked,
    /// Neither acknowledged in the end, nor answered within [`ANSWERED_WITHIN`].
    Limbo,
    /// Asked for its password, though its session was good.
    LoggedOut,
    /// What the protocol does not allow.
    Strange,
}

/// What a history comes to.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// What is wrong, and with what.
    pub wrongs: Vec<(Wrong, String)>,
    /// How much happened.
    pub figures: Figures,
}

/// How much happened, and how long it took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Messages sent.
    pub sent: usize,
    /// Times that one was sent again.
    pub again: usize,
    /// Times that one was refused for now.
    pub refused: usize,
    /// Messages acknowledged.
    pub acked: usize,
    /// Messages read, by each device.
    pub delivered: usize,
    /// Messages that a device without places read again on a later connection: its cursor had not been stored.
    pub repeated: usize,
    /// Messages that such a device did not get, whose connection ended when they may have been on their way.
    pub gone: usize,
    /// Times that a device came online.
    pub came_online: usize,
    /// Logins with a password.
    pub by_password: usize,
    /// Logins with a session.
    pub by_session: usize,
    /// From the first time that a message was sent to its ack, through every fault.
    pub longest_ack: Duration,
    /// The same, only undisturbed time with the sender online.
    pub longest_quiet_ack: Duration,
    /// From a message's ack to its delivery, through every fault and absence.
    pub longest_delivery: Duration,
    /// The same, only undisturbed time with the device online.
    pub longest_quiet_delivery: Waited,
}

/// Judges a history that is over: nothing is on its way any more.
pub fn judge(history: &History) -> Verdict {
    let mut court = Court::new(history);
    for record in &history.records {
        court.hears(record.at, &record.event);
    }
    court.closes()
}

impl Verdict {
    /// How often something was wrong.
    pub fn count(&self, wrong: Wrong) -> usize {
        self.wrongs.iter().filter(|(kind, _)| *kind == wrong).count()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = &self.figures;
        writeln!(
            f,
            "messages: {} sent ({} times again, {} times refused), {} acked, {} delivered\n\
             to devices without places: {} again on a later connection, {} gone with a connection\n\
             devices: came online {} times, logged in {} times by password and {} times by session",
            figures.sent,
            figures.again,
            figures.refused,
            figures.acked,
            figures.delivered,
            figures.repeated,
            figures.gone,
            figures.came_online,
            figures.by_password,
            figures.by_session
        )?;
        let kinds = [
            Wrong::Lost,
            Wrong::Duplicated,
            Wrong::Reordered,
            Wrong::Late,
            Wrong::Unacked,
            Wrong::Limbo,
            Wrong::LoggedOut,
            Wrong::Strange,
        ];
        for kind in kinds {
            write!(f, "{}: {}  ", format!("{kind:?}").to_lowercase(), self.count(kind))?;
        }
        write!(
            f,
            "\nlongest ack {:.2?}, undisturbed {:.2?} (bound {ACKED_WITHIN:?}); \
             longest delivery {:.2?}, undisturbed {} (bound {DELIVERED_WITHIN:?})",
            figures.longest_ack,
            figures.longest_quiet_ack,
            figures.longest_delivery,
            figures.longest_quiet_delivery
        )
    }
}
