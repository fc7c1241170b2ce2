//! Values that must not be shown.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize, Serializer};

const HIDDEN: &str = "***";

/// Parameters of a URL that hold one.
const PASSWORDS: [&str; 2] = ["password", "pass"];

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

/// `url` with its passwords, if it has any, replaced. Passwords that are not percent-encoded are met too: the last `@`
/// ends them, so what is hidden is rather too much than too little.
pub(super) fn without_password(url: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = url.split_once("://") else { return Cow::Borrowed(url) };
    let userinfo = rest.rsplit_once('@').and_then(|(userinfo, host)| {
        let (user, _password) = userinfo.split_once(':')?;
        Some(format!("{user}:{HIDDEN}@{host}"))
    });
    let rest = userinfo.map_or(Cow::Borrowed(rest), Cow::Owned);
    let Some((address, query)) = rest.split_once('?') else {
        return Cow::Owned(format!("{scheme}://{rest}"));
    };
    let parameters: Vec<_> = query.split('&').map(without_value).collect();
    Cow::Owned(format!("{scheme}://{address}?{}", parameters.join("&")))
}

/// A URL's parameter, without its value if that is a password, as `PostgreSQL`'s and Redis' clients take them.
fn without_value(parameter: &str) -> Cow<'_, str> {
    match parameter.split_once('=') {
        Some((name, _)) if PASSWORDS.iter().any(|password| name.eq_ignore_ascii_case(password)) => {
            Cow::Owned(format!("{name}={HIDDEN}"))
        }
        _ => Cow::Borrowed(parameter),
    }
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
            ("postgres://db/kurir?user=k&password=p&x=1", "postgres://db/kurir?user=k&password=***&x=1"),
            ("unix:///run/redis?db=1&pass=p@s:s", "unix:///run/redis?db=1&pass=***"),
            ("postgres://u:p@db/k?PASSWORD=q", "postgres://u:***@db/k?PASSWORD=***"),
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
