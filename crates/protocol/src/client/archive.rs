//! The own log as a client asks for it and reads it (Part II `archive`).

use std::borrow::Cow;

use super::{Message, from_server::number};
use crate::{
    Malformed,
    manager::{Displayed, Search},
    object::{Elements, Fields, Key, truthy},
    write::Object,
};

/// A part of the own log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// In the log's order.
    pub messages: Vec<Archived>,
    /// There is no more in the direction that was asked for.
    pub complete: bool,
    /// The log's life.
    pub log: String,
    /// The log's first place, where older entries are gone.
    pub first: Option<u64>,
}

/// A message in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// With its [`Entry`](super::Entry).
    pub message: Message,
    /// The whole stanza.
    pub stanza: String,
}

/// What is asked of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveQuery<'a> {
    /// A part of the log.
    Search(&'a Search),
    /// The message that this device has sent with this id.
    Sent(&'a str),
    /// How far each conversation was read.
    Displayed,
}

impl ArchiveQuery<'_> {
    pub(super) fn write(self, query: Object<'_>) {
        match self {
            Self::Search(Search { with, after, before, limit }) => {
                let query = query.text_if("with", with.as_deref()).raw("limit", &limit.to_string());
                [("after", after), ("before", before)].into_iter().fold(query, |query, (key, place)| {
                    match place {
                        Some(place) => query.raw(key, &place.to_string()),
                        None => query,
                    }
                })
            }
            Self::Sent(id) => query.text("id", id),
            Self::Displayed => query.raw("displayed", "null"),
        }
        .end();
    }
}

impl Archive {
    pub(super) fn read(query: &Fields<'_>) -> Result<Self, Malformed> {
        let elements = query.raw(Key::Messages).and_then(Elements::of).into_iter().flatten();
        let message = |raw: &str| {
            let fields = Fields::read(raw)?;
            let message = |from: Cow<'_, str>| Message::read(raw, &fields, from.into_owned());
            let stanza = || raw.to_owned();
            Ok(fields.text(Key::From).map(message).map(|message| Archived { message, stanza: stanza() }))
        };
        Ok(Self {
            messages: elements.filter_map(|raw| message(raw).transpose()).collect::<Result<_, _>>()?,
            complete: query.raw(Key::Complete).is_some_and(truthy),
            log: query.text(Key::Log).map(Cow::into_owned).unwrap_or_default(),
            first: number(query, Key::First),
        })
    }
}

pub(super) fn displayed(query: &Fields<'_>) -> Result<Vec<Displayed>, Malformed> {
    let elements = query.raw(Key::Displayed).and_then(Elements::of).into_iter().flatten();
    let one = |fields: Fields<'_>| {
        Some(Displayed {
            with: fields.text(Key::With)?.into_owned(),
            stanza_id: fields.text(Key::StanzaId)?.into_owned(),
            ts_ms: number(&fields, Key::Ts)?,
        })
    };
    elements.filter_map(|raw| Fields::read(raw).map(one).transpose()).collect()
}
