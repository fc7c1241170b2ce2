//! Values that must not be shown.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize, Serializer};

const HIDDEN: &str = "***";

/// A string that may hold a password. Of a URL only the password is hidden, of anything else everything: in `Debug`, in
/// `Display` and when serialised. A default value must therefore hold no password.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a string.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The string itself, for whoever needs the password.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_str() {
            "" => Ok(()),
            url if url.contains("://") => f.write_str(&without_password(url)),
            _ => f.write_str(HIDDEN),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `url` with its password, if it has one, replaced. Passwords that are not percent-encoded are met too: the last `@`
/// before the query ends them, so what is hidden is rather too much than too little.
pub(super) fn without_password(url: &str) -> Cow<'_, str> {
    let hidden = url.split_once("://").and_then(|(scheme, rest)| {
        let (userinfo, host) = rest.rsplit_once('@')?;
        let (user, _password) = userinfo.split_once(':')?;
        Some(format!("{scheme}://{user}:{HIDDEN}@{host}"))
    });
    hidden.map_or(Cow::Borrowed(url), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_of_a_url_is_hidden() {
        for (url, shown) in [
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
            ("redis://:pw@h:1/0", "redis://:***@h:1/0"),
            ("postgres://kurir:p@ss:w/rd@db/kurir", "postgres://kurir:***@db/kurir"),
            ("postgres://kurir@db/kurir", "postgres://kurir@db/kurir"),
            ("sqlite://dir/kurir.db?mode=rwc", "sqlite://dir/kurir.db?mode=rwc"),
            ("memory://", "memory://"),
        ] {
            let secret = Secret::new(url);
            assert_eq!(secret.to_string(), shown);
            assert_eq!(format!("{secret:?}"), shown);
            assert_eq!(secret.expose(), url);
        }
    }

    #[test]
    fn anything_else_is_hidden_whole() {
        assert_eq!(Secret::new("hunter2").to_string(), "***");
        assert_eq!(Secret::default().to_string(), "");
    }
}
