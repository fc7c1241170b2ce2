//! What this manager remembers of tracked messages, and what it tells those who ask (`kurir explain`, ADR 9).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kurir_protocol::{
    iq::Condition,
    manager::{ExplainRequest, ExplainedStep, Explanation},
};
use kurir_rpc::v1::{ExplainResponse, TrailEvent};
use kurir_trail::{Asked, Asker, Device, Event, Kept, Reason, Step, now_us};
use rand::RngExt;
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    manager::{Manager, Temporary},
    online::Online,
    store::{
        log::{Appended, NewMessage},
        trail::Receiver,
    },
};

/// How long a user's question takes at most. Meanwhile that connection answers no ping: clients give a silent one up after
/// 3 s.
const DEADLINE: Duration = Duration::from_secs(2);

/// How long each component is waited for in that time, twice: what is left is for the database and the directory, so that
/// a user is told what the others know where one is silent.
const PATIENCE: Duration = Duration::from_millis(700);

/// How often what is old is forgotten where nothing new is noted.
const FORGET_EVERY: Duration = Duration::from_mins(1);

/// How often what is old is deleted from the database, first after a part of it: managers begin at different moments.
const DELETE_EVERY: Duration = Duration::from_mins(10);

impl Manager {
    /// What is known here of a message, and in the database where trails are kept there.
    pub(crate) async fn explain(&self, asked: Asked) -> ExplainResponse {
        let id = self.member.id().as_str();
        let here = self.trail.explain(asked.clone(), now_us()).await.into_iter();
        let mut events: Vec<TrailEvent> = here.map(|event| Kept::encode(id, event)).collect();
        let mut incomplete = false;
        if self.trail_life.is_some() {
            match self.store.trail(&asked).await {
                Ok(kept) => {
                    events
                        .extend(resolved(&asked, kept).map(|kept| Kept::encode(&kept.component, kept.event)));
                }
                // What is remembered is better than nothing.
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a trail was not read");
                    incomplete = true;
                }
            }
        }
        ExplainResponse { events, off: !self.trail.is_on(), since_us: self.trail.since_us(), incomplete }
    }

    /// Answers a user who asks what became of an own message.
    pub(crate) async fn explain_own(
        &self,
        online: &Online,
        request: &ExplainRequest,
        replies: &mut Vec<u8>,
    ) -> Result<(), Temporary> {
        let answer = request.answer(Some(online.reader().to));
        let stanza_id = request.stanza_id.as_deref().and_then(|id| Uuid::try_parse(id).ok());
        let Some(stanza_id) = stanza_id else {
            answer.refused(replies, Condition::BadRequest);
            return Ok(());
        };
        let Some(_question) = self.explaining.begin(&online.user) else {
            tracing::debug!(user = %online.user, "one more question what became of a message is to wait");
            answer.refused(replies, Condition::Temporary);
            return Ok(());
        };
        let told = timeout(DEADLINE, self.tell_own(online, stanza_id)).await;
        match told.unwrap_or(Err(Temporary::Unexplained))? {
            Some(explanation) => answer.explanation(replies, &explanation),
            None => answer.refused(replies, Condition::ItemNotFound),
        }
        Ok(())
    }

    /// What a user is told of an own message. None: the user has sent no such message.
    async fn tell_own(&self, online: &Online, stanza_id: Uuid) -> Result<Option<Explanation>, Temporary> {
        let Some(receiver) = self.store.receiver(online.account, stanza_id).await? else { return Ok(None) };
        let components = self.member.directory().components().await?.into_iter();
        let components = components.map(|of| (of.id.to_string(), of.grpc)).collect();
        let asker = Asker { components, patience: PATIENCE };
        let answers = asker.ask(&Asked { stanza_id: Some(stanza_id), sent_as: None }).await;
        for silent in &answers.silent {
            tracing::debug!(
                peer = silent.component,
                error = silent.error,
                "no answer of what became of a message"
            );
        }
        let told = |event| for_sender(event, online.user.as_str(), receiver);
        let steps = answers.events.into_iter().filter_map(told).collect();
        Ok(Some(Explanation { steps, incomplete: !answers.silent.is_empty() }))
    }

    /// Forgets what is old, and keeps what is new in the database if it is to be, for as long as it is polled.
    pub(crate) async fn tend_trail(&self) {
        let forget = async {
            loop {
                tokio::time::sleep(FORGET_EVERY).await;
                self.trail.forget_old(now_us());
            }
        };
        let Some(life) = self.trail_life else { return forget.await };
        tokio::join!(
            forget,
            kurir_trail::keep(&self.trail, |events| self.keep(events)),
            self.delete_old(life)
        );
    }

    /// False: not now.
    async fn keep(&self, events: Vec<Event>) -> bool {
        let id = self.member.id().as_str();
        let kept = |event| Kept { component: id.to_owned(), event };
        let events: Vec<Kept> = events.into_iter().map(kept).collect();
        let kept = self.store.keep_trail(&events).await;
        if let Err(error) = &kept {
            tracing::debug!(error = error as &dyn std::error::Error, "trail not kept yet");
        }
        kept.is_ok()
    }

    async fn delete_old(&self, life: Duration) {
        let life_us = i64::try_from(life.as_micros()).unwrap_or(i64::MAX);
        let mut wait = DELETE_EVERY.mul_f64(rand::rng().random_range(0.02..0.2));
        loop {
            tokio::time::sleep(wait).await;
            wait = DELETE_EVERY;
            loop {
                match self.store.forget_trail(now_us().saturating_sub(life_us)).await {
                    Ok(0) => break,
                    Ok(count) => tracing::debug!(count, "old events of trails deleted"),
                    Err(error) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "old trails not deleted yet"
                        );
                        break;
                    }
                }
            }
        }
    }
}

