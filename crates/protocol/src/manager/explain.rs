//! What became of an own message (Part II `explain`).

use crate::{
    Malformed, iq,
    object::{Fields, Key},
    write,
};

/// A request about a message that the asker has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainRequest {
    /// To be echoed.
    pub id: Option<iq::Id>,
    /// The message, as the acknowledgement has named it. None: to be answered with [`iq::Condition::BadRequest`].
    pub stanza_id: Option<String>,
}

impl ExplainRequest {
    /// What it is answered with: to the asker, null before login.
    pub fn answer<'a>(&'a self, to: Option<&'a str>) -> iq::Answer<'a> {
        iq::Answer::new("explain", to, self.id.as_ref())
    }

    /// None where an iq asks for nothing: a result or an error.
    pub(super) fn read(iq: &Fields<'_>) -> Result<Option<Self>, Malformed> {
        let stanza_id = match iq::Kind::of(iq) {
            iq::Kind::Answer => return Ok(None),
            iq::Kind::Get => iq.object(Key::Query)?.and_then(|query| query.text(Key::StanzaId)),
            iq::Kind::Set | iq::Kind::Bad => None,
        };
        Ok(Some(Self { id: iq::Id::of(iq), stanza_id: stanza_id.map(Into::into) }))
    }
}

/// Something that became of the message, as its sender is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedStep {
    /// Milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The id of the relay or manager where it happened.
    pub component: String,
    /// A word of docs/operations.md.
    pub step: String,
    /// Another one; left out if empty.
    pub reason: String,
    /// The asker's own device that it is about. Devices of others are not named.
    pub device: Option<String>,
}

/// What became of a message, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// In order. Nothing, and not incomplete: it is not known any more.
    pub steps: Vec<ExplainedStep>,
    /// A component, or a database, gave no answer: there may be more.
    pub incomplete: bool,
}

/// To an [`ExplainRequest`].
impl iq::Answer<'_> {
    /// What became of it.
    pub fn explanation(self, out: &mut Vec<u8>, explanation: &Explanation) {
        self.result(out, |query| {
            let query = query.value("events", |out| write::array(out, &explanation.steps, write_step));
            if explanation.incomplete { query.raw("incomplete", "true") } else { query }
        });
    }
}

fn write_step(out: &mut Vec<u8>, step: &ExplainedStep) {
    write::Object::begin(out)
        .number("at", step.at_ms)
        .text("component", &step.component)
        .text("step", &step.step)
        .text_if("reason", Some(&*step.reason).filter(|reason| !reason.is_empty()))
        .text_if("device", step.device.as_deref())
        .end();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iq::Condition;

    fn read(rest: &str) -> Option<ExplainRequest> {
        let packet = format!(r#"{{"stanza":"iq","namespace":"explain","id":"1",{rest}}}"#);
        ExplainRequest::read(&Fields::read(&packet).unwrap()).unwrap()
    }

    #[test]
    fn a_message_is_asked_for_by_its_stanza_id() {
        for (rest, expected) in [
            (r#""type":"get","query":{"stanza_id":"0194"}"#, Some("0194")),
            (r#""type":"GET","query":{"stanza_id":"\u0030"}"#, Some("0")),
            (r#""type":"set","query":{"stanza_id":"0194"}"#, None),
            (r#""type":"get","query":{"stanza_id":7}"#, None),
            (r#""type":"get","query":["0194"]"#, None),
            (r#""type":"get""#, None),
            (r#""type":"ask","query":{"stanza_id":"0194"}"#, None),
        ] {
            assert_eq!(read(rest).unwrap().stanza_id.as_deref(), expected, "{rest}");
        }
        assert_eq!(read(r#""type":"error""#), None);
    }

    #[test]
    fn answers_are_written_as_the_documentation_says() {
        let id = read(r#""type":"get""#).unwrap().id;
        let answer = iq::Answer::new("explain", Some("esa"), id.as_ref());
        let line = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            String::from_utf8(out).unwrap()
        };
        let step = |step: &str, reason: &str, device: Option<&str>| ExplainedStep {
            at_ms: 1_795_572_162_190,
            component: "relay-5010".into(),
            step: step.into(),
            reason: reason.into(),
            device: device.map(Into::into),
        };
        let steps = [step("accepted", "", Some("phone")), step("heard", "announcement", None)];
        let whole = Explanation { steps: steps.into(), incomplete: false };
        let expected = concat!(
            r#"{"stanza":"iq","namespace":"explain","type":"result","query":{"events":["#,
            r#"{"at":1795572162190,"component":"relay-5010","step":"accepted","device":"phone"},"#,
            r#"{"at":1795572162190,"component":"relay-5010","step":"heard","reason":"announcement"}"#,
            r#"]},"to":"esa","id":"1"}"#,
            "\n"
        );
        assert_eq!(line(&|out| answer.explanation(out, &whole)), expected);
        let partial = Explanation { steps: vec![], incomplete: true };
        let expected = concat!(
            r#"{"stanza":"iq","namespace":"explain","type":"result","#,
            r#""query":{"events":[],"incomplete":true},"to":"esa","id":"1"}"#,
            "\n"
        );
        assert_eq!(line(&|out| answer.explanation(out, &partial)), expected);
        let refused = iq::Answer::new("explain", None, id.as_ref());
        let expected = concat!(
            r#"{"stanza":"iq","namespace":"explain","type":"error","#,
            r#""error":{"type":"auth","condition":"not-authorized"},"to":null,"id":"1"}"#,
            "\n"
        );
        assert_eq!(line(&|out| refused.refused(out, Condition::NotLoggedIn)), expected);
    }
}
