//! Requests to the manager and which packet answers which. No IO.

use std::collections::VecDeque;

use kurir_protocol::client::{Archive, ArchiveQuery, FromServer, ToServer};
use kurir_protocol::manager::{Displayed, Explanation, ListedDevice, Search};
use kurir_protocol::name::Resource;
use tokio::sync::oneshot;

use crate::event::{Ended, Presence, RosterItem, named, same_user};
use crate::message::MessageId;

/// Requests that wait or are under way; beyond that, callers wait in the command channel.
const MAX_REQUESTS: usize = 256;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    Roster,
    Set {
        jid: String,
        name: Option<String>,
    },
    Remove {
        jid: String,
    },
    Bio {
        bio: String,
    },
    Presence {
        of: String,
    },
    Archive(Search),
    /// Whether this message of ours is stored.
    Sent(MessageId),
    Displayed,
    Devices,
    RemoveDevice {
        resource: String,
    },
    Explain {
        stanza_id: String,
    },
}

impl Ask {
    /// Appends the packets that ask it.
    ///
    /// A bio has no answer of its own: the ping behind it is answered once the manager has handled it.
    pub(crate) fn write(&self, from: &str, id: &str, out: &mut Vec<u8>) {
        match self {
            Self::Roster => ToServer::RosterGet { from, id }.write(out),
            Self::Set { jid, name } => {
                ToServer::RosterSet { from, jid, name: name.as_deref(), id }.write(out);
            }
            Self::Remove { jid } => ToServer::RosterRemove { from, jid, id }.write(out),
            Self::Bio { bio } => {
                ToServer::Bio { from, bio }.write(out);
                ToServer::Ping { id }.write(out);
            }
            Self::Presence { of } => ToServer::DirectedPresence { to: of }.write(out),
            Self::Archive(search) => archive(ArchiveQuery::Search(search), id, out),
            Self::Sent(message) => archive(ArchiveQuery::Sent(&message.to_string()), id, out),
            Self::Displayed => archive(ArchiveQuery::Displayed, id, out),
            Self::Devices => ToServer::Devices { id }.write(out),
            Self::RemoveDevice { resource } => ToServer::RemoveDevice { resource, id }.write(out),
            Self::Explain { stanza_id } => ToServer::Explain { stanza_id, id }.write(out),
        }
    }
}

fn archive(query: ArchiveQuery<'_>, id: &str, out: &mut Vec<u8>) {
    ToServer::Archive { query, id }.write(out);
}

/// How it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    Roster(Vec<RosterItem>),
    Item(RosterItem),
    Presence(Presence),
    Archive(Archive),
    Displayed(Vec<Displayed>),
    Devices(Vec<ListedDevice>),
    Explained(Explanation),
    NoSuchUser,
    Refused { kind: String, condition: String },
    Ended(Ended),
}

/// Somebody's question. Without `reply` it is the session's own.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) ask: Ask,
    pub(crate) reply: Option<oneshot::Sender<Answer>>,
}

#[derive(Debug)]
struct Asked {
    id: String,
    request: Request,
    /// The item that came before the result of a set.
    item: Option<RosterItem>,
    /// Asked on an earlier connection too, which may have done it.
    again: bool,
}

/// All requests of a session, over every reconnection.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    last_id: u64,
    waiting: VecDeque<Asked>,
    asked: VecDeque<Asked>,
}

impl Pending {
    pub(crate) fn push(&mut self, request: Request) {
        self.last_id += 1;
        let id = self.last_id.to_string();
        self.waiting.push_back(Asked { id, request, item: None, again: false });
    }

    /// True: take no more.
    pub(crate) fn is_full(&mut self) -> bool {
        if self.waiting.len() + self.asked.len() >= MAX_REQUESTS {
            self.forget_abandoned();
        }
        self.waiting.len() + self.asked.len() >= MAX_REQUESTS
    }

    /// Appends everything that waits; it is under way from then on.
    pub(crate) fn write(&mut self, from: &str, out: &mut Vec<u8>) {
        self.forget_abandoned();
        for asked in self.waiting.drain(..) {
            asked.request.ask.write(from, &asked.id, out);
            self.asked.push_back(asked);
        }
    }