/// Numbers of connections are each component's own.
fn resolved(asked: &Asked, kept: Vec<Kept>) -> impl Iterator<Item = Kept> {
    let mut by_component: BTreeMap<String, Vec<Event>> = BTreeMap::new();
    for Kept { component, event } in kept {
        by_component.entry(component).or_default().push(event);
    }
    by_component.into_iter().flat_map(|(component, events)| {
        let resolved = kurir_trail::resolve(asked, &events);
        resolved.into_iter().map(move |event| Kept { component: component.clone(), event })
    })
}

/// As the sender is told of it: devices of others are not named, and when they came is theirs. That they are there at all,
/// as whatever happens at them says, is for those who see the receiver's presence. None: nothing for the sender.
fn for_sender(event: TrailEvent, sender: &str, receiver: Receiver) -> Option<ExplainedStep> {
    let own = event.user == sender;
    let is_told = match (Step::of(&event.step), receiver) {
        // Happens whether or not anybody is there.
        (Some(Step::Announced), _) => true,
        (Some(Step::Connected), _) | (_, Receiver::Hidden) => false,
        (_, Receiver::Seen) => true,
    };
    if !own && !is_told {
        return None;
    }
    Some(ExplainedStep {
        at_ms: event.at_us.div_euclid(1000),
        component: event.component,
        step: event.step,
        reason: event.reason,
        device: Some(event.device).filter(|device| own && !device.is_empty()),
    })
}

/// When a transaction was over.
pub(crate) struct Committed {
    at_us: i64,
    took_us: u32,
}

/// When the relays were told which logs have grown, and how many were.
#[derive(Clone, Copy)]
pub(crate) struct Announced {
    pub(crate) at_us: i64,
    pub(crate) relays: u32,
}

impl Committed {
    /// It has just been, and took so long.
    pub(crate) fn now(took: Duration) -> Self {
        Self { at_us: now_us(), took_us: u32::try_from(took.as_micros()).unwrap_or(u32::MAX) }
    }

