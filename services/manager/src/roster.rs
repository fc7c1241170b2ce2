//! Contacts (PROTOCOL §3, rows M15–M23). The checks stand in the order of the table of invalid requests.

use std::borrow::Cow;

use kurir_protocol::{
    iq::{self, Condition},
    manager::{self, Item, NewName, RosterAction, RosterRequest, Sender, ToClient},
    name::{LoginId, Resource, UserKey, Username},
};

use crate::{
    manager::{Manager, Temporary},
    news::{News, Version, What, presence_of_account},
    online::Online,
    shown,
    store::{self, AccountId, Added, RosterError, StoreError, Subscription},
};

/// A contact who is to be told her item for `user`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Subscribed {
    user: UserKey,
    contact: UserKey,
    contact_account: AccountId,
}

/// A request of a user who is logged in.
struct Asked<'a> {
    online: &'a Online,
    id: Option<&'a iq::Id>,
}

/// Why a request is refused.
enum Refused {
    Condition(Condition),
    Temporary(Temporary),
}

impl Manager {
    /// Answers a roster request, and tells the contact what it changed.
    pub(crate) async fn roster(&self, online: &Online, request: &RosterRequest, replies: &mut Vec<u8>) {
        let asked = Asked { online, id: request.id.as_ref() };
        let answered = match &request.action {
            RosterAction::Bad => Err(Refused::Condition(Condition::BadRequest)),
            RosterAction::Get { from } => self.get(&asked, from, replies).await,
            RosterAction::Set { from, jid, name } => self.set(&asked, from, jid, name, replies).await,
            RosterAction::Remove { from, jid } => self.remove(&asked, from, jid, replies).await,
        };
        let condition = match answered {
            Ok(()) => return,
            Err(Refused::Condition(condition)) => condition,
            Err(Refused::Temporary(error)) => {
                tracing::warn!(user = %online.user, error = &error as &dyn std::error::Error, "roster request failed");
                Condition::Temporary
            }
        };
        let to = Some(online.reader().to);
        ToClient::RosterError { condition, to, id: asked.id }.write(replies);
    }

    async fn get(&self, asked: &Asked<'_>, from: &Sender, replies: &mut Vec<u8>) -> Result<(), Refused> {
        self.must_be(asked, from)?;
        let contacts = self.store.roster(asked.online.account).await?;
        let items: Vec<Item> = contacts.into_iter().map(|contact| item(contact.item)).collect();
        ToClient::Roster { items: &items, to: asked.to(), id: asked.id }.write(replies);
        Ok(())
    }

    async fn set(
        &self,
        asked: &Asked<'_>,
        from: &Sender,
        jid: &str,
        name: &NewName,
        replies: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        self.must_be(asked, from)?;
        let contact = asked.contact(jid)?;
        let name = match name {
            NewName::Set(name) => name.clone(),
            NewName::Keep => self.name_of(asked.online, &contact).await?,
        };
        // Whatever is told from here on follows the replies.
        asked.online.hold();
        let added = self.store.add_contact(asked.online.account, &contact, name).await?;
        let from = added.contact.username.clone();
        let both = added.mine.subscription == Subscription::Both;
        let mine = item(added.mine.clone());
        ToClient::Subscribed { from: &asked.address(&from), to: asked.to(), item: &mine }.write(replies);
        self.show_contact(asked, &added, replies).await;
        ToClient::RosterSet { to: asked.to(), id: asked.id }.write(replies);
        if both {
            self.tell_subscribed(asked.online, added).await;
        }
        Ok(())
    }

    /// What a contact is called so far, which a set without `name` leaves as it is.
    async fn name_of(&self, me: &Online, contact: &UserKey) -> Result<Option<String>, StoreError> {
        let roster = self.store.roster(me.account).await?;
        Ok(roster.into_iter().find(|known| known.profile.key == *contact).and_then(|known| known.item.name))
    }

    /// The contact's presence, which follows "subscribed" (M18).
    async fn show_contact(&self, asked: &Asked<'_>, added: &Added, replies: &mut Vec<u8>) {
        let contact = &added.contact.key;
        let mark = asked.online.mark();
        let located = self.locate(std::slice::from_ref(contact), Some(asked.online)).await;
        self.owe_unless(located.complete, asked.online);
        let found = located.places.into_iter().next().unwrap_or_default();
        let whose = shown::Contact { key: contact, username: &added.contact.username };
        let online = asked.online.read(&whose, &found, mark);
        let presence = presence_of_account(&added.contact, online);
        let from = &*asked.address(&added.contact.username);
        ToClient::PresenceTo { presence: &presence, from, to: asked.to() }.write(replies);
    }