    /// The connection is lost: what was under way is asked again on the next one.
    pub(crate) fn lost(&mut self) {
        for mut asked in self.asked.drain(..).rev() {
            // The session's own question belongs to its connection.
            if asked.request.reply.is_some() {
                asked.again = true;
                asked.item = None;
                self.waiting.push_front(asked);
            }
        }
    }

    /// No answer comes any more.
    pub(crate) fn end(&mut self, ended: &Ended) {
        for asked in self.waiting.drain(..).chain(self.asked.drain(..)) {
            asked.answer(Answer::Ended(ended.clone()));
        }
    }

    /// Looks whether `packet` answers something. Returns question and answer if it was the session's own.
    pub(crate) fn received(&mut self, packet: &FromServer) -> Option<(Ask, Answer)> {
        match packet {
            FromServer::Roster { items, id } => self.settle(id.as_deref(), Answer::Roster(items.clone())),
            FromServer::Archive { page, id } => self.settle(id.as_deref(), Answer::Archive(page.clone())),
            FromServer::Displayed { conversations, id } => {
                self.settle(id.as_deref(), Answer::Displayed(conversations.clone()))
            }
            FromServer::Devices { devices, id } => {
                self.settle(id.as_deref(), Answer::Devices(devices.clone()))
            }
            FromServer::Explained { explanation, id } => {
                self.settle(id.as_deref(), Answer::Explained(explanation.clone()))
            }
            FromServer::RosterRemoved { id } | FromServer::DeviceRemoved { id } | FromServer::Pong { id } => {
                self.settle(id.as_deref(), Answer::Done)
            }
            FromServer::RosterSet { id } => {
                let asked = self.take(|asked| Some(asked.id.as_str()) == id.as_deref())?;
                let answer = asked.item.clone().map_or(Answer::Done, Answer::Item);
                asked.answer(answer)
            }
            FromServer::Subscribed { from, item } => {
                let set = |asked: &&mut Asked| matches!(&asked.request.ask, Ask::Set { jid, .. } if same_user(jid, from));
                if let Some(asked) = self.asked.iter_mut().find(set) {
                    asked.item = Some(item.clone());
                }
                None
            }
            FromServer::IqError { id, kind, condition, .. } => {
                let asked = self.take(|asked| Some(asked.id.as_str()) == id.as_deref())?;
                let removed_before = asked.again
                    && condition == "item-not-found"
                    && matches!(asked.request.ask, Ask::Remove { .. } | Ask::RemoveDevice { .. });
                asked.answer(if removed_before {
                    Answer::Done
                } else {
                    Answer::Refused { kind: kind.clone(), condition: condition.clone() }
                })
            }
            FromServer::Presence(presence) if presence.directed => {
                let asked = self.take(|asked| asked.is_about(&presence.from))?;
                asked.answer(Answer::Presence(named(presence.clone())))
            }
            FromServer::PresenceUnknown { target } => {
                self.take(|asked| asked.is_about(target))?.answer(Answer::NoSuchUser)
            }
            FromServer::PresenceForbidden => self.refuse_presence("auth", "forbidden"),
            FromServer::Refused { code: 503, .. } => self.refuse_presence("wait", "resource-constraint"),
            _ => None,
        }
    }

    /// Whether `packet` says that this device was removed, which this session has asked for.
    pub(crate) fn removes(&self, packet: &FromServer, device: Option<&str>) -> bool {
        let FromServer::DeviceRemoved { id } = packet else { return false };
        let named = |resource: &str| Resource::try_from(resource).ok();
        let own = device.map_or_else(|| Some(Resource::default_device()), named);
        own.is_some()
            && self.asked.iter().any(|asked| {
                Some(asked.id.as_str()) == id.as_deref()
                    && matches!(&asked.request.ask, Ask::RemoveDevice { resource } if named(resource) == own)
            })
    }

    /// Presence is refused without saying which; the manager answers in order.
    fn refuse_presence(&mut self, kind: &str, condition: &str) -> Option<(Ask, Answer)> {
        let asked = self.take(|asked| matches!(asked.request.ask, Ask::Bio { .. } | Ask::Presence { .. }))?;
        asked.answer(Answer::Refused { kind: kind.to_owned(), condition: condition.to_owned() })
    }

    fn settle(&mut self, id: Option<&str>, answer: Answer) -> Option<(Ask, Answer)> {
        self.take(|asked| Some(asked.id.as_str()) == id)?.answer(answer)
    }

