//! What becomes of one's own messages: numbered for people, with their ids for programs.

use std::collections::{HashSet, VecDeque};

use kurir_client::{Event, MessageId, NewMessage, Waiting, same_user};
use serde_json::{Value, json};

use super::terminal::{plain, time};

/// So many messages are remembered for their receipts.
const REMEMBERED: usize = 1000;

/// One's own messages since the start, and those left by an earlier one.
#[derive(Debug, Default)]
pub(super) struct Own {
    count: u32,
    /// Messages that will never be stored.
    refused: usize,
    messages: VecDeque<Mine>,
    /// What was told of a message before its sending was said to have worked.
    early: Vec<Event>,
}

#[derive(Debug)]
struct Mine {
    number: u32,
    id: MessageId,
    message: NewMessage,
    stanza_id: Option<String>,
    step: Step,
}

/// In the order in which they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Queued,
    Sent,
    Stored,
    Delivered,
    Read,
    Refused,
    /// Waited for too long: for the user to decide.
    Undecided,
}

/// The same for both kinds of readers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Said {
    /// Lines that begin with `!` are complaints.
    pub(super) line: Option<String>,
    pub(super) object: Value,
}

impl Own {
    /// A message is being sent: what is told of it is not lost.
    pub(super) fn sent(&mut self, id: MessageId, message: &NewMessage) -> Vec<Said> {
        let number = self.add(id, message);
        let object = json!({"event": "queued", "number": number, "id": id.to_string(), "to": message.to,
                            "body": message.body});
        let early = std::mem::take(&mut self.early);
        let later = early.iter().filter_map(|event| self.learn(event)).collect::<Vec<_>>();
        std::iter::once(Said { line: None, object }).chain(later).collect()
    }

    /// A line is no message after all.
    pub(super) fn not_sent(&mut self, message: &NewMessage, why: &str) -> Said {
        self.refused += 1;
        let to = Some(message.to.as_str()).filter(|to| !to.is_empty());
        let object = json!({"event": "refused", "to": to, "body": message.body, "reason": why});
        Said { line: Some(format!("! not sent: {why}")), object }
    }

    /// How many messages were refused, or not even queued.
    pub(super) fn refused(&self) -> usize {
        self.refused
    }

    /// Nothing becomes of these messages unless the user says so.
    pub(super) fn are_for_the_user(&self, ids: &[MessageId]) -> bool {
        let undecided = self.messages.iter().filter(|mine| mine.step == Step::Undecided);
        let undecided: HashSet<_> = undecided.map(|mine| mine.id).collect();
        ids.iter().all(|id| undecided.contains(id))
    }

    /// What was being done has sent no message.
    pub(super) fn nothing_sent(&mut self) {
        self.early.clear();
    }

    /// Takes an event in. Early: a message is being sent whose id is not known yet.
    pub(super) fn hear(&mut self, event: &Event, early: bool) -> Vec<Said> {
        let id = match event {
            Event::Sent { id } | Event::Stored { id, .. } | Event::Refused { id, .. } => Some(id),
            _ => None,
        };
        if early && id.is_some_and(|id| self.find(*id).is_none()) {
            self.early.push(event.clone());
            return Vec::new();
        }
        self.learn(event).into_iter().collect()
    }

    /// Messages whose sending is neither done nor over.
    pub(super) fn unsettled(&self) -> usize {
        self.messages.iter().filter(|mine| mine.step < Step::Stored).count()
    }

    /// The number of a message that is in the queue.
    pub(super) fn number(&self, id: MessageId) -> Option<u32> {
        self.messages.iter().find(|mine| mine.id == id).map(|mine| mine.number)
    }

    /// The message with this number.
    pub(super) fn get(&self, number: u32) -> Option<(MessageId, NewMessage)> {
        let mine = self.messages.iter().find(|mine| mine.number == number)?;
        Some((mine.id, mine.message.clone()))
    }

    /// What the servers call the message with this number; none while it is not stored.
    pub(super) fn stanza_id(&self, number: u32) -> Option<String> {
        self.messages.iter().find(|mine| mine.number == number)?.stanza_id.clone()
    }

    fn learn(&mut self, event: &Event) -> Option<Said> {
        match event {
            Event::Waiting(waiting) => self.waiting(waiting),
            Event::Expired(waiting) => self.expired(waiting),
            Event::Sent { id } => self.step(*id, Step::Sent, None, "sent"),
            Event::Stored { id, stanza_id, .. } => self.step(*id, Step::Stored, Some(stanza_id), "stored"),
            Event::Refused { id, refusal } => {
                let mine = self.find(*id)?;
                mine.step = Step::Refused;
                let line = format!("! [{}] not sent: {refusal}", mine.number);
                let reason = refusal.to_string();
                let object = json!({"event": "refused", "number": mine.number, "id": id.to_string(), "reason": reason});
                self.refused += 1;
                Some(Said { line: Some(line), object })
            }
            Event::Delivered { by, stanza_id, .. } => self.delivered(by, stanza_id),
            Event::Read { by, stanza_id, .. } => self.read(by, stanza_id),
            _ => None,
        }
    }

