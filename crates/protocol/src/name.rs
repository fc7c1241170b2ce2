//! Names: of users, of their devices, of their logins.

use std::{
    borrow::{Borrow, Cow},
    fmt,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

/// A name that no account can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a username")]
pub struct BadName;

/// A username as its owner registered it, which is how others are shown it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Username(Arc<str>);

impl Username {
    /// The name of a new account: an RFC 7622 localpart under RFC 8265 `UsernameCaseMapped`, and none of the names that
    /// components speak by (PROTOCOL §2).
    pub fn register(_name: &str) -> Result<Self, BadName> {
        todo!()
    }
    /// A name that was registered before, as it comes from the database.
    pub fn stored(name: String) -> Self {
        Self(name.into())
    }
    /// What this name compares by.
    pub fn key(&self) -> UserKey {
        todo!()
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
    pub fn of(_name: &str) -> Result<Self, BadName> {
        todo!()
    }
    /// Like [`of`](Self::of), for looking up only: borrows where the name is its own key, as ASCII in lower case is.
    pub fn map(_name: &str) -> Option<Cow<'_, str>> {
        todo!()
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

/// A device of a user.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Resource(Arc<str>);

impl Resource {
    /// The device of everybody who names none.
    pub fn default_device() -> Self {
        todo!()
    }
    /// The resource as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl AsRef<str> for Resource {
    fn as_ref(&self) -> &str {
        &self.0
    }
}
impl Borrow<str> for Resource {
    fn borrow(&self) -> &str {
        &self.0
    }
}
impl TryFrom<String> for Resource {
    type Error = BadName;
    fn try_from(name: String) -> Result<Self, BadName> {
        let _ = name;
        todo!()
    }
}
impl From<Resource> for String {
    fn from(resource: Resource) -> Self {
        resource.0.as_ref().to_owned()
    }
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
