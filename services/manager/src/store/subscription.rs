//! What a pair of contacts is to each other, and how adding and removing changes it (PROTOCOL §3, M17 and M22).

use std::fmt;

/// What an entry means to the roster's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subscription {
    /// The owner sees the contact's presence.
    To,
    /// The contact sees the owner's presence.
    From,
    Both,
}

impl Subscription {
    pub fn as_str(self) -> &'static str {
        match self {
            Subscription::To => "to",
            Subscription::From => "from",
            Subscription::Both => "both",
        }
    }

    /// `to` or `both`: the contact's presence is shown to the owner.
    pub fn sees_contact(self) -> bool {
        matches!(self, Subscription::To | Subscription::Both)
    }

    /// `from` or `both`: the owner's presence is shown to the contact.
    pub fn seen_by_contact(self) -> bool {
        matches!(self, Subscription::From | Subscription::Both)
    }
}

impl fmt::Display for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
