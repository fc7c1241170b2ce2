//! Registration and login (M8–M12).

use std::fmt;

use crate::{
    name::Resource,
    object::{Fields, Key, text, truthy},
};

/// An attempt to register or to log in.
///
/// Fields that are *bad* in the words of PROTOCOL §2 (missing, null, not a string, empty, or with white space) are
/// `None`: in which order they are answered is the manager's to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// The name as the client wrote it. Whether a new account may have it,
    /// [`Username::register`](crate::name::Username::register) says.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Password>,
    /// A new account is asked for: `register` was there and truthy.
    pub register: bool,
    /// The device, the default one where none is named (Part II `resource`).
    pub device: Option<Resource>,
    /// What the last login's reply gave, in place of the password (Part II `session`). What is no string is nobody's.
    pub session: Option<Session>,
}

impl Auth {
    pub(super) fn read(fields: &Fields<'_>) -> Self {
        Self {
            username: good(fields, Key::Username),
            password: good(fields, Key::Password).map(Password),
            register: fields.raw(Key::Register).is_some_and(truthy),
            device: device(fields),
            session: fields
                .given(Key::Session)
                .map(|raw| Session(text(raw).unwrap_or_default().into_owned())),
        }
    }
}

/// None: there is a `resource`, and it is no name of a device.
fn device(fields: &Fields<'_>) -> Option<Resource> {
    match fields.given(Key::Resource) {
        None => Some(Resource::default_device()),
        Some(raw) => Resource::named(&text(raw)?).ok(),
    }
}

/// A text that is not bad.
fn good(fields: &Fields<'_>, key: Key) -> Option<String> {
    let text = fields.text(key)?;
    (!text.is_empty() && !text.contains(char::is_whitespace)).then(|| text.into_owned())
}

/// A session's token, opaque to clients. Its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Session(String);

impl Session {
    /// A token to be given to a client.
    pub fn new(token: &str) -> Self {
        Self(token.to_owned())
    }

    /// The token itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session(…)")
    }
}

/// A password that is not bad. Its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// The password itself, to hash or to verify.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}
