//! A message on its way.

use std::{borrow::Cow, ops::Range};

use memchr::memchr2;

use crate::{
    object::{Key, Members, is_null, text},
    write,
};

/// A message as its sender wrote it, read as far as routing needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    value: &'a str,
    to: Option<Cow<'a, str>>,
    id: MessageId<'a>,
    kept: Kept,
}

/// Whether a message is tracked (Part II), and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageId<'a> {
    /// Untracked: the original's.
    None,
    /// A string of 1 to [`MessageId::MAX_BYTES`] bytes.
    Tracked(Cow<'a, str>),
    /// Neither: to be refused, with the id as the client wrote it.
    Bad(&'a str),
}

impl<'a> MessageId<'a> {
    /// The longest id.
    pub const MAX_BYTES: usize = 255;

    pub(super) fn read(raw: &'a str) -> Self {
        match text(raw) {
            // Half a surrogate pair is no character: it has become U+FFFD, as others would.
            Some(id) if id.contains(char::REPLACEMENT_CHARACTER) => Self::Bad(raw),
            Some(id) if (1..=Self::MAX_BYTES).contains(&id.len()) => Self::Tracked(id),
            None if is_null(raw) => Self::None,
            _ => Self::Bad(raw),
        }
    }
}

impl<'a> Message<'a> {
    pub(super) fn new(value: &'a str, to: Option<Cow<'a, str>>, id: MessageId<'a>, kept: Kept) -> Self {
        Self { value, to, id, kept }
    }

    /// Whether the message is to be stored before it is delivered.
    pub fn id(&self) -> &MessageId<'a> {
        &self.id
    }

    /// The receiver as the sender wrote it; none where `to` is missing or no string (R15).
    pub fn to(&self) -> Option<&str> {
        self.to.as_deref()
    }

    /// Whether it says nothing but a chat state, which is for now and stored by nobody.
    pub fn is_state(&self) -> bool {
        let says = |key| has(self.value, key);
        says(&[Key::State]) && !says(&[Key::Body, Key::Subject, Key::Receipt, Key::Marker])
    }

    /// Whether its sender is told that it found no receiver: see [`is_bounced`].
    pub fn is_bounced(&self) -> bool {
        is_bounced(self.value)
    }

    /// Appends what the receiver is sent, as one canonical line: `from` is what the relay knows, `seq`, `stanza_id`, `ts`
    /// and `error` are gone, everything else is as the sender wrote it, without the line breaks between tokens.
    pub fn write(&self, from: &str, out: &mut Vec<u8>) {
        out.reserve(self.value.len() + from.len() + r#"{"from":"","#.len() + 2);
        out.extend_from_slice(br#"{"from":"#);
        write::string(out, from);
        // Valid JSON has line breaks only between tokens, where nothing needs them.
        let one_line = memchr2(b'\n', b'\r', self.value.as_bytes()).is_none();
        for run in self.kept.runs() {
            let members = self.value.as_bytes().get(run).unwrap_or_default();
            out.push(b',');
            if one_line {
                out.extend_from_slice(members);
            } else {
                out.extend(members.iter().filter(|byte| !matches!(byte, b'\n' | b'\r')));
            }
        }
        out.extend_from_slice(b"}\n");
    }
}

/// Whether the sender of a message is told that it found no receiver (R15). What only accompanies a conversation never
/// comes back (Part II: `subject`, `thread`, `state`, `receipt`, `marker` without `body`).
pub fn is_bounced(stanza: &str) -> bool {
    has(stanza, &[Key::Body])
        || !has(stanza, &[Key::Subject, Key::Thread, Key::State, Key::Receipt, Key::Marker])
}

/// Whether the object has a member with one of these keys.
fn has(stanza: &str, keys: &[Key]) -> bool {
    let mut members = Members::of(stanza).into_iter().flatten();
    members.any(|member| Key::of(&member.key).is_some_and(|key| keys.contains(&key)))
}

/// Where the members are that travel along: runs of neighbours, of which each member that is cut ends one.
///
/// Each of the keys that are cut is a known one, so it occurs once, and there is one run more than there are keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Kept {
    runs: [Range32; Self::CUT + 1],
    closed: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Range32 {
    start: u32,
    end: u32,
}

impl Kept {
    /// `from`, `seq`, `stanza_id`, `ts`, `error`.
    const CUT: usize = 5;

    /// None beyond 4 GiB.
    #[inline]
    pub(super) fn keep(&mut self, span: &Range<usize>) -> Option<()> {
        let run = self.runs.get_mut(self.closed)?;
        if run.end == 0 {
            run.start = u32::try_from(span.start).ok()?;
        }
        run.end = u32::try_from(span.end).ok()?;
        Some(())
    }

    #[inline]
    pub(super) fn cut(&mut self) {
        let open = self.runs.get(self.closed).is_some_and(|run| run.end > 0);
        self.closed += usize::from(open);
    }

    fn runs(&self) -> impl Iterator<Item = Range<usize>> {
        self.runs.iter().filter(|run| run.end > 0).map(|run| run.start as usize..run.end as usize)
    }
}
