//! Which packet it is.

use super::{AccountRequest, ArchiveRequest, Auth, ExplainRequest, PresenceRequest, RosterRequest};
use crate::{
    Malformed, iq,
    object::{Fields, Key},
    tracker::Kind,
};

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
    /// The own account (Part II).
    Account(AccountRequest),
    /// The own log (Part II).
    Archive(ArchiveRequest),
    /// What became of an own message (Part II).
    Explain(ExplainRequest),
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
        let fields = Fields::read(value)?;
        if let Some(stanza) = fields.text(Key::Stanza) {
            return Self::stanza(&stanza, &fields);
        }
        let is = |kind| fields.says(Key::Type, kind);
        Ok(match () {
            () if is("auth") => Self::Auth(Auth::read(&fields)),
            () if is("get_relay_less_connection") => Self::GetRelay,
            () if Kind::of(&fields).is_some() => Self::Hello,
            () => Self::Ignored,
        })
    }

    fn stanza(stanza: &str, fields: &Fields<'_>) -> Result<Self, Malformed> {
        if stanza.eq_ignore_ascii_case("presence") {
            return Ok(PresenceRequest::read(fields).map_or(Self::Ignored, Self::Presence));
        }
        if !stanza.eq_ignore_ascii_case("iq") {
            return Ok(Self::Ignored);
        }
        if fields.says(Key::Namespace, "roster") {
            return Ok(RosterRequest::read(fields)?.map_or(Self::Ignored, Self::Roster));
        }
        if fields.says(Key::Namespace, "account") {
            return Ok(AccountRequest::read(fields)?.map_or(Self::Ignored, Self::Account));
        }
        if fields.says(Key::Namespace, "archive") {
            return Ok(ArchiveRequest::read(fields)?.map_or(Self::Ignored, Self::Archive));
        }
        if fields.says(Key::Namespace, "explain") {
            return Ok(ExplainRequest::read(fields)?.map_or(Self::Ignored, Self::Explain));
        }
        Ok(iq::Request::of(fields).map_or(Self::Ignored, Self::Iq))
    }
}
