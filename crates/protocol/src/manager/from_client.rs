//! Which packet it is.

use super::{Auth, PresenceRequest, RosterRequest};
use crate::{Malformed, iq};

/// What clients send to a manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromClient {
    /// The first packet: no answer.
    Hello,
    /// Register or log in.
    Auth(Auth),
    /// `get_relay_less_connection` (M14).
    GetRelay,
    /// Contacts (§3).
    Roster(RosterRequest),
    /// Presence (§4).
    Presence(PresenceRequest),
    /// Answered by [`iq::Request::answer`], before login by [`iq::Request::answer_before_login`].
    Iq(iq::Request),
    /// Fits no row: no answer (M32).
    Ignored,
}

impl FromClient {
    /// Reads one value.
    pub fn parse(value: &str) -> Result<Self, Malformed> {
        let _ = value;
        todo!()
    }
}
