//! What a client is told of its account's devices and of its own messages (Part II `account`, `explain`).

use super::from_server::number;
use crate::{
    Malformed,
    manager::{ExplainedStep, Explanation, ListedDevice},
    object::{Elements, Fields, Key, Members, text, truthy},
};

pub(super) fn devices(query: &Fields<'_>) -> Result<Vec<ListedDevice>, Malformed> {
    let elements = query.raw(Key::Devices).and_then(Elements::of).into_iter().flatten();
    let device = |fields: Fields<'_>| {
        Some(ListedDevice {
            resource: fields.text(Key::Resource)?.into_owned(),
            online: fields.raw(Key::Online).is_some_and(truthy),
            seen_at_ms: number(&fields, Key::SeenAt)?,
        })
    };
    elements.filter_map(|raw| Fields::read(raw).map(device).transpose()).collect()
}

/// `query`: the object, raw. Its keys are of this answer alone.
pub(super) fn explanation(query: &str) -> Explanation {
    let events = member(query, "events").and_then(Elements::of).into_iter().flatten();
    Explanation {
        steps: events.filter_map(step).collect(),
        incomplete: member(query, "incomplete").is_some_and(truthy),
    }
}

fn step(raw: &str) -> Option<ExplainedStep> {
    let of = |key| member(raw, key).and_then(text).map(Into::into);
    Some(ExplainedStep {
        at_ms: member(raw, "at")?.parse().ok()?,
        component: of("component")?,
        step: of("step")?,
        reason: of("reason").unwrap_or_default(),
        device: of("device"),
    })
}

fn member<'a>(object: &'a str, key: &str) -> Option<&'a str> {
    Members::of(object)?.find(|member| member.key == key).map(|member| member.raw)
}
