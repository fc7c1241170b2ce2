//! The relay's client socket (PROTOCOL §5).

mod message;

pub use message::Message;

use crate::{Malformed, iq};

/// What clients send to a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromClient<'a> {
    /// Makes the user reachable here (R5, R6).
    Hello(Hello),
    /// To be routed (R13).
    Message(Message<'a>),
    /// Answered by [`iq::Request::answer`], before the hello by [`iq::Request::answer_before_login`].
    Iq(iq::Request),
    /// Fits no row: no answer (R26).
    Ignored,
}

impl<'a> FromClient<'a> {
    /// Reads one value, borrowed: on a message's way nothing is allocated.
    pub fn parse(value: &'a str) -> Result<Self, Malformed> {
        let _ = value;
        todo!()
    }
}

/// The first packet on a relay's socket. Its `Debug` hides the token.
#[derive(Clone, PartialEq, Eq)]
pub struct Hello {
    /// Who says to be here; none where it is no string.
    pub username: Option<String>,
    /// The ticket; absent in the original's hello. One that is no string comes as an empty one, which no relay admits.
    pub token: Option<String>,
}

impl std::fmt::Debug for Hello {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        f.debug_struct("Hello").field("username", &self.username).field("token", &token).finish()
    }
}
