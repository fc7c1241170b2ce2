//! Events on gRPC.

use std::sync::Arc;

use kurir_rpc::v1;
use uuid::Uuid;

use crate::{Asked, Device, Event, Reason, SentAs, Step};

/// An event with the component that noted it.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The component's id.
    pub component: String,
    /// What it noted.
    pub event: Event,
}

/// What is asked for is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a stanza id")]
pub struct BadStanzaId;

impl Kept {
    /// As it is sent.
    pub fn encode(component: &str, event: Event) -> v1::TrailEvent {
        let Event { at_us, step, reason, stanza_id, device, seq, message_id, peer, count, took_us } = event;
        v1::TrailEvent {
            at_us,
            component: component.to_owned(),
            step: step.as_str().to_owned(),
            reason: reason.as_str().to_owned(),
            stanza_id: stanza_id.map_or_else(String::new, |id| id.to_string()),
            user: device.user.to_string(),
            device: device.name.to_string(),
            connection: device.connection,
            since_us: device.since_us,
            seq,
            message_id: message_id.map(String::from).unwrap_or_default(),
            peer: peer.map_or_else(String::new, |peer| peer.to_string()),
            count,
            took_us,
        }
    }

    /// As it was noted. None: of a later version, or broken.
    pub fn decode(event: v1::TrailEvent) -> Option<Self> {
        let device = Device::new(&event.user, &event.device, event.connection, event.since_us);
        let stanza_id = match &*event.stanza_id {
            "" => None,
            id => Some(Uuid::try_parse(id).ok()?),
        };
        let decoded = Event {
            at_us: event.at_us,
            step: Step::of(&event.step)?,
            reason: Reason::of(&event.reason)?,
            stanza_id,
            device: Arc::new(device),
            seq: event.seq,
            message_id: (!event.message_id.is_empty()).then(|| event.message_id.into()),
            peer: (!event.peer.is_empty()).then(|| event.peer.into()),
            count: event.count,
            took_us: event.took_us,
        };
        Some(Self { component: event.component, event: decoded })
    }
}

impl Asked {
    /// As it is sent.
    pub fn encode(&self) -> v1::ExplainRequest {
        v1::ExplainRequest {
            stanza_id: self.stanza_id.map_or_else(String::new, |id| id.to_string()),
            sent_as: self.sent_as.clone().map(|SentAs { user, device, id }| v1::SentAs {
                user,
                device: device.unwrap_or_default(),
                id,
            }),
        }
    }

    /// As it was asked.
    pub fn decode(request: v1::ExplainRequest) -> Result<Self, BadStanzaId> {
        let stanza_id = match &*request.stanza_id {
            "" => None,
            id => Some(Uuid::try_parse(id).map_err(|_| BadStanzaId)?),
        };
        let sent_as = request.sent_as.map(|v1::SentAs { user, device, id }| SentAs {
            user,
            device: (!device.is_empty()).then_some(device),
            id,
        });
        Ok(Self { stanza_id, sent_as })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_arrives_as_it_was_noted() {
        let device = Arc::new(Device::new("esa", "phone", 3, 4));
        let full = Event {
            reason: Reason::Repeated,
            stanza_id: Some(Uuid::now_v7()),
            seq: 7,
            message_id: Some("a\0b".into()),
            peer: Some("manager-1".into()),
            count: 2,
            took_us: 4200,
            ..Event::new(5, Step::Stored, &device)
        };
        for event in [full, Event::new(6, Step::Written, &device)] {
            let sent = Kept::encode("relay-1", event);
            let kept = Kept::decode(sent.clone()).unwrap();
            assert_eq!(Kept::encode(&kept.component, kept.event), sent);
        }
    }

    #[test]
    fn what_a_later_version_notes_is_left_out() {
        let sent =
            Kept::encode("relay-1", Event::new(6, Step::Written, &Arc::new(Device::elsewhere("esa", ""))));
        for broken in [
            v1::TrailEvent { step: "teleported".into(), ..sent.clone() },
            v1::TrailEvent { reason: "bored".into(), ..sent.clone() },
            v1::TrailEvent { stanza_id: "7".into(), ..sent },
        ] {
            assert!(Kept::decode(broken).is_none());
        }
    }

    #[test]
    fn a_question_arrives_as_it_was_asked() {
        let sent_as = SentAs { user: "esa".into(), device: None, id: "1".into() };
        for asked in [
            Asked { stanza_id: Some(Uuid::now_v7()), sent_as: None },
            Asked { stanza_id: None, sent_as: Some(sent_as.clone()) },
            Asked { stanza_id: None, sent_as: Some(SentAs { device: Some("tv".into()), ..sent_as }) },
        ] {
            assert_eq!(Asked::decode(asked.encode()), Ok(asked));
        }
        let bad = v1::ExplainRequest { stanza_id: "7".into(), sent_as: None };
        assert_eq!(Asked::decode(bad), Err(BadStanzaId));
    }
}
