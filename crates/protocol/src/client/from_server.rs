//! What a client reads.

use std::{borrow::Cow, str::FromStr};

use super::{Archive, Message, account, archive};
use crate::{
    Malformed,
    manager::{Displayed, Explanation, Item, ListedDevice, Session},
    object::{Elements, Fields, Key, truthy},
    tracker::{Component, Kind},
};

/// What servers send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromServer {
    /// From the tracker: who is there.
    Components(Vec<Component>),
    /// From the manager: registered, and online.
    AccountCreated {
        /// Where to connect; none if no relay is alive.
        relay: Option<Relay>,
        /// What this device logs in with the next time.
        session: Option<Session>,
    },
    /// From the manager: online.
    LoggedIn {
        /// Where to connect; none if no relay is alive.
        relay: Option<Relay>,
        /// What this device logs in with the next time.
        session: Option<Session>,
    },
    /// From the manager: the relay asked for.
    RelayLessConnection {
        /// Where to connect; none if no relay is alive.
        relay: Option<Relay>,
    },
    /// `{"error":true,"msg":…,"code":…}` from any of them.
    Refused {
        /// As HTTP would have it.
        code: u16,
        /// A fixed sentence.
        msg: String,
    },
    /// The whole roster.
    Roster {
        /// Every contact.
        items: Vec<Item>,
        /// Of the request.
        id: Option<String>,
    },
    /// Added or renamed.
    RosterSet {
        /// Of the request.
        id: Option<String>,
    },
    /// Removed.
    RosterRemoved {
        /// Of the request.
        id: Option<String>,
    },
    /// A request was refused: of the roster, or of anything else.
    IqError {
        /// What was asked.
        namespace: Option<String>,
        /// RFC 6120 error type.
        kind: String,
        /// RFC 6120 condition.
        condition: String,
        /// Of the request.
        id: Option<String>,
    },
    /// The own item for `from` is now this one.
    Subscribed {
        /// The contact.
        from: String,
        /// The own item.
        item: Item,
    },
    /// The own item for `from` is gone.
    Unsubscribed {
        /// The former contact.
        from: String,
    },
    /// Somebody's presence.
    Presence(Presence),
    /// Somebody went offline.
    Unavailable {
        /// Who.
        from: String,
    },
    /// A presence was refused: the bio of somebody else.
    PresenceForbidden,
    /// A directed presence found nobody.
    PresenceUnknown {
        /// The name as it was asked for.
        target: String,
    },
    /// From the relay.
    Message(Box<Message>),
    /// From the relay: one's message found no receiver (R15).
    NotDelivered {
        /// Of the message, if it was tracked.
        id: Option<String>,
    },
    /// From the relay: the tracked message is stored.
    Stored {
        /// The sender's.
        id: String,
        /// The servers'.
        stanza_id: String,
        /// Its place in the own log, on a connection that goes by places.
        seq: Option<u64>,
    },
    /// From the relay: the tracked message is not stored.
    NotStored {
        /// As it was sent; none where that was no string.
        id: Option<String>,
        /// RFC 6120 error type.
        kind: String,
        /// RFC 6120 condition.
        condition: String,
    },
    /// From the relay: the answer to a hello with `resume`.
    Ready {
        /// The log's last place.
        seq: u64,
        /// The log's life.
        log: String,
        /// The log's first place, where older entries are gone.
        first: Option<u64>,
        /// Everything follows from the first on.
        reset: bool,
    },
    /// From the relay: entries of the own log that this device has not had are gone.
    Gap {
        /// Those after this place.
        after: u64,
        /// And before this one.
        first: u64,
    },
    /// The server is about to close the connection, in Part II's words.
    Closing {
        /// RFC 6120 condition.
        condition: String,
        /// When to come again.
        retry_after_ms: Option<u64>,
    },
    /// The server will be gone soon: another one is to be asked for.
    Move {
        /// In so many milliseconds.
        after_ms: u64,
    },
    /// From the manager: a part of the own log.
    Archive {
        /// What was found.
        page: Archive,
        /// Of the request.
        id: Option<String>,
    },
    /// From the manager: how far the account has read each conversation.
    Displayed {
        /// Each conversation.
        conversations: Vec<Displayed>,
        /// Of the request.
        id: Option<String>,
    },
    /// From the manager: the account's devices.
    Devices {
        /// Each device.
        devices: Vec<ListedDevice>,
        /// Of the request.
        id: Option<String>,
    },
    /// From the manager: a device of the account was removed.
    DeviceRemoved {
        /// Of the request.
        id: Option<String>,
    },
    /// From the manager: what became of an own message.
    Explained {
        /// As far as it is known.
        explanation: Explanation,
        /// Of the request.
        id: Option<String>,
    },
    /// A ping was answered.
    Pong {
        /// Of the ping.
        id: Option<String>,
    },
    /// Something newer than this library: nothing to do (U15).
    Unknown,
}

