//! Contacts (PROTOCOL §3).

use std::{fmt, str::FromStr};

use crate::{
    Malformed, iq,
    name::{Address, UserKey},
    object::{Fields, Key, is_null, text},
};

/// A request about the own roster.
///
/// The table of invalid things applies in this order: not logged in ([`iq::Condition::NotLoggedIn`]);
/// [`RosterAction::Bad`]; [`Sender::is`] says no ([`iq::Condition::Forbidden`]); then what only the roster can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RosterRequest {
    /// To be echoed.
    pub id: Option<iq::Id>,
    /// What is asked for.
    pub action: RosterAction,
}

impl RosterRequest {
    /// None where an iq asks for nothing: a result or an error.
    pub(super) fn read(iq: &Fields<'_>) -> Result<Option<Self>, Malformed> {
        let query = iq.object(Key::Query)?;
        let item = query.as_ref().map(|query| query.object(Key::Item)).transpose()?.flatten();
        let from = iq.text(Key::From).map(|from| Sender(from.into_owned()));
        let action = match iq::Kind::of(iq) {
            iq::Kind::Answer => return Ok(None),
            iq::Kind::Get => from.filter(|_| query.is_some()).map(|from| RosterAction::Get { from }),
            iq::Kind::Set => from
                .zip(item)
                .and_then(|(from, item)| RosterAction::set(from, &item, iq.given(Key::Subscription))),
            iq::Kind::Bad => None,
        };
        Ok(Some(Self { id: iq::Id::of(iq), action: action.unwrap_or(RosterAction::Bad) }))
    }
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
    /// Answered with [`iq::Condition::BadRequest`].
    Bad,
}

impl RosterAction {
    fn set(from: Sender, item: &Fields<'_>, subscription: Option<&str>) -> Option<Self> {
        let jid = item.text(Key::Jid)?.into_owned();
        let name = NewName::read(item)?;
        match subscription {
            None => Some(Self::Set { from, jid, name }),
            Some(remove) if text(remove)?.eq_ignore_ascii_case("remove") => Some(Self::Remove { from, jid }),
            Some(_) => None,
        }
    }
}

/// The name that a set gives a contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewName {
    /// The set has no `name`: a contact that is there keeps its own, a new one has none.
    Keep,
    /// This one, or explicitly none.
    Set(Option<String>),
}

impl NewName {
    /// None where it is neither string nor null.
    fn read(item: &Fields<'_>) -> Option<Self> {
        match item.raw(Key::Name) {
            None => Some(Self::Keep),
            Some(raw) if is_null(raw) => Some(Self::Set(None)),
            Some(raw) => text(raw).map(|name| Self::Set(Some(name.into_owned()))),
        }
    }
}

/// A `from` as the client wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender(String);

impl Sender {
    /// Whether it names this user, by name or by an address of `domain`.
    pub fn is(&self, user: &UserKey, domain: &str) -> bool {
        let address = Address::of(&self.0);
        address.is_at(domain) && UserKey::map(address.name).is_some_and(|key| key == user.as_str())
    }

    pub(super) fn of(name: String) -> Self {
        Self(name)
    }
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
