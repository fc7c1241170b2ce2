//! What an event says to a reader, and who is on and off.

use std::collections::BTreeMap;

use kurir_client::{Event, Message, Presence, RosterItem, Socket, StateError};

use super::terminal::{plain, time};

/// What was last heard of everybody.
#[derive(Debug)]
pub(super) struct Contacts {
    me: String,
    known: BTreeMap<String, Known>,
    relay_is_lost: bool,
}

/// What a question to the manager was answered.
#[derive(Debug)]
pub(super) enum Answer {
    /// With something to say, or not.
    Said(Option<String>),
    /// With the roster, to be shown with who is online by then.
    Roster(Vec<RosterItem>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    online: bool,
    bio: String,
}

impl Contacts {
    pub(super) fn new(me: String) -> Self {
        Self { me, known: BTreeMap::new(), relay_is_lost: false }
    }

    /// Takes an event in; the line to show, if it is news.
    pub(super) fn learn(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::Online => {
                self.relay_is_lost = false;
                Some(format!("* you are online as {}", plain(&self.me)))
            }
            Event::Offline { socket, reason } => {
                self.relay_is_lost |= *socket == Socket::Relay;
                Some(format!("* {socket} lost: {reason}; reconnecting"))
            }
            Event::Message(message) => Some(said(message)),
            Event::NotKept(StateError::Io { path, source }) => {
                let path = plain(&path.display().to_string());
                Some(format!(
                    "! what is to be kept cannot be written to {path}, which is tried again: {source}"
                ))
            }
            Event::Gap { .. } => {
                Some("* messages that you had not read are gone: they were too old, or too many".into())
            }
            Event::Reset => Some("* the server's history is another than before; here it comes".into()),
            Event::Presence(presence) => self.presence(presence),
            Event::Unavailable { from } => {
                let was = self.known.get_mut(from)?;
                std::mem::take(&mut was.online).then(|| format!("* {} is offline", plain(from)))
            }
            Event::Subscribed(told) => Some(format!("* {}", item(told))),
            Event::Unsubscribed { from } => {
                self.known.remove(from);
                None
            }
            // Shown when it is asked for, and at the end.
            _ => None,
        }
    }

    fn presence(&mut self, presence: &Presence) -> Option<String> {
        let now = Known { online: presence.online, bio: presence.bio.clone() };
        // An answer to /who is shown there; and somebody who is no contact does not become one by looking at us.
        if presence.directed && !self.known.contains_key(&presence.from) {
            return None;
        }
        let was = self.known.insert(presence.from.clone(), now.clone());
        let from = plain(&presence.from);
        match (was, now.online) {
            (Some(was), true) if was == now => None,
            (Some(was), true) if was.online => Some(format!("* {from} now says: {}", plain(&now.bio))),
            (_, true) => Some(format!("* {from} is online: {}", plain(&now.bio))),
            (Some(was), false) if was.online => Some(format!("* {from} is offline")),
            (_, false) => None,
        }
    }

    /// Whether there is a connection for messages, as far as is known.
    pub(super) fn messages_go_out(&self) -> bool {
        !self.relay_is_lost
    }

    /// What an answer says at this moment.
    pub(super) fn shown(&self, answer: Answer) -> Option<String> {
        match answer {
            Answer::Said(line) => line,
            Answer::Roster(items) => Some(self.roster(&items)),
        }
    }

