//! Contacts (PROTOCOL §3).

use std::{fmt, str::FromStr};

use crate::{iq, name::UserKey};

/// A request about the own roster.
///
/// The table of invalid things applies in this order: not logged in ([`RosterCondition::NotLoggedIn`]);
/// [`RosterAction::Bad`]; [`Sender::is`] says no ([`RosterCondition::Forbidden`]); then what only the roster can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RosterRequest {
    /// To be echoed.
    pub id: Option<iq::Id>,
    /// What is asked for.
    pub action: RosterAction,
}

/// What a [`RosterRequest`] asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RosterAction {
    /// The whole roster.
    Get {
        /// Whose.
        from: Sender,
    },
    /// Add or rename (M15, M19).
    Set {
        /// In whose roster.
        from: Sender,
        /// The contact, as the client wrote it.
        jid: String,
        /// Its name there.
        name: NewName,
    },
    /// Remove (M20).
    Remove {
        /// In whose roster.
        from: Sender,
        /// The contact, as the client wrote it.
        jid: String,
    },
    /// Answered with [`RosterCondition::BadRequest`].
    Bad,
}

/// The name that a set gives a contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewName {
    /// The set has no `name`: a contact that is there keeps its own, a new one has none.
    Keep,
    /// This one, or explicitly none.
    Set(Option<String>),
}

/// A `from` as the client wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender(String);

impl Sender {
    /// Whether it names this user.
    pub fn is(&self, user: &UserKey) -> bool {
        let _ = user;
        todo!()
    }
}

/// Why a roster request is refused: RFC 6120 error type and condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RosterCondition {
    /// auth, not-authorized.
    NotLoggedIn,
    /// modify, bad-request.
    BadRequest,
    /// auth, forbidden: somebody else's roster.
    Forbidden,
    /// cancel, not-allowed: oneself, or removing an item that the other side made.
    NotAllowed,
    /// cancel, item-not-found.
    ItemNotFound,
    /// wait, resource-constraint: database away or busy. Part I has no row for it; never one that blames the user.
    Temporary,
}

/// Who of two contacts sees whose presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subscription {
    /// I see theirs.
    To,
    /// They see mine.
    From,
    /// Each sees the other's.
    Both,
}

impl Subscription {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::To => "to",
            Self::From => "from",
            Self::Both => "both",
        }
    }
}

impl fmt::Display for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not `to`, `from` or `both`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a subscription")]
pub struct BadSubscription;

impl FromStr for Subscription {
    type Err = BadSubscription;

    /// Compares without case.
    fn from_str(text: &str) -> Result<Self, BadSubscription> {
        [Self::To, Self::From, Self::Both]
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(text))
            .ok_or(BadSubscription)
    }
}

/// One contact as its owner is shown it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The contact's name as registered.
    pub jid: String,
    /// What the owner calls it; none where the other side made the item.
    pub name: Option<String>,
    /// Who sees whom.
    pub subscription: Subscription,
}