impl FromServer {
    /// Reads one value.
    pub fn parse(value: &str) -> Result<Self, Malformed> {
        if let Some(mut elements) = Elements::of(value) {
            let fields = elements.next().map(Fields::read).transpose()?;
            return match fields {
                Some(fields) if fields.raw(Key::Code).is_some() => Self::reply(&fields),
                _ => Elements::of(value)
                    .into_iter()
                    .flatten()
                    .filter_map(|raw| component(raw).transpose())
                    .collect::<Result<_, _>>()
                    .map(Self::Components),
            };
        }
        let fields = Fields::read(value)?;
        // Without case: a message's `stanza` arrives as its sender wrote it.
        match lower(&fields, Key::Stanza).as_deref() {
            Some("message") => Self::message(value, &fields),
            Some("stream") => Self::stream(&fields),
            Some("presence") => Self::presence(&fields),
            Some("iq") => Self::iq(&fields),
            Some(_) => Ok(Self::Unknown),
            None => Self::reply(&fields),
        }
    }

    /// What has a code.
    fn reply(fields: &Fields<'_>) -> Result<Self, Malformed> {
        let (Some(code), Some(msg)) = (number(fields, Key::Code), fields.text(Key::Msg)) else {
            return Ok(Self::Unknown);
        };
        if fields.raw(Key::Error).is_some_and(truthy) {
            return Ok(Self::Refused { code, msg: msg.into_owned() });
        }
        let first = fields.raw(Key::Component).and_then(Elements::of).and_then(|mut all| all.next());
        let relay = first.map(Relay::read).transpose()?.flatten();
        Ok(match (code, msg.as_ref()) {
            (_, "Relay Less Connection") => Self::RelayLessConnection { relay },
            (201, _) => Self::AccountCreated { relay, session: session(fields) },
            (200, _) => Self::LoggedIn { relay, session: session(fields) },
            _ => Self::Unknown,
        })
    }

    fn message(value: &str, fields: &Fields<'_>) -> Result<Self, Malformed> {
        let (id, from) = (owned(fields, Key::Id), owned(fields, Key::From));
        // The relay removes `error` from what users send, so only a relay can say this.
        if let Some(error) = fields.object(Key::Error)? {
            let part = |key| owned(&error, key).unwrap_or_default();
            return Ok(Self::NotStored { id, kind: part(Key::Type), condition: part(Key::Condition) });
        }
        if fields.raw(Key::Error).is_some_and(truthy) {
            return Ok(Self::NotDelivered { id });
        }
        match (from, id, owned(fields, Key::StanzaId)) {
            (Some(from), ..) => Ok(Self::Message(Box::new(Message::read(value, fields, from)))),
            // What users send has a `from`: only a relay can say this.
            (None, Some(id), Some(stanza_id)) if fields.says(Key::Type, "ack") => {
                Ok(Self::Stored { id, stanza_id, seq: number(fields, Key::Seq) })
            }
            _ => Ok(Self::Unknown),
        }
    }

    fn stream(fields: &Fields<'_>) -> Result<Self, Malformed> {
        let read = |kind: &str| match kind {
            "ready" => Some(Self::Ready {
                seq: number(fields, Key::Seq)?,
                log: owned(fields, Key::Log)?,
                first: number(fields, Key::First),
                reset: fields.raw(Key::Reset).is_some_and(truthy),
            }),
            "gap" => {
                Some(Self::Gap { after: number(fields, Key::After)?, first: number(fields, Key::First)? })
            }
            "move" => Some(Self::Move { after_ms: number(fields, Key::AfterMs).unwrap_or_default() }),
            _ => None,
        };
        let kind = lower(fields, Key::Type).unwrap_or_default();
        if kind == "error" {
            let Some(error) = fields.object(Key::Error)? else { return Ok(Self::Unknown) };
            let condition = owned(&error, Key::Condition).unwrap_or_default();
            return Ok(Self::Closing { condition, retry_after_ms: number(&error, Key::RetryAfterMs) });
        }
        Ok(read(&kind).unwrap_or(Self::Unknown))
    }

    fn presence(fields: &Fields<'_>) -> Result<Self, Malformed> {
        let from = owned(fields, Key::From);
        Ok(match (lower(fields, Key::Type).as_deref(), from) {
            (None, Some(from)) => Self::Presence(Presence {
                from,
                bio: owned(fields, Key::Bio).unwrap_or_default(),
                online: fields.raw(Key::Online).is_some_and(truthy),
                updated_at_ms: number(fields, Key::UpdatedAt).unwrap_or_default(),
                directed: fields.raw(Key::DirectedEntity).is_some_and(truthy),
            }),
            (Some("subscribed"), Some(from)) => match fields.object(Key::Item)?.as_ref().and_then(item) {
                Some(item) => Self::Subscribed { from, item },
                None => Self::Unknown,
            },
            (Some("unsubscribed"), Some(from)) => Self::Unsubscribed { from },
            (Some("unavailable"), Some(from)) => Self::Unavailable { from },
            (Some("error"), _) => match owned(fields, Key::Target) {
                Some(target) => Self::PresenceUnknown { target },
                None => Self::PresenceForbidden,
            },
            _ => Self::Unknown,
        })
    }

