//! A message on its way.

use std::borrow::Cow;

/// A message as its sender wrote it, read as far as routing needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    value: &'a str,
    to: Option<Cow<'a, str>>,
}

impl<'a> Message<'a> {
    /// The receiver as the sender wrote it; none where `to` is missing or no string (R15).
    pub fn to(&self) -> Option<&str> {
        self.to.as_deref()
    }

    /// Appends what the receiver is sent, as one canonical line: `from` is what the relay knows, `seq`, `stanza_id`, `ts`
    /// and `error` are gone, everything else is as the sender wrote it, without the line breaks between tokens.
    pub fn write(&self, from: &str, out: &mut Vec<u8>) {
        let _ = (from, out, self.value);
        todo!()
    }
}
