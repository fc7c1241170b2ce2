//! Requests that every socket answers by itself: ping, and every iq that it does not know (PROTOCOL Part II).

use crate::{
    object::{Fields, Key, text},
    write,
};

/// An iq's `id`, echoed in its answer: any JSON string, kept exactly as the client wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id(Box<str>);

impl Id {
    /// What is no string is not echoed.
    pub(crate) fn of(fields: &Fields<'_>) -> Option<Self> {
        let raw = fields.given(Key::Id)?;
        text(raw).map(|_| Self(raw.into()))
    }

    /// The JSON string, with its quotes.
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

/// What an iq's `type` makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Get,
    Set,
    /// A result or an error: never answered.
    Answer,
    /// Missing, or none of RFC 6120's.
    Bad,
}

impl Kind {
    pub(crate) fn of(fields: &Fields<'_>) -> Self {
        let is = |kind| fields.says(Key::Type, kind);
        match () {
            () if is("get") => Self::Get,
            () if is("set") => Self::Set,
            () if is("result") || is("error") => Self::Answer,
            () => Self::Bad,
        }
    }
}

/// An iq get or set that is answered on the spot, and exactly once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    ping: bool,
    namespace: Option<Box<str>>,
    id: Option<Id>,
}

impl Request {
    /// None where the iq asks for nothing.
    pub(crate) fn of(iq: &Fields<'_>) -> Option<Self> {
        let kind = Kind::of(iq);
        let namespace = iq.given(Key::Namespace).filter(|raw| text(raw).is_some());
        matches!(kind, Kind::Get | Kind::Set).then(|| Self {
            ping: kind == Kind::Get && iq.says(Key::Namespace, "ping"),
            namespace: namespace.map(Into::into),
            id: Id::of(iq),
        })
    }

    /// Whether it is a ping, which anybody may send at any time.
    pub fn is_ping(&self) -> bool {
        self.ping
    }

    /// Appends the answer as a canonical line: `result` to a ping, otherwise `cancel`, `service-unavailable`.
    pub fn answer(&self, out: &mut Vec<u8>) {
        self.write(out, ("cancel", "service-unavailable"));
    }

    /// Like [`answer`](Self::answer) where the client must log in first: a ping is answered all the same, everything
    /// else is `auth`, `not-authorized`.
    pub fn answer_before_login(&self, out: &mut Vec<u8>) {
        self.write(out, ("auth", "not-authorized"));
    }

    fn write(&self, out: &mut Vec<u8>, refusal: (&str, &str)) {
        let mut answer = write::Object::begin(out).text("stanza", "iq");
        if let Some(namespace) = &self.namespace {
            answer = answer.raw("namespace", namespace);
        }
        answer = answer.text("type", if self.ping { "result" } else { "error" });
        if !self.ping {
            answer = answer.value("error", |out| error(out, refusal));
        }
        with_id(answer, self.id.as_ref()).end_line();
    }
}

/// What a request is answered with, as a canonical line. What the result of each namespace says is with its requests.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    namespace: &'static str,
    to: Option<&'a str>,
    id: Option<&'a Id>,
}

impl<'a> Answer<'a> {
    /// To the asker `to`, null before login, with the `id` of its request.
    pub fn new(namespace: &'static str, to: Option<&'a str>, id: Option<&'a Id>) -> Self {
        Self { namespace, to, id }
    }

    /// The request is refused.
    pub fn refused(self, out: &mut Vec<u8>, condition: Condition) {
        self.write(out, "error", |iq| iq.value("error", |out| error(out, condition.error())));
    }

    /// It is done, and there is nothing to say.
    pub(crate) fn done(self, out: &mut Vec<u8>) {
        self.write(out, "result", |iq| iq);
    }

    /// `query` adds the members of the result.
    pub(crate) fn result(
        self,
        out: &mut Vec<u8>,
        query: impl FnOnce(write::Object<'_>) -> write::Object<'_>,
    ) {
        self.write(out, "result", |iq| iq.value("query", |out| query(write::Object::begin(out)).end()));
    }

    fn write(
        self,
        out: &mut Vec<u8>,
        kind: &str,
        content: impl FnOnce(write::Object<'_>) -> write::Object<'_>,
    ) {
        let iq = write::Object::begin(out).text("stanza", "iq").text("namespace", self.namespace);
        with_id(content(iq.text("type", kind)).text_or_null("to", self.to), self.id).end_line();
    }
}

/// Why a request is refused, in RFC 6120's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// auth, not-authorized: not logged in.
    NotLoggedIn,
    /// modify, bad-request.
    BadRequest,
    /// auth, forbidden: somebody else's.
    Forbidden,
    /// cancel, not-allowed.
    NotAllowed,
    /// cancel, item-not-found.
    ItemNotFound,
    /// wait, resource-constraint: database or directory away, or busy. Part I has no row for it; never one that blames the
    /// user.
    Temporary,
}

impl Condition {
    pub(crate) fn error(self) -> (&'static str, &'static str) {
        match self {
            Self::NotLoggedIn => ("auth", "not-authorized"),
            Self::BadRequest => ("modify", "bad-request"),
            Self::Forbidden => ("auth", "forbidden"),
            Self::NotAllowed => ("cancel", "not-allowed"),
            Self::ItemNotFound => ("cancel", "item-not-found"),
            Self::Temporary => ("wait", "resource-constraint"),
        }
    }
}

/// Appends RFC 6120's error type and condition as an object.
pub(crate) fn error(out: &mut Vec<u8>, (kind, condition): (&str, &str)) {
    write::Object::begin(out).text("type", kind).text("condition", condition).end();
}

pub(crate) fn with_id<'o>(object: write::Object<'o>, id: Option<&Id>) -> write::Object<'o> {
    match id {
        Some(id) => object.raw("id", id.as_json()),
        None => object,
    }
}
