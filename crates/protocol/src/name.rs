//! Names: of users, of their devices, of their logins.

mod address;
mod resource;

use std::{
    borrow::{Borrow, Cow},
    fmt,
    sync::Arc,
};

use precis_profiles::{UsernameCaseMapped, precis_core::profile::PrecisFastInvocation};
use serde::{Deserialize, Serialize};

pub use address::{Address, bare, full};
pub use resource::{BadResource, Resource};

/// A name that no account can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a username")]
pub struct BadName;

/// The longest localpart of RFC 7622, in bytes.
const MAX_BYTES: usize = 1023;

/// At most so many characters that RFC 5892 allows only in the right context: the library looks through the whole name for
/// each of them, and any message names a receiver.
const MAX_CONTEXTUAL: usize = 32;

/// The names that components speak by.
const RESERVED: [&str; 4] = ["relay", "manager", "tracker", "server"];

/// A username as its owner registered it, which is how others are shown it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Username(Arc<str>);

impl Username {
    /// The name of a new account: an RFC 7622 localpart under RFC 8265 `UsernameCaseMapped`, and none of the names that
    /// components speak by (PROTOCOL §2).
    pub fn register(name: &str) -> Result<Self, BadName> {
        let key = UserKey::map(name).ok_or(BadName)?;
        if RESERVED.contains(&key.as_ref()) { Err(BadName) } else { Ok(Self(name.into())) }
    }

    /// A name that was registered before, as it comes from the database.
    pub fn stored(name: String) -> Self {
        Self(name.into())
    }
    /// What this name compares by.
    pub fn key(&self) -> UserKey {
        // A name registered under the tables of another Unicode version must still find its own account.
        UserKey::of(&self.0).unwrap_or_else(|BadName| UserKey(Arc::clone(&self.0)))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl AsRef<str> for Username {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// A username case-mapped: what names compare by, and what users are found by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserKey(Arc<str>);

impl UserKey {
    /// Maps a name as somebody wrote it.
    pub fn of(name: &str) -> Result<Self, BadName> {
        Self::map(name).map(|key| Self(key.into())).ok_or(BadName)
    }

    /// Like [`of`](Self::of), for looking up only: borrows where the name is its own key, as ASCII in lower case is.
    #[inline]
    pub fn map(name: &str) -> Option<Cow<'_, str>> {
        if name.is_empty() || name.len() > MAX_BYTES {
            return None;
        }
        let mut upper = false;
        for &byte in name.as_bytes() {
            if byte >= 0x80 {
                return map_unicode(name);
            }
            if !in_localpart(byte) {
                return None;
            }
            upper |= byte.is_ascii_uppercase();
        }
        Some(if upper { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) })
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl AsRef<str> for UserKey {
    fn as_ref(&self) -> &str {
        &self.0
    }
}
impl Borrow<str> for UserKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}
impl TryFrom<String> for UserKey {
    type Error = BadName;
    fn try_from(name: String) -> Result<Self, BadName> {
        Self::of(&name)
    }
}
impl TryFrom<&str> for UserKey {
    type Error = BadName;
    fn try_from(name: &str) -> Result<Self, BadName> {
        Self::of(name)
    }
}
impl From<UserKey> for String {
    fn from(key: UserKey) -> Self {
        key.0.as_ref().to_owned()
    }
}

/// RFC 8265 maps once; a key that would map to yet another one could not be read back, so it is none.
fn map_unicode(name: &str) -> Option<Cow<'_, str>> {
    if name.chars().filter(|character| is_contextual(*character)).count() > MAX_CONTEXTUAL {
        return None;
    }
    let key = UsernameCaseMapped::enforce(name).ok()?;
    let good = key.len() <= MAX_BYTES
        // After mapping: a full-width `＠` has become an `@`.
        && key.bytes().all(|byte| byte >= 0x80 || in_localpart(byte))
        && UsernameCaseMapped::enforce(key.as_ref()).is_ok_and(|again| again == key);
    good.then_some(key)
}

/// `CONTEXTJ` and `CONTEXTO` of RFC 5892, appendix A.
fn is_contextual(character: char) -> bool {
    matches!(
        character,
        '\u{B7}' | '\u{375}' | '\u{5F3}' | '\u{5F4}' | '\u{660}'..='\u{669}' | '\u{6F0}'..='\u{6F9}'
            | '\u{200C}' | '\u{200D}' | '\u{30FB}'
    )
}

/// What RFC 7622 leaves of ASCII for a localpart.
fn in_localpart(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'&' | b'\'' | b'/' | b':' | b'<' | b'>' | b'@')
}

/// Which login of an account this is: counted per account, and each newer than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LoginId(pub u64);

impl fmt::Display for LoginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_of_nothing_but_characters_that_need_their_context_is_nobodys() {
        let name = |digits| format!("ا{}", "٠".repeat(digits));
        assert!(UserKey::of(&name(MAX_CONTEXTUAL)).is_ok());
        assert_eq!(UserKey::of(&name(MAX_CONTEXTUAL + 1)), Err(BadName));
    }

    #[test]
    fn names_compare_case_mapped_and_are_shown_as_registered() {
        let name = Username::register("EsaÉ").unwrap();
        assert_eq!(name.as_str(), "EsaÉ");
        assert_eq!(name.key(), UserKey::of("esaé").unwrap());
        assert_eq!(UserKey::of("ｅｓａ").unwrap().as_str(), "esa");
    }

    #[test]
    fn ascii_in_lower_case_is_its_own_key() {
        assert!(matches!(UserKey::map("esa.b-1_~"), Some(Cow::Borrowed("esa.b-1_~"))));
        assert_eq!(UserKey::map("ESA").as_deref(), Some("esa"));
    }

    /// M9, PROTOCOL §2: no RFC 7622 localpart.
    #[test]
    fn what_is_no_localpart_is_refused() {
        for bad in [
            "",
            " ",
            "a b",
            "a\tb",
            "a\u{3000}b",
            "a\u{A0}b",
            "a@b",
            "a＠b",
            "a/b",
            "a:b",
            "a<b",
            "a>b",
            "a&b",
            "a'b",
            "a\"b",
        ] {
            assert_eq!(Username::register(bad), Err(BadName), "{bad:?}");
        }
        assert_eq!(Username::register("a\u{80}\u{81}\u{82}b"), Err(BadName), "the delimiter");
        assert_eq!(Username::register("a\u{FFFD}"), Err(BadName), "half a surrogate pair");
        assert!(Username::register(&"a".repeat(1023)).is_ok());
        assert_eq!(Username::register(&"a".repeat(1024)), Err(BadName));
    }

    /// PROTOCOL §0, the third trap.
    #[test]
    fn the_names_of_components_are_taken_in_any_spelling() {
        for reserved in ["relay", "Manager", "TRACKER", "ｓｅｒｖｅｒ"] {
            assert_eq!(Username::register(reserved), Err(BadName), "{reserved}");
        }
        assert!(Username::register("relay1").is_ok());
    }

    proptest! {
        #[test]
        fn ascii_names_map_as_the_profile_says(name in "[ -~]{1,12}") {
            let profile = UsernameCaseMapped::enforce(name.as_str()).ok().filter(|key| key.bytes().all(in_localpart));
            prop_assert_eq!(UserKey::map(&name), profile);
        }

        #[test]
        fn a_key_is_its_own_key(name in "\\PC{1,8}") {
            if let Ok(key) = UserKey::of(&name) {
                prop_assert_eq!(UserKey::try_from(String::from(key.clone())), Ok(key));
            }
        }
    }
}
