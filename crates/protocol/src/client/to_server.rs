//! What a client writes.

use std::fmt;

use super::{ArchiveQuery, Draft};
use crate::{manager::Session, relay::Resume, write::Object};

/// What clients send, to whichever role it is for. Its `Debug` shows nothing: passwords and tickets are in it.
#[derive(Clone, PartialEq, Eq)]
pub enum ToServer<'a> {
    /// To tracker and manager: the first packet (U1, U2).
    Hello {
        /// The client's own address, as it sees it.
        host: &'a str,
        /// Its own port.
        port: u16,
    },
    /// To the tracker.
    GetComponents,
    /// To the manager (U3).
    Register {
        /// The wanted name.
        username: &'a str,
        /// Its password.
        password: &'a str,
        /// The device; none: the account's default one.
        resource: Option<&'a str>,
    },
    /// To the manager (U4).
    Login {
        /// The account.
        username: &'a str,
        /// Its password.
        password: &'a str,
        /// The device; none: the account's default one.
        resource: Option<&'a str>,
    },
    /// To the manager: the device logs in again.
    ComeBack {
        /// The account.
        username: &'a str,
        /// From the reply to its last login.
        session: &'a Session,
    },
    /// To the manager: which relay to connect to now.
    GetRelay,
    /// To the manager (U7).
    RosterGet {
        /// Oneself.
        from: &'a str,
        /// To be echoed.
        id: &'a str,
    },
    /// To the manager: add or rename (U8, U9).
    RosterSet {
        /// Oneself.
        from: &'a str,
        /// The contact.
        jid: &'a str,
        /// What to call it.
        name: Option<&'a str>,
        /// To be echoed.
        id: &'a str,
    },
    /// To the manager (U10).
    RosterRemove {
        /// Oneself.
        from: &'a str,
        /// The contact.
        jid: &'a str,
        /// To be echoed.
        id: &'a str,
    },
    /// To the manager: a part of the own log, or what is known of it.
    Archive {
        /// What is asked for.
        query: ArchiveQuery<'a>,
        /// To be echoed.
        id: &'a str,
    },
    /// To the manager: the account's devices.
    Devices {
        /// To be echoed.
        id: &'a str,
    },
    /// To the manager: removes one of them.
    RemoveDevice {
        /// Its name.
        resource: &'a str,
        /// To be echoed.
        id: &'a str,
    },
    /// To the manager: what became of an own message.
    Explain {
        /// The servers' id of it.
        stanza_id: &'a str,
        /// To be echoed.
        id: &'a str,
    },
    /// To the manager (U6).
    InitialPresence,
    /// To the manager (U11).
    DirectedPresence {
        /// With whom.
        to: &'a str,
    },
    /// To the manager (U12).
    Bio {
        /// Oneself.
        from: &'a str,
        /// What to say.
        bio: &'a str,
    },
    /// To the manager (U13).
    Logout {
        /// Oneself.
        from: &'a str,
    },
    /// To the relay: the first packet (U5).
    RelayHello {
        /// Oneself.
        username: &'a str,
        /// The ticket that came with the relay's address.
        token: Option<&'a str>,
        /// Where this device goes on in its log; none: as the original.
        resume: Option<&'a Resume>,
    },
    /// To the relay (U14).
    Message(Draft<'a>),
    /// To the relay: everything up to this place of the own log has arrived.
    Ack {
        /// The place.
        seq: u64,
    },
    /// To anyone: are you there?
    Ping {
        /// To be echoed.
        id: &'a str,
    },
}

impl fmt::Debug for ToServer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ToServer(…)")
    }
}

impl ToServer<'_> {
    /// Appends the packet as one canonical line.
    pub fn write(&self, out: &mut Vec<u8>) {
        let packet = Object::begin(out);
        match *self {
            Self::Hello { host, port } => {
                let address = packet.text("ip_local", host).number("port", port.into());
                address.text("type", "client").raw("is_private", "true")
            }
            Self::GetComponents => packet.text("message", "get components"),
            Self::Register { username, password, resource } => auth(packet, username)
                .text("password", password)
                .text_if("resource", resource)
                .raw("register", "true"),
            Self::Login { username, password, resource } => {
                auth(packet, username).text("password", password).text_if("resource", resource)
            }
            Self::ComeBack { username, session } => auth(packet, username).text("session", session.expose()),
            Self::GetRelay => packet.text("type", "get_relay_less_connection"),
            Self::RosterGet { from, id } => roster(packet, "get", from)
                .value("query", |out| Object::begin(out).raw("items", "null").end())
                .text("id", id),
            Self::RosterSet { from, jid, name, id } => roster_set(packet, from, jid, |item| {
                item.text_or_null("name", name).text("subscription", "to")
            })
            .text("id", id),
            Self::RosterRemove { from, jid, id } => {
                roster_set(packet, from, jid, |item| item).text("subscription", "remove").text("id", id)
            }
            Self::Archive { query, id } => iq(packet, "archive", "get")
                .value("query", |out| query.write(Object::begin(out)))
                .text("id", id),
            Self::Devices { id } => iq(packet, "account", "get").text("id", id),
            Self::RemoveDevice { resource, id } => iq(packet, "account", "set")
                .value("query", |out| Object::begin(out).text("remove", resource).end())
                .text("id", id),
            Self::Explain { stanza_id, id } => iq(packet, "explain", "get")
                .value("query", |out| Object::begin(out).text("stanza_id", stanza_id).end())
                .text("id", id),
            Self::InitialPresence => packet.text("stanza", "presence"),
            Self::DirectedPresence { to } => packet.text("stanza", "presence").text("to", to),
            Self::Bio { from, bio } => packet.text("stanza", "presence").text("from", from).text("bio", bio),
            Self::Logout { from } => {
                packet.text("stanza", "presence").text("from", from).text("type", "unavailable")
            }
            Self::RelayHello { username, token, resume } => {
                let hello =
                    packet.text("username", username).text("message", "hello!").text_if("token", token);
                match resume {
                    Some(Resume { seq, log }) => {
                        hello.raw("resume", &seq.to_string()).text_if("log", log.as_deref())
                    }
                    None => hello,
                }
            }
            Self::Message(draft) => draft.write(packet),
            Self::Ack { seq } => packet.text("stanza", "ack").raw("seq", &seq.to_string()),
            Self::Ping { id } => iq(packet, "ping", "get").text("id", id),
        }
        .end_line();
    }
}

fn auth<'o>(packet: Object<'o>, username: &str) -> Object<'o> {
    packet.text("type", "auth").text("username", username)
}

fn iq<'o>(packet: Object<'o>, namespace: &str, kind: &str) -> Object<'o> {
    packet.text("stanza", "iq").text("namespace", namespace).text("type", kind)
}

fn roster<'o>(packet: Object<'o>, kind: &str, from: &str) -> Object<'o> {
    packet.text("stanza", "iq").text("namespace", "roster").text("from", from).text("type", kind)
}

/// `rest` adds the item's other members.
fn roster_set<'o>(
    packet: Object<'o>,
    from: &str,
    jid: &str,
    rest: impl FnOnce(Object<'_>) -> Object<'_>,
) -> Object<'o> {
    roster(packet, "set", from).value("query", |out| {
        Object::begin(out).value("item", |out| rest(Object::begin(out).text("jid", jid)).end()).end();
    })
}
