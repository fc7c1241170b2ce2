//! The handle and its requests.

use crate::error::{ConnectError, PresenceError, RequestError, SendError};
use crate::event::{Events, Presence, RosterItem};
use crate::options::Options;

/// A connected user. Clones are handles of the same session; when the last one is dropped, the connections are closed,
/// which counts as a logout (M31).
#[derive(Debug, Clone)]
pub struct Client {}

impl Client {
    /// Finds a manager (U1), registers or logs in (U2–U4), connects to a relay (U5), sends the initial presence and asks
    /// for the roster (U6). Returns once all of that is answered.
    pub async fn connect(options: Options) -> Result<(Self, Events), ConnectError> {
        todo!("{options:?}")
    }

    /// The name that this client was given.
    pub fn username(&self) -> &str {
        todo!()
    }

    /// Sends a message (U14). `Ok` when the relay's socket took all of it; if it reaches nobody, an
    /// [`Event::MessageFailed`](crate::Event::MessageFailed) follows.
    pub async fn send_message(&self, to: &str, body: &str) -> Result<(), SendError> {
        todo!("{to}{body}")
    }

    /// The roster (U7).
    pub async fn roster(&self) -> Result<Vec<RosterItem>, RequestError> {
        todo!()
    }

    /// Adds a contact (U8); the item as it is then.
    pub async fn add(&self, jid: &str, name: Option<&str>) -> Result<RosterItem, RequestError> {
        todo!("{jid}{name:?}")
    }

    /// Renames a contact (U9); the item as it is then.
    pub async fn rename(&self, jid: &str, name: Option<&str>) -> Result<RosterItem, RequestError> {
        todo!("{jid}{name:?}")
    }

    /// Removes a contact (U10).
    pub async fn remove(&self, jid: &str) -> Result<(), RequestError> {
        todo!("{jid}")
    }

    /// Changes what others see of this user (U12). `Ok` when the manager has handled it.
    pub async fn bio(&self, bio: &str) -> Result<(), RequestError> {
        todo!("{bio}")
    }

    /// Asks for anybody's presence, showing them one's own (U11).
    pub async fn presence(&self, of: &str) -> Result<Presence, PresenceError> {
        todo!("{of}")
    }

    /// Logs out (U13) and ends the session. Bounded by [`Timing::logout`](crate::Timing::logout).
    pub async fn logout(&self) {
        todo!()
    }
}
