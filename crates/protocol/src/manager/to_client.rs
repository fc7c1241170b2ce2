//! What a manager writes.

use std::fmt;

use super::{Item, Presence, Session};
use crate::{
    iq::{self, Condition},
    write::{self, Object},
};

/// The relay that a client is to connect to: R of PROTOCOL §2. Its `Debug` hides the token.
#[derive(Clone, PartialEq, Eq)]
pub struct RelayEntry<'a> {
    /// The relay's id.
    pub id: &'a str,
    /// Host to connect to.
    pub host: &'a str,
    /// Port to connect to.
    pub port: u16,
    /// How many connections it has.
    pub connections: u64,
    /// The ticket for its hello.
    pub token: Option<&'a str>,
}

impl fmt::Debug for RelayEntry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayEntry").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What a manager sends to clients. Names are written as registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToClient<'a> {
    /// 201 after a registration. No relay alive: `None`, everywhere below too.
    AccountCreated {
        /// Where to connect.
        relay: Option<RelayEntry<'a>>,
        /// The full address of a device that has named itself (Part II).
        jid: Option<&'a str>,
        /// What the device logs in with again (Part II).
        session: &'a Session,
    },
    /// 200 after a login.
    LoggedIn {
        /// Where to connect.
        relay: Option<RelayEntry<'a>>,
        /// As above.
        jid: Option<&'a str>,
        /// As above.
        session: &'a Session,
    },
    /// 200 after `get_relay_less_connection`, in an array.
    RelayLessConnection {
        /// Where to connect.
        relay: Option<RelayEntry<'a>>,
    },
    /// The whole roster.
    Roster {
        /// Every contact.
        items: &'a [Item],
        /// The asker.
        to: &'a str,
        /// Of the request.
        id: Option<&'a iq::Id>,
    },
    /// A contact was added or renamed.
    RosterSet {
        /// The asker.
        to: &'a str,
        /// Of the request.
        id: Option<&'a iq::Id>,
    },
    /// A contact was removed.
    RosterRemoved {
        /// The asker.
        to: &'a str,
        /// Of the request.
        id: Option<&'a iq::Id>,
    },
    /// A roster request was refused.
    RosterError {
        /// Why.
        condition: Condition,
        /// The asker, if logged in.
        to: Option<&'a str>,
        /// Of the request.
        id: Option<&'a iq::Id>,
    },
    /// `to`'s item for `from` is now this one (M18).
    Subscribed {
        /// The contact.
        from: &'a str,
        /// The item's owner.
        to: &'a str,
        /// The item in `to`'s roster.
        item: &'a Item,
    },
    /// The item for `from` was removed (M23).
    Unsubscribed {
        /// The contact.
        from: &'a str,
        /// The item's former owner.
        to: &'a str,
    },
    /// Presence told to everybody: initial, bio.
    Presence {
        /// Whose.
        presence: &'a Presence,
        /// That user, as the receiver addresses it; so below.
        from: &'a str,
    },
    /// Presence told to one user in answer: a contact's.
    PresenceTo {
        /// Whose.
        presence: &'a Presence,
        /// Who.
        from: &'a str,
        /// To whom.
        to: &'a str,
    },
    /// Presence told to one user by a directed presence.
    PresenceDirected {
        /// Whose.
        presence: &'a Presence,
        /// Who.
        from: &'a str,
        /// To whom.
        to: &'a str,
    },
    /// `from` went offline (M30).
    Unavailable {
        /// Who.
        from: &'a str,
    },
    /// Bio in somebody else's name.
    PresenceForbidden {
        /// The asker.
        to: &'a str,
    },
    /// Directed presence of an unknown user (M28).
    PresenceUnknown {
        /// The asker.
        to: &'a str,
        /// The name as the asker wrote it.
        target: &'a str,
    },
}