    /// What the trail is told of its messages.
    pub(crate) fn events<'a>(
        self,
        messages: &'a [NewMessage],
        appended: &'a [Appended],
        told: Announced,
    ) -> impl Iterator<Item = Event> + 'a {
        let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
        messages.iter().zip(appended).flat_map(move |(message, appended)| {
            let of = |user: &str, device: &str| Arc::new(Device::elsewhere(user, device));
            let committed = |stanza_id, seq, reason| {
                let sender = of(message.from.as_str(), message.device.as_str());
                let event = Event::new(self.at_us, Step::Committed, &sender);
                Event { reason, stanza_id: Some(stanza_id), seq, count, took_us: self.took_us, ..event }
            };
            match *appended {
                Appended::Stored { sent, received } => {
                    let stanza_id = message.stanza_id;
                    let announced = Event::new(told.at_us, Step::Announced, &of(message.to.as_str(), ""));
                    let announced =
                        Event { stanza_id: Some(stanza_id), seq: received, count: told.relays, ..announced };
                    [Some(committed(stanza_id, sent, Reason::None)), Some(announced)]
                }
                Appended::Repeated { stanza_id, sent } => {
                    [Some(committed(stanza_id, sent, Reason::Repeated)), None]
                }
                // The sender's relay notes that it is refused.
                Appended::Conflict | Appended::NoAccount => [None, None],
            }
            .into_iter()
            .flatten()
        })
    }
}

#[cfg(test)]
mod tests {
    use kurir_protocol::name::{Resource, UserKey};

    use super::*;

    fn message(id: &str) -> NewMessage {
        NewMessage {
            from: UserKey::of("esa").unwrap(),
            device: Resource::named("phone").unwrap(),
            id: id.to_owned(),
            to: UserKey::of("fajar").unwrap(),
            stanza_id: Uuid::now_v7(),
            ts_ms: 1,
            stanza: "{}".to_owned(),
            displayed: None,
        }
    }

    #[test]
    fn a_transaction_is_noted_with_both_places_and_what_was_there_before_as_such() {
        let messages = [message("1"), message("2"), message("3")];
        let first = Uuid::now_v7();
        let appended = [
            Appended::Stored { sent: 7, received: 12 },
            Appended::Repeated { stanza_id: first, sent: 3 },
            Appended::Conflict,
        ];
        let committed = Committed::now(Duration::from_millis(2));
        let noted: Vec<_> = committed
            .events(&messages, &appended, Announced { at_us: 9, relays: 2 })
            .map(|event| {
                let of = format!("{}/{}", event.device.user, event.device.name);
                (event.stanza_id, event.step, event.reason, of, event.seq, event.count)
            })
            .collect();
        let (stanza, phone) = (Some(messages[0].stanza_id), "esa/phone".to_owned());
        assert_eq!(
            noted,
            [
                (stanza, Step::Committed, Reason::None, phone.clone(), 7, 3),
                (stanza, Step::Announced, Reason::None, "fajar/".to_owned(), 12, 2),
                (Some(first), Step::Committed, Reason::Repeated, phone, 3, 3),
            ]
        );
    }

    #[test]
    fn a_sender_is_not_told_the_names_of_others_devices_nor_when_they_came_nor_a_stranger_that_they_are_there()
     {
        let event = |user: &str, step: Step| {
            let device = Arc::new(Device::new(user, "phone", 3, 1));
            Kept::encode("relay-1", Event::new(5_999, step, &device))
        };
        let told = |user, step, receiver| {
            for_sender(event(user, step), "esa", receiver).map(|told| (told.at_ms, told.device))
        };
        for receiver in [Receiver::Seen, Receiver::Hidden] {
            for step in Step::ALL {
                assert_eq!(told("esa", *step, receiver), Some((5, Some("phone".to_owned()))));
            }
            assert_eq!(told("fajar", Step::Announced, receiver), Some((5, None)));
            assert_eq!(told("fajar", Step::Connected, receiver), None);
        }
        for step in [Step::Heard, Step::Read, Step::Skipped, Step::Written, Step::Acked, Step::Lost] {
            assert_eq!(told("fajar", step, Receiver::Seen), Some((5, None)));
            assert_eq!(told("fajar", step, Receiver::Hidden), None);
        }
    }
}