    fn waiting(&mut self, waiting: &Waiting) -> Option<Said> {
        // A receipt is nothing to look at.
        let body = waiting.message.body.as_deref()?;
        let to = &waiting.message.to;
        let number = self.add(waiting.id, &waiting.message);
        let (name, body) = (plain(to), plain(body));
        let line = format!("* [{number}] to {name}, of {}, not stored yet: {body}", time(waiting.since_ms));
        let object = json!({"event": "waiting", "number": number, "id": waiting.id.to_string(), "to": to,
                            "body": waiting.message.body, "since_ms": waiting.since_ms});
        Some(Said { line: Some(line), object })
    }

    fn expired(&mut self, waiting: &Waiting) -> Option<Said> {
        let mine = self.find(waiting.id)?;
        mine.step = Step::Undecided;
        let number = mine.number;
        let line = format!(
            "! [{number}] waited for more than a day and may have arrived or not: /again {number} sends it once more, /drop {number} gives it up"
        );
        let object = json!({"event": "expired", "number": number, "id": waiting.id.to_string()});
        Some(Said { line: Some(line), object })
    }

    /// Anybody can claim it: nothing is said of a message that was to somebody else, or that this start does not know.
    fn delivered(&mut self, by: &str, stanza_id: &str) -> Option<Said> {
        let mut object = json!({"event": "delivered", "by": by, "stanza_id": stanza_id});
        let mine = self.messages.iter_mut().find(|mine| mine.is(stanza_id, by))?;
        complete(&mut object, &[mine]);
        let line = (mine.step < Step::Delivered).then(|| format!("[{}] delivered", mine.number));
        mine.step = mine.step.max(Step::Delivered);
        Some(Said { line, object })
    }

    /// With the message itself all earlier ones of the conversation. The same holds as for [`Self::delivered`].
    fn read(&mut self, by: &str, stanza_id: &str) -> Option<Said> {
        let mut object = json!({"event": "read", "by": by, "stanza_id": stanza_id});
        let place = self.messages.iter().position(|mine| mine.is(stanza_id, by))?;
        let earlier = self.messages.iter_mut().take(place + 1);
        let read: Vec<_> = earlier
            .filter(|mine| same_user(&mine.message.to, by) && (Step::Stored..Step::Read).contains(&mine.step))
            .map(|mine| {
                mine.step = Step::Read;
                &*mine
            })
            .collect();
        complete(&mut object, &read);
        let numbers: Vec<_> = read.iter().map(|mine| mine.number.to_string()).collect();
        Some(Said { line: (!numbers.is_empty()).then(|| format!("[{}] read", numbers.join(", "))), object })
    }

    fn step(&mut self, id: MessageId, step: Step, stanza_id: Option<&String>, what: &str) -> Option<Said> {
        let mine = self.find(id)?;
        mine.step = mine.step.max(step);
        let mut object = json!({"event": what, "number": mine.number, "id": id.to_string()});
        if let (Some(stanza_id), Value::Object(members)) = (stanza_id, &mut object) {
            mine.stanza_id = Some(stanza_id.clone());
            members.insert("stanza_id".into(), stanza_id.as_str().into());
        }
        Some(Said { line: Some(format!("[{}] {what}", mine.number)), object })
    }

    fn add(&mut self, id: MessageId, message: &NewMessage) -> u32 {
        self.count += 1;
        if self.messages.len() >= REMEMBERED
            && let Some(settled) =
                self.messages.iter().position(|mine| (Step::Stored..=Step::Refused).contains(&mine.step))
        {
            self.messages.remove(settled);
        }
        let (number, message) = (self.count, message.clone());
        let mine = Mine { number, id, message, stanza_id: None, step: Step::Queued };
        self.messages.push_back(mine);
        self.count
    }

    fn find(&mut self, id: MessageId) -> Option<&mut Mine> {
        self.messages.iter_mut().find(|mine| mine.id == id)
    }
}

impl Mine {
    /// Whether it has this name, and was to this user.
    fn is(&self, stanza_id: &str, to: &str) -> bool {
        self.stanza_id.as_deref() == Some(stanza_id) && same_user(&self.message.to, to)
    }
}

/// Which messages of this start it is about.
fn complete(object: &mut Value, about: &[&Mine]) {
    if let Value::Object(members) = object {
        let numbers: Vec<_> = about.iter().map(|mine| mine.number).collect();
        let ids: Vec<_> = about.iter().map(|mine| mine.id.to_string()).collect();
        members.insert("numbers".into(), json!(numbers));
        members.insert("ids".into(), json!(ids));
    }
}

#[cfg(test)]
mod tests {
    use kurir_client::MessageRefusal;

    use super::*;

    /// Ids as the library makes them.
    fn id(number: u8) -> MessageId {
        serde_json::from_value(json!(format!("00000000-0000-0000-0000-0000000000{number:02}"))).unwrap()
    }