    fn take(&mut self, is_it: impl Fn(&Asked) -> bool) -> Option<Asked> {
        let position = self.asked.iter().position(is_it)?;
        self.asked.remove(position)
    }

    fn forget_abandoned(&mut self) {
        let wanted = |asked: &Asked| asked.request.reply.as_ref().is_none_or(|reply| !reply.is_closed());
        self.waiting.retain(wanted);
        self.asked.retain(wanted);
    }
}

impl Asked {
    /// Gives the answer to whoever asked; back, if that was the session itself.
    fn answer(self, answer: Answer) -> Option<(Ask, Answer)> {
        match self.request.reply {
            // Whoever asked may have given up.
            Some(reply) => reply.send(answer).err().and(None),
            None => Some((self.request.ask, answer)),
        }
    }

    fn is_about(&self, user: &str) -> bool {
        matches!(&self.request.ask, Ask::Presence { of } if same_user(of, user))
    }
}

#[cfg(test)]
mod tests {
    use kurir_protocol::manager::Subscription;

    use super::*;

    fn ask(pending: &mut Pending, ask: Ask) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        pending.push(Request { ask, reply: Some(reply) });
        answer
    }

    fn written(pending: &mut Pending) -> String {
        let mut out = Vec::new();
        pending.write("fajar", &mut out);
        String::from_utf8(out).unwrap()
    }

    fn esa() -> RosterItem {
        RosterItem { jid: "esa".into(), name: None, subscription: Subscription::To }
    }

    #[test]
    fn a_set_is_answered_by_its_result_with_the_item_that_came_before() {
        let mut pending = Pending::default();
        let mut answer = ask(&mut pending, Ask::Set { jid: "ESA".into(), name: None });
        written(&mut pending);
        pending.received(&FromServer::Subscribed { from: "esa".into(), item: esa() });
        assert!(answer.try_recv().is_err());
        pending.received(&FromServer::RosterSet { id: Some("1".into()) });
        assert_eq!(answer.try_recv(), Ok(Answer::Item(esa())));
    }

    #[test]
    fn answers_find_their_requests_in_any_order() {
        let mut pending = Pending::default();
        let mut first = ask(&mut pending, Ask::Roster);
        let mut second = ask(&mut pending, Ask::Remove { jid: "esa".into() });
        written(&mut pending);
        pending.received(&FromServer::RosterRemoved { id: Some("2".into()) });
        assert_eq!(second.try_recv(), Ok(Answer::Done));
        pending.received(&FromServer::Roster { items: vec![esa()], id: Some("1".into()) });
        assert_eq!(first.try_recv(), Ok(Answer::Roster(vec![esa()])));
    }

    #[test]
    fn a_removal_asked_again_after_a_reconnection_may_find_nothing_to_remove() {
        let mut pending = Pending::default();
        let mut answer = ask(&mut pending, Ask::Remove { jid: "esa".into() });
        let first = written(&mut pending);
        pending.lost();
        assert_eq!(written(&mut pending), first);
        pending.received(&FromServer::IqError {
            namespace: Some("roster".into()),
            kind: "cancel".into(),
            condition: "item-not-found".into(),
            id: Some("1".into()),
        });
        assert_eq!(answer.try_recv(), Ok(Answer::Done));
    }

    #[test]
    fn requests_that_nobody_waits_for_are_not_asked() {
        let mut pending = Pending::default();
        drop(ask(&mut pending, Ask::Roster));
        assert_eq!(written(&mut pending), "");
    }

    #[test]
    fn a_directed_presence_of_an_unknown_user_is_no_such_user() {
        let mut pending = Pending::default();
        let mut answer = ask(&mut pending, Ask::Presence { of: "nobody".into() });
        written(&mut pending);
        pending.received(&FromServer::PresenceUnknown { target: "nobody".into() });
        assert_eq!(answer.try_recv(), Ok(Answer::NoSuchUser));
    }

    #[test]
    fn the_number_of_requests_is_bounded() {
        let mut pending = Pending::default();
        let answers: Vec<_> = (0..MAX_REQUESTS).map(|_| ask(&mut pending, Ask::Roster)).collect();
        assert!(pending.is_full());
        drop(answers);
        assert!(!pending.is_full());
    }
}