    fn roster(&self, items: &[RosterItem]) -> String {
        if items.is_empty() {
            return "* no contacts yet; /add NAME adds one".into();
        }
        let lines = items.iter().map(|contact| {
            let online = self.known.get(&contact.jid).is_some_and(|known| known.online);
            format!("* {}{}", item(contact), if online { ", online" } else { "" })
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Everybody that something is known of.
    pub(super) fn describe(&self) -> String {
        if self.known.is_empty() {
            return "* no contacts' presence is known; /add NAME adds one".into();
        }
        let lines = self.known.iter().map(|(name, known)| {
            let state = if known.online { "online" } else { "offline" };
            format!("* {} is {state}: {}", plain(name), plain(&known.bio))
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// What two have said to each other, the oldest first. Receipts and markers say nothing.
pub(super) fn history(messages: &[Message]) -> String {
    let lines: Vec<_> = messages.iter().filter(|message| message.body.is_some()).map(said).collect();
    if lines.is_empty() { "* nothing is kept of that conversation".into() } else { lines.join("\n") }
}

/// A message; what waited for this user, with its time.
fn said(message: &Message) -> String {
    let waited = message.entry.as_ref().filter(|_| message.waited);
    let at = waited.map(|entry| format!("({}) ", time(entry.ts_ms))).unwrap_or_default();
    let who = match &message.to {
        Some(to) if message.own => format!("you to {}", plain(to)),
        _ => plain(&message.from),
    };
    let body = message.body.as_deref().unwrap_or("(no text)");
    format!("{at}{who}: {}", plain(body))
}

/// One contact.
fn item(item: &RosterItem) -> String {
    let called = item.name.as_deref().map(|name| format!(", called {}", plain(name))).unwrap_or_default();
    format!("{}{called} ({})", plain(&item.jid), item.subscription)
}

/// Somebody's presence.
pub(super) fn presence(presence: &Presence) -> String {
    let state = if presence.online { "online" } else { "offline" };
    format!("{} is {state}: {}", plain(&presence.from), plain(&presence.bio))
}

#[cfg(test)]
mod tests {
    use kurir_client::{Entry, Subscription};

    use super::*;

    fn esa(online: bool, bio: &str, directed: bool) -> Event {
        let presence = Presence { from: "esa".into(), bio: bio.into(), online, updated_at_ms: 0, directed };
        Event::Presence(presence)
    }

    #[test]
    fn only_news_is_shown() {
        let mut contacts = Contacts::new("fajar".into());
        assert_eq!(contacts.learn(&esa(false, "b", false)), None);
        assert_eq!(contacts.learn(&esa(true, "b", false)).unwrap(), "* esa is online: b");
        assert_eq!(contacts.learn(&esa(true, "b", false)), None);
        assert_eq!(contacts.learn(&esa(true, "c", false)).unwrap(), "* esa now says: c");
        let unavailable = Event::Unavailable { from: "esa".into() };
        assert_eq!(contacts.learn(&unavailable).unwrap(), "* esa is offline");
        assert_eq!(contacts.learn(&unavailable), None);
        assert_eq!(contacts.describe(), "* esa is offline: c");
    }

    #[test]
    fn a_strangers_look_is_no_news() {
        let mut contacts = Contacts::new("fajar".into());
        assert_eq!(contacts.learn(&esa(true, "b", true)), None);
        assert_eq!(contacts.describe(), Contacts::new("fajar".into()).describe());
    }

    #[test]
    fn the_roster_is_shown_with_who_is_online_by_then() {
        let mut contacts = Contacts::new("fajar".into());
        let both = RosterItem { jid: "esa".into(), name: None, subscription: Subscription::Both };
        contacts.learn(&esa(true, "b", false));
        let (early, late) = (Answer::Roster(vec![both.clone()]), Answer::Roster(vec![both]));
        assert_eq!(contacts.shown(early).unwrap(), "* esa (both), online");
        contacts.learn(&Event::Unavailable { from: "esa".into() });
        assert_eq!(contacts.shown(late).unwrap(), "* esa (both)");
    }

    #[test]
    fn what_others_write_cannot_play_with_the_terminal() {
        let mut contacts = Contacts::new("fajar".into());
        let message = Message {
            device: None,
            from: "esa".into(),
            to: None,
            own: false,
            id: None,
            body: Some("a\u{1b}[2Jb\nesa: faked".into()),
            lang: None,
            receipt: None,
            marker: None,
            state: None,
            entry: None,
            waited: false,
            stanza: String::new(),
        };
        let shown = "esa: a\u{fffd}[2Jb\n  esa: faked";
        assert_eq!(contacts.learn(&Event::Message(message.clone())).unwrap(), shown);
        let entry = Some(Entry { seq: 1, stanza_id: "s".into(), ts_ms: 1_726_223_542_222 });
        let waited = Message { entry, waited: true, ..message };
        let line = contacts.learn(&Event::Message(waited)).unwrap();
        assert!(line.starts_with("(2024-09-1") && line.ends_with(shown), "{line}");
    }
}
