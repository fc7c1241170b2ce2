//! Requests to read the own log back (Part II `archive`).

use kurir_protocol::{
    iq::Condition,
    manager::{ArchiveAction, ArchiveRequest, Displayed, Filed, Found, Search},
    name::{Address, UserKey},
    relay::{for_device, is_to_another},
    write::Object,
};

use crate::{
    manager::{Manager, Temporary},
    news::Reader,
    online::Online,
    store::{
        StoreError,
        archive::{self, Part},
        log::Logged,
    },
};

/// What is shown of a request.
enum Answer {
    Found(archive::Found),
    Displayed(Vec<archive::Displayed>),
    Bad,
}

impl Manager {
    /// Answers a request about the asker's own log.
    pub(crate) async fn archive(&self, online: &Online, request: &ArchiveRequest, replies: &mut Vec<u8>) {
        let reader = online.reader();
        let answer = request.answer(Some(reader.to));
        match self.look_up(online, &request.action).await {
            Ok(Answer::Found(found)) => {
                let filed = |entry| file(entry, online, reader);
                let messages: Vec<Filed> = found.entries.into_iter().map(filed).collect();
                answer.found(
                    replies,
                    &Found {
                        messages: &messages,
                        complete: found.complete,
                        log: &found.life.to_string(),
                        first: (found.first > 1).then_some(found.first),
                    },
                );
            }
            Ok(Answer::Displayed(conversations)) => {
                let shown = |read: archive::Displayed| Displayed {
                    with: reader.address(&read.with).into_owned(),
                    stanza_id: read.stanza_id.to_string(),
                    ts_ms: read.ts_ms,
                };
                let conversations: Vec<Displayed> = conversations.into_iter().map(shown).collect();
                answer.displayed(replies, &conversations);
            }
            Ok(Answer::Bad) => answer.refused(replies, Condition::BadRequest),
            Err(error) => {
                let error = Temporary::from(error);
                self.metrics.temporary_failure();
                tracing::warn!(user = %online.user, error = &error as &dyn std::error::Error, "archive not read");
                answer.refused(replies, Condition::Temporary);
            }
        }
    }

    async fn look_up(&self, online: &Online, action: &ArchiveAction) -> Result<Answer, StoreError> {
        let account = online.account;
        Ok(match action {
            ArchiveAction::Bad => Answer::Bad,
            ArchiveAction::Displayed => Answer::Displayed(self.store.displayed(account).await?),
            ArchiveAction::Sent(id) => Answer::Found(self.store.sent(account, &online.device, id).await?),
            ArchiveAction::Search(search) => match self.part(search) {
                Some(part) => Answer::Found(self.store.search_log(account, &part).await?),
                None => Answer::Bad,
            },
        })
    }

    /// None: nobody could have that address.
    fn part(&self, search: &Search) -> Option<Part> {
        let with = match search.with.as_deref().map(Address::of) {
            Some(address) if address.is_at(&self.domain) => Some(UserKey::of(address.name).ok()?),
            Some(_) => return None,
            None => None,
        };
        let Search { after, before, limit, .. } = *search;
        Some(Part { with, after, before, most: limit })
    }
}

/// An entry as the asker reads it.
fn file(entry: Logged, online: &Online, reader: Reader<'_>) -> Filed {
    let Logged { seq, stanza_id, ts_ms, stanza, sent_by } = entry;
    // Otherwise only that it was sent is still known.
    let stanza = if stanza.is_empty() {
        remains(reader)
    } else {
        let is_copy = sent_by.is_some() && is_to_another(&stanza, online.user.as_str());
        let mut out = Vec::with_capacity(stanza.len() + 64);
        for_device(&stanza, reader.domain, (!is_copy).then_some(reader.to), &mut out);
        // Rendered text is text.
        String::from_utf8(out).unwrap_or_default()
    };
    Filed { seq, stanza_id: stanza_id.to_string(), ts_ms, stanza }
}

fn remains(reader: Reader<'_>) -> String {
    let mut out = Vec::new();
    Object::begin(&mut out).text("from", reader.to).end();
    String::from_utf8(out).unwrap_or_default()
}