impl ToClient<'_> {
    /// Appends the packet as one canonical line.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::AccountCreated { relay, jid, session } => {
                relay_reply(out, "Account created", 201, relay.as_ref(), *jid, Some(session.expose()));
            }
            Self::LoggedIn { relay, jid, session } => {
                relay_reply(out, "Login successfull", 200, relay.as_ref(), *jid, Some(session.expose()));
            }
            Self::RelayLessConnection { relay } => {
                out.push(b'[');
                relay_reply(out, "Relay Less Connection", 200, relay.as_ref(), None, None);
                out.push(b']');
            }
            Self::Roster { items, to, id } => {
                let query = |out: &mut Vec<u8>| {
                    Object::begin(out).value("items", |out| write::array(out, *items, write_item)).end();
                };
                roster_result(out, to, *id, |iq| iq.value("query", query));
            }
            Self::RosterSet { to, id } => roster_result(out, to, *id, |iq| iq),
            Self::RosterRemoved { to, id } => {
                roster_result(out, to, *id, |iq| iq.text("subscription", "remove"));
            }
            Self::RosterError { condition, to, id } => {
                let iq = roster_iq(out, "error").value("error", |out| iq::error(out, condition.error()));
                iq::with_id(iq.text_or_null("to", *to), *id).end();
            }
            Self::Subscribed { from, to, item } => {
                let presence = stanza(out).text("from", from).text("to", to).text("type", "subscribed");
                presence.value("item", |out| write_item(out, item)).end();
            }
            Self::Unsubscribed { from, to } => {
                stanza(out).text("from", from).text("to", to).text("type", "unsubscribed").end();
            }
            Self::Presence { presence, from } => write_presence(out, presence, from).end(),
            Self::PresenceTo { presence, from, to } => {
                write_presence(out, presence, from).text("to", to).end();
            }
            Self::PresenceDirected { presence, from, to } => {
                write_presence(out, presence, from).text("to", to).raw("directed_entity", "true").end();
            }
            Self::Unavailable { from } => stanza(out).text("from", from).text("type", "unavailable").end(),
            Self::PresenceForbidden { to } => {
                let error = |out: &mut Vec<u8>| iq::error(out, Condition::Forbidden.error());
                stanza(out).text("type", "error").value("error", error).text("to", to).end();
            }
            Self::PresenceUnknown { to, target } => {
                stanza(out).text("type", "error").text("to", to).text("target", target).end();
            }
        }
        out.push(b'\n');
    }
}

fn relay_reply(
    out: &mut Vec<u8>,
    msg: &str,
    code: i64,
    relay: Option<&RelayEntry<'_>>,
    jid: Option<&str>,
    session: Option<&str>,
) {
    Object::begin(out)
        .raw("error", "false")
        .text("msg", msg)
        .number("code", code)
        .value("component", |out| {
            write::array(out, relay, |out, relay| {
                Object::begin(out)
                    .text("username", relay.id)
                    .text("ip_local", relay.host)
                    .number("port", relay.port.into())
                    .text("type", "relay")
                    .number("connection", i64::try_from(relay.connections).unwrap_or(i64::MAX))
                    .text_if("token", relay.token)
                    .end();
            });
        })
        .text_if("jid", jid)
        .text_if("session", session)
        .end();
}

fn roster_iq<'o>(out: &'o mut Vec<u8>, kind: &str) -> Object<'o> {
    Object::begin(out).text("stanza", "iq").text("namespace", "roster").text("type", kind)
}

fn roster_result(
    out: &mut Vec<u8>,
    to: &str,
    id: Option<&iq::Id>,
    content: impl FnOnce(Object<'_>) -> Object<'_>,
) {
    iq::with_id(content(roster_iq(out, "result")).text("to", to), id).end();
}

fn write_item(out: &mut Vec<u8>, item: &Item) {
    Object::begin(out)
        .text("jid", &item.jid)
        .text_or_null("name", item.name.as_deref())
        .text("subscription", item.subscription.as_str())
        .end();
}

fn stanza(out: &mut Vec<u8>) -> Object<'_> {
    Object::begin(out).text("stanza", "presence")
}

fn write_presence<'o>(out: &'o mut Vec<u8>, presence: &Presence, from: &str) -> Object<'o> {
    stanza(out)
        .text("from", from)
        .text("username", &presence.username)
        .text("bio", &presence.bio)
        .number("online", presence.online.into())
        .number("updated_at", presence.updated_at_ms)
}
