//! Telling others that their messages are read.

use std::collections::BTreeMap;

use kurir_client::{Client, Marker, Message, SendError};

use super::{Done, UnderWay};

/// The last message of each sender that was shown, as far as nobody was told.
#[derive(Debug, Default)]
pub(super) struct Reading {
    last: BTreeMap<String, String>,
}

impl Reading {
    /// Somebody sees this message.
    pub(super) fn shown(&mut self, message: &Message) {
        if let (false, Some(Marker::Markable), Some(entry)) = (message.own, &message.marker, &message.entry) {
            self.last.insert(message.from.clone(), entry.stanza_id.clone());
        }
    }

    /// This user has read it on another device, or at an earlier start.
    pub(super) fn read_elsewhere(&mut self, stanza_id: &str) {
        self.last.retain(|_, last| last != stanza_id);
    }

    /// There was no room for that: later, unless a later message is to be told of by then.
    pub(super) fn not_told(&mut self, from: String, stanza_id: String) {
        self.last.entry(from).or_insert(stanza_id);
    }

    /// Tells one sender: a marker covers all that came before it.
    pub(super) fn tell(&mut self, client: &Client) -> Option<UnderWay> {
        let (from, stanza_id) = self.last.pop_first()?;
        let client = client.clone();
        Some(Box::pin(async move {
            match client.displayed(&from, &stanza_id).await {
                Ok(_) => Done::Said(None),
                Err(SendError::QueueFull) => Done::NotTold(from, stanza_id),
                Err(error) => Done::Said(Some(format!(
                    "! {}: not told that you have read it: {error}",
                    super::terminal::plain(&from)
                ))),
            }
        }))
    }
}