    fn iq(fields: &Fields<'_>) -> Result<Self, Malformed> {
        let id = owned(fields, Key::Id);
        let namespace = owned(fields, Key::Namespace);
        let of = lower(fields, Key::Namespace);
        Ok(match (lower(fields, Key::Type).as_deref(), of.as_deref()) {
            (Some("error"), _) => {
                let error = fields.object(Key::Error)?;
                let part = |key| error.as_ref().and_then(|error| owned(error, key)).unwrap_or_default();
                Self::IqError { namespace, kind: part(Key::Type), condition: part(Key::Condition), id }
            }
            (Some("result"), Some("ping")) => Self::Pong { id },
            (Some("result"), Some("roster")) if fields.says(Key::Subscription, "remove") => {
                Self::RosterRemoved { id }
            }
            (Some("result"), Some("roster")) => match fields.object(Key::Query)? {
                Some(query) => Self::Roster { items: items(&query)?, id },
                None => Self::RosterSet { id },
            },
            (Some("result"), Some("archive")) => match fields.object(Key::Query)? {
                Some(query) if query.raw(Key::Displayed).is_some() => {
                    Self::Displayed { conversations: archive::displayed(&query)?, id }
                }
                Some(query) => Self::Archive { page: Archive::read(&query)?, id },
                None => Self::Unknown,
            },
            (Some("result"), Some("account")) => match fields.object(Key::Query)? {
                Some(query) => Self::Devices { devices: account::devices(&query)?, id },
                None => Self::DeviceRemoved { id },
            },
            (Some("result"), Some("explain")) => match fields.given(Key::Query) {
                Some(query) => Self::Explained { explanation: account::explanation(query), id },
                None => Self::Unknown,
            },
            _ => Self::Unknown,
        })
    }
}

fn items(query: &Fields<'_>) -> Result<Vec<Item>, Malformed> {
    let elements = query.raw(Key::Items).and_then(Elements::of).into_iter().flatten();
    elements.filter_map(|raw| Fields::read(raw).map(|fields| item(&fields)).transpose()).collect()
}

fn item(fields: &Fields<'_>) -> Option<Item> {
    let subscription = fields.text(Key::Subscription)?.parse().ok()?;
    Some(Item { jid: owned(fields, Key::Jid)?, name: owned(fields, Key::Name), subscription })
}

/// None where an array holds something else.
fn component(raw: &str) -> Result<Option<Component>, Malformed> {
    let fields = Fields::read(raw)?;
    let read = || {
        Some(Component {
            kind: Kind::of(&fields)?,
            host: owned(&fields, Key::IpLocal)?,
            port: number(&fields, Key::Port)?,
            is_private: fields.says(Key::IsPrivate, "1"),
        })
    };
    Ok(read())
}

fn session(fields: &Fields<'_>) -> Option<Session> {
    fields.text(Key::Session).map(|token| Session::new(&token))
}

fn lower(fields: &Fields<'_>, key: Key) -> Option<String> {
    fields.text(key).map(|text| text.to_ascii_lowercase())
}

fn owned(fields: &Fields<'_>, key: Key) -> Option<String> {
    fields.text(key).map(Cow::into_owned)
}

pub(super) fn number<T: FromStr>(fields: &Fields<'_>, key: Key) -> Option<T> {
    fields.raw(key)?.parse().ok()
}

/// Where to connect for messages: R of PROTOCOL §2. Its `Debug` hides the token.
#[derive(Clone, PartialEq, Eq)]
pub struct Relay {
    /// The relay's id.
    pub id: String,
    /// Host to connect to.
    pub host: String,
    /// Port to connect to.
    pub port: u16,
    /// The ticket for the hello.
    pub token: Option<String>,
}

impl Relay {
    fn read(raw: &str) -> Result<Option<Self>, Malformed> {
        let fields = Fields::read(raw)?;
        let read = || {
            Some(Self {
                id: owned(&fields, Key::Username)?,
                host: owned(&fields, Key::IpLocal)?,
                port: number(&fields, Key::Port)?,
                token: owned(&fields, Key::Token),
            })
        };
        Ok(read())
    }
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        f.debug_struct("Relay")
            .field("id", &self.id)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("token", &token)
            .finish()
    }
}

/// A user's presence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// The user's name as registered.
    pub from: String,
    /// What the user says of itself.
    pub bio: String,
    /// Reachable or not.
    pub online: bool,
    /// When the account last changed, in milliseconds since the Unix epoch.
    pub updated_at_ms: i64,
    /// Sent by a directed presence.
    pub directed: bool,
}
