//! The known members of one object.

use std::borrow::Cow;

use super::{Key, Malformed, Members, Seen, is_null, text};

/// The known members of an object, as raw values.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    raw: [Option<&'a str>; Key::COUNT],
}

impl<'a> Fields<'a> {
    /// Reads a valid object; a known key twice makes it malformed.
    pub fn read(object: &'a str) -> Result<Self, Malformed> {
        let mut raw = [None; Key::COUNT];
        let mut seen = Seen::default();
        for member in Members::of(object).ok_or(Malformed)? {
            let Some(key) = Key::of(&member.key) else { continue };
            seen.note(key)?;
            if let Some(field) = raw.get_mut(key as usize) {
                *field = Some(member.raw);
            }
        }
        Ok(Self { raw })
    }

    /// The raw value; none where it is missing or null.
    pub fn given(&self, key: Key) -> Option<&'a str> {
        self.raw(key).filter(|raw| !is_null(raw))
    }

    /// The raw value, null too; none where it is missing.
    pub fn raw(&self, key: Key) -> Option<&'a str> {
        self.raw.get(key as usize).copied().flatten()
    }

    /// The text; none where it is missing or no string.
    pub fn text(&self, key: Key) -> Option<Cow<'a, str>> {
        text(self.raw(key)?)
    }

    /// Whether the text is this one without regard to ASCII case.
    pub fn says(&self, key: Key, what: &str) -> bool {
        self.text(key).is_some_and(|text| text.eq_ignore_ascii_case(what))
    }

    /// The object under this key; none where it is missing or no object.
    pub fn object(&self, key: Key) -> Result<Option<Fields<'a>>, Malformed> {
        match self.raw(key) {
            Some(raw) if raw.starts_with('{') => Fields::read(raw).map(Some),
            _ => Ok(None),
        }
    }
}
