//! What the servers know of this account: its devices, its conversations, and what became of its messages.

use kurir_client::{Client, ExplainedStep, Explanation, ListedDevice, Message, RequestError, Search};

use super::terminal::{plain, time, time_of_day};

/// The account's devices.
pub(super) fn devices(devices: &[ListedDevice]) -> String {
    if devices.is_empty() {
        return "* no device is known".into();
    }
    let lines = devices.iter().map(|device| {
        let name = plain(&device.resource);
        if device.online {
            format!("* {name}, online")
        } else {
            format!("* {name}, seen {}", time(device.seen_at_ms))
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What became of a message. The words are those of docs/operations.md.
pub(super) fn explained(number: u32, explanation: &Explanation) -> String {
    let Explanation { steps, incomplete } = explanation;
    let rest = match (steps.is_empty(), incomplete) {
        (true, false) => Some(format!("* the servers do not remember [{number}] any more")),
        (_, true) => {
            Some(format!("! [{number}] a server did not answer, and its part is missing: ask again later"))
        }
        (false, false) => None,
    };
    let lines = steps.iter().map(|ExplainedStep { at_ms, component, step, reason, device }| {
        let device = device.as_ref().map(|device| format!(" ({})", plain(device))).unwrap_or_default();
        let reason = if reason.is_empty() { String::new() } else { format!(": {}", plain(reason)) };
        let (at, step, component) = (time_of_day(*at_ms), plain(step), plain(component));
        format!("* [{number}] {at} {step} at {component}{device}{reason}")
    });
    lines.chain(rest).collect::<Vec<_>>().join("\n")
}

/// The last so many texts of a conversation, the oldest first. What lies between them says nothing to a reader.
pub(super) async fn history(client: &Client, with: String, count: u64) -> Result<Vec<Message>, RequestError> {
    let mut texts = Vec::new();
    let mut search = Search { limit: Search::MOST, ..Search::with(with) };
    while (texts.len() as u64) < count {
        let page = client.archive(&search).await?;
        let first = page.messages.first().and_then(|message| message.entry.as_ref()).map(|entry| entry.seq);
        let newest_first = page.messages.into_iter().rev().filter(|message| message.body.is_some());
        texts.extend(newest_first.take(usize::try_from(count).unwrap_or(usize::MAX) - texts.len()));
        if page.complete || first.is_none() {
            break;
        }
        search.before = first;
    }
    texts.reverse();
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_listed_with_when_they_were_seen() {
        let device =
            |resource: &str, online| ListedDevice { resource: resource.into(), online, seen_at_ms: i64::MAX };
        let shown = devices(&[device("my\u{1b}tv", true), device("phone", false)]);
        assert_eq!(shown, "* my\u{fffd}tv, online\n* phone, seen some time");
        assert_eq!(devices(&[]), "* no device is known");
    }

    #[test]
    fn a_message_is_explained_a_step_a_line() {
        let step = |step: &str, reason: &str, device: Option<&str>| ExplainedStep {
            at_ms: i64::MAX,
            component: "relay-1".into(),
            step: step.into(),
            reason: reason.into(),
            device: device.map(Into::into),
        };
        let of = |steps: &[ExplainedStep], incomplete| Explanation { steps: steps.to_vec(), incomplete };
        let steps = [step("accepted", "", Some("tv")), step("heard", "announcement", None)];
        let shown = explained(3, &of(&steps, false));
        let expected =
            "* [3] some time accepted at relay-1 (tv)\n* [3] some time heard at relay-1: announcement";
        assert_eq!(shown, expected);
        assert_eq!(explained(3, &of(&[], false)), "* the servers do not remember [3] any more");
        let missing = "! [3] a server did not answer, and its part is missing: ask again later";
        assert_eq!(explained(3, &of(&[], true)), missing);
        assert!(explained(3, &of(&steps, true)).ends_with(missing));
    }
}