    /// Her item for me is `both` now: she is told, if she is online.
    async fn tell_subscribed(&self, me: &Online, added: Added) {
        let told = Subscribed {
            user: me.user.clone(),
            contact: added.contact.key,
            contact_account: added.contact.id,
        };
        if !self.tell_item(&told, me.username.clone(), added.theirs, Some(me)).await {
            self.differences.subscribed(told);
        }
    }

    /// The same for a contact who could not be found then, with her item as it is by now. False: not found yet.
    pub(crate) async fn tell_subscribed_late(&self, told: &Subscribed) -> Result<bool, StoreError> {
        let roster = self.store.roster(told.contact_account).await?;
        let both = |entry: &store::Contact| entry.item.subscription == Subscription::Both;
        match roster.into_iter().find(|entry| entry.profile.key == told.user).filter(both) {
            Some(entry) => Ok(self.tell_item(told, entry.profile.username, entry.item, None).await),
            None => Ok(true),
        }
    }

    /// False: the contact may be somewhere.
    async fn tell_item(
        &self,
        told: &Subscribed,
        from: Username,
        theirs: store::Item,
        asker: Option<&Online>,
    ) -> bool {
        let located = self.locate(std::slice::from_ref(&told.contact), asker).await;
        let Some(places) = located.places.first().filter(|places| !places.is_empty()) else {
            return located.complete;
        };
        // No presence: nothing is compared with its version.
        let version = Version { login: LoginId(0), counter: 0 };
        let (about, what) = (told.user.clone(), What::Subscribed(item(theirs)));
        let news = News { about, from, device: Resource::default_device(), version, what };
        self.tell(&news, [(told.contact.clone(), places.as_slice())]);
        true
    }

    /// Nobody touches the roster of somebody else.
    fn must_be(&self, asked: &Asked<'_>, from: &Sender) -> Result<(), Refused> {
        let is = from.is(&asked.online.user, &self.domain);
        if is { Ok(()) } else { Err(Refused::Condition(Condition::Forbidden)) }
    }

    async fn remove(
        &self,
        asked: &Asked<'_>,
        from: &Sender,
        jid: &str,
        replies: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        self.must_be(asked, from)?;
        let contact = asked.contact(jid)?;
        asked.online.hold();
        let removed = self.store.remove_contact(asked.online.account, &contact).await?;
        asked.online.forget(&contact);
        let from = &*asked.address(&removed.contact.username);
        ToClient::Unsubscribed { from, to: asked.to() }.write(replies);
        ToClient::RosterRemoved { to: asked.to(), id: asked.id }.write(replies);
        Ok(())
    }
}

impl Asked<'_> {
    fn to(&self) -> &str {
        self.online.reader().to
    }

    /// A contact as the asker addresses it.
    fn address<'a>(&self, contact: &'a Username) -> Cow<'a, str> {
        self.online.reader().address(contact.as_str())
    }

    fn contact(&self, jid: &str) -> Result<UserKey, Refused> {
        let contact = UserKey::of(jid).map_err(|_| Refused::Condition(Condition::ItemNotFound))?;
        if contact == self.online.user {
            return Err(Refused::Condition(Condition::NotAllowed));
        }
        Ok(contact)
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Refused::Temporary(error.into())
    }
}

impl From<RosterError> for Refused {
    fn from(error: RosterError) -> Self {
        match error {
            RosterError::NotFound => Refused::Condition(Condition::ItemNotFound),
            RosterError::Myself | RosterError::NotAllowed => Refused::Condition(Condition::NotAllowed),
            RosterError::Store(error) => error.into(),
        }
    }
}

fn item(item: store::Item) -> Item {
    let subscription = match item.subscription {
        Subscription::To => manager::Subscription::To,
        Subscription::From => manager::Subscription::From,
        Subscription::Both => manager::Subscription::Both,
    };
    Item { jid: item.jid.to_string(), name: item.name, subscription }
}