    fn stored(number: u8) -> Event {
        Event::Stored { id: id(number), stanza_id: format!("s{number}"), seq: None }
    }

    fn lines(said: Vec<Said>) -> Vec<String> {
        said.into_iter().filter_map(|said| said.line).collect()
    }

    #[test]
    fn a_message_goes_from_sent_to_read_by_its_number() {
        let mut own = Own::default();
        let message = NewMessage::text("fajar", "halo");
        // Told before its sending was said to have worked.
        assert!(own.hear(&Event::Sent { id: id(1) }, true).is_empty());
        assert_eq!(lines(own.sent(id(1), &message)), ["[1] sent"]);
        assert_eq!(own.unsettled(), 1);
        assert_eq!(lines(own.hear(&stored(1), false)), ["[1] stored"]);
        own.sent(id(2), &NewMessage::text("budi", "halo"));
        own.sent(id(3), &message);
        own.hear(&stored(2), false);
        own.hear(&stored(3), false);
        assert_eq!(own.unsettled(), 0);
        let delivered = Event::Delivered { by: "fajar".into(), stanza_id: "s1".into(), entry: None };
        assert_eq!(lines(own.hear(&delivered, false)), ["[1] delivered"]);
        assert!(lines(own.hear(&delivered, false)).is_empty(), "by another of his devices");
        let read = Event::Read { by: "fajar".into(), stanza_id: "s3".into(), entry: None };
        let said = own.hear(&read, false);
        assert_eq!(said[0].object["ids"], json!([id(1).to_string(), id(3).to_string()]));
        assert_eq!(lines(said), ["[1, 3] read"]);
    }

    #[test]
    fn only_the_receiver_can_say_that_a_message_has_arrived_or_is_read() {
        let mut own = Own::default();
        for (number, to) in [(1, "Fajar"), (2, "fajar@chat.example")] {
            own.sent(id(number), &NewMessage::text(to, "halo"));
            own.hear(&stored(number), false);
        }
        let told = |own: &mut Own, by: &str, stanza_id: &str| {
            let (by, stanza_id) = (by.to_owned(), stanza_id.to_owned());
            let delivered = Event::Delivered { by: by.clone(), stanza_id: stanza_id.clone(), entry: None };
            let read = Event::Read { by, stanza_id, entry: None };
            [delivered, read].map(|event| own.hear(&event, false)).concat()
        };
        assert_eq!(told(&mut own, "budi", "s1"), []);
        assert_eq!(told(&mut own, "budi", "unknown"), []);
        assert_eq!(told(&mut own, "fajar", "unknown"), []);
        assert_eq!(lines(told(&mut own, "FAJAR", "s2")), ["[2] delivered", "[1, 2] read"]);
    }

    #[test]
    fn a_refused_message_is_not_waited_for() {
        let mut own = Own::default();
        own.sent(id(1), &NewMessage::text("siapa", "halo"));
        let refused = Event::Refused { id: id(1), refusal: MessageRefusal::NoSuchUser };
        assert_eq!(lines(own.hear(&refused, false)), ["! [1] not sent: there is no such user"]);
        assert_eq!((own.unsettled(), own.refused()), (0, 1));
        assert!(own.hear(&stored(2), false).is_empty(), "a receipt of one's own");
        let refused = Event::Refused { id: id(2), refusal: MessageRefusal::NoSuchUser };
        assert!(own.hear(&refused, false).is_empty() && own.refused() == 1, "and another");
    }

    #[test]
    fn a_line_that_is_not_queued_is_an_object_too() {
        let mut own = Own::default();
        let said = own.not_sent(&NewMessage::text("fajar", "halo"), "it is too large");
        let object = json!({"event": "refused", "to": "fajar", "body": "halo", "reason": "it is too large"});
        assert_eq!(said, Said { line: Some("! not sent: it is too large".into()), object });
        assert_eq!((own.unsettled(), own.refused()), (0, 1));
    }

    #[test]
    fn what_an_earlier_start_has_left_has_a_number() {
        let mut own = Own::default();
        let message = NewMessage::text("fajar", "halo");
        let waiting = Waiting { id: id(1), since_ms: 1_726_223_542_222, expired: true, message };
        let said = lines(own.hear(&Event::Waiting(waiting.clone()), false));
        assert!(said[0].starts_with("* [1] to fajar, of 2024-09-1"), "{said:?}");
        assert!(lines(own.hear(&Event::Expired(waiting.clone()), false))[0].contains("/again 1"));
        assert_eq!((own.unsettled(), own.get(1)), (0, Some((id(1), waiting.message.clone()))));
        assert!(own.are_for_the_user(&[id(1)]));
        own.sent(id(2), &waiting.message);
        assert!(!own.are_for_the_user(&[id(1), id(2)]));
        // However many come after it.
        for _ in 0..REMEMBERED {
            own.sent(id(3), &waiting.message);
            own.hear(&stored(3), false);
        }
        assert!(own.are_for_the_user(&[id(1)]));
    }
}
