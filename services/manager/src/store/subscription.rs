//! What a pair of contacts is to each other, and how adding and removing changes it (PROTOCOL §3, M17 and M22).

use std::fmt;

use sea_orm::{DeriveActiveEnum, EnumIter};

/// What an entry means to the roster's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum Subscription {
    /// The owner sees the contact's presence.
    #[sea_orm(string_value = "to")]
    To,
    /// The contact sees the owner's presence.
    #[sea_orm(string_value = "from")]
    From,
    #[sea_orm(string_value = "both")]
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

/// One side of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: Option<String>,
    pub(super) subscription: Subscription,
}

/// What two users have in their rosters about each other, from the view of the one who asks for a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) mine: Option<Entry>,
    pub(super) theirs: Option<Entry>,
}

/// Why a contact is not removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    NotAContact,
    /// The entry is there only because the other side added me.
    NotMine,
}

impl Pair {
    /// I want to see them, and call them `name`. What they call me stays.
    pub(super) fn added(self, name: Option<String>) -> Pair {
        let mine = self.mine.map(|entry| entry.subscription);
        let theirs = self.theirs.as_ref().map(|entry| entry.subscription);
        let they_see_me =
            theirs.is_some_and(Subscription::sees_contact) || mine.is_some_and(Subscription::seen_by_contact);
        let (mine, theirs) = if they_see_me {
            (Subscription::Both, Subscription::Both)
        } else {
            (Subscription::To, Subscription::From)
        };
        let their_name = self.theirs.and_then(|entry| entry.name);
        Pair {
            mine: Some(Entry { name, subscription: mine }),
            theirs: Some(Entry { name: their_name, subscription: theirs }),
        }
    }

    /// I no longer want to see them. Whether they see me is theirs to change.
    pub(super) fn removed(self) -> Result<Pair, Refused> {
        match self.mine.as_ref().map(|entry| entry.subscription) {
            None => Err(Refused::NotAContact),
            Some(Subscription::From) => Err(Refused::NotMine),
            Some(Subscription::To) => Ok(Pair::default()),
            Some(Subscription::Both) => Ok(Pair {
                mine: self.mine.map(|entry| Entry { subscription: Subscription::From, ..entry }),
                theirs: self.theirs.map(|entry| Entry { subscription: Subscription::To, ..entry }),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use Subscription::{Both, From, To};

    use super::*;

    fn pair(mine: Subscription, theirs: Subscription) -> Pair {
        let entry = |name: &str, subscription| Some(Entry { name: Some(name.to_owned()), subscription });
        Pair { mine: entry("them", mine), theirs: entry("me", theirs) }
    }

    fn subscriptions(pair: &Pair) -> (Option<Subscription>, Option<Subscription>) {
        (pair.mine.as_ref().map(|e| e.subscription), pair.theirs.as_ref().map(|e| e.subscription))
    }

    #[test]
    fn m17_adding_a_stranger_gives_to_and_silently_from() {
        let added = Pair::default().added(Some("author".to_owned()));
        assert_eq!(subscriptions(&added), (Some(To), Some(From)));
        assert_eq!(added.mine.unwrap().name.as_deref(), Some("author"));
        assert_eq!(added.theirs.unwrap().name, None);
    }

    #[test]
    fn m17_adding_who_added_me_gives_both() {
        assert_eq!(subscriptions(&pair(From, To).added(None)), (Some(Both), Some(Both)));
    }

    #[test]
    fn m19_adding_a_contact_again_renames_and_nothing_else() {
        for (mine, theirs) in [(To, From), (Both, Both)] {
            let renamed = pair(mine, theirs).added(Some("new".to_owned()));
            assert_eq!(subscriptions(&renamed), (Some(mine), Some(theirs)));
            assert_eq!(renamed.mine.unwrap().name.as_deref(), Some("new"));
            assert_eq!(renamed.theirs.unwrap().name.as_deref(), Some("me"));
        }
    }

    #[test]
    fn m22_removing_from_both_leaves_them_seeing_me_under_the_same_names() {
        let removed = pair(Both, Both).removed().unwrap();
        assert_eq!(removed, pair(From, To));
    }

    #[test]
    fn m22_removing_to_removes_both_rows() {
        assert_eq!(pair(To, From).removed(), Ok(Pair::default()));
    }

    #[test]
    fn m21_removing_a_stranger_or_an_entry_that_the_other_side_made_is_refused() {
        assert_eq!(Pair::default().removed(), Err(Refused::NotAContact));
        assert_eq!(pair(From, To).removed(), Err(Refused::NotMine));
    }

    #[test]
    fn both_sides_always_agree_on_who_sees_whom() {
        for before in [Pair::default(), pair(To, From), pair(From, To), pair(Both, Both)] {
            for after in [Some(before.clone().added(None)), before.removed().ok()].into_iter().flatten() {
                let mirrored = matches!(
                    subscriptions(&after),
                    (None, None) | (Some(To), Some(From)) | (Some(From), Some(To)) | (Some(Both), Some(Both))
                );
                assert!(mirrored, "{after:?}");
            }
        }
    }
}
