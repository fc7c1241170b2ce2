//! Addresses: `name`, `name@domain`, `name@domain/resource` (PROTOCOL Part II `resource`, RFC 7622 section 3).

use std::borrow::Cow;

/// The parts of an address as somebody wrote it. None of them is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address<'a> {
    /// The user's name.
    pub name: &'a str,
    /// Where the user is known.
    pub domain: Option<&'a str>,
    /// Which of the user's devices.
    pub resource: Option<&'a str>,
}

impl<'a> Address<'a> {
    /// Takes an address apart. No name has an `@`, so where there is none all of it is the name.
    pub fn of(text: &'a str) -> Self {
        let Some((name, rest)) = text.split_once('@') else {
            return Self { name: text, domain: None, resource: None };
        };
        let (domain, resource) =
            rest.split_once('/').map_or((rest, None), |(domain, resource)| (domain, Some(resource)));
        Self { name, domain: Some(domain), resource }
    }

    /// Whether it is one of this domain's, as one without a domain is everywhere.
    pub fn is_at(&self, domain: &str) -> bool {
        self.domain.is_none_or(|own| own.eq_ignore_ascii_case(domain))
    }
}

/// The address of an account: `name@domain`. What has a domain already keeps it.
pub fn bare<'a>(address: &'a str, domain: &str) -> Cow<'a, str> {
    let Address { name, domain: own, resource } = Address::of(address);
    match (own, resource) {
        (None, _) => Cow::Owned(format!("{name}@{domain}")),
        (Some(_), None) => Cow::Borrowed(address),
        (Some(own), Some(_)) => Cow::Owned(format!("{name}@{own}")),
    }
}

/// The address of a device: `name@domain/resource`.
pub fn full(name: &str, domain: &str, resource: &str) -> String {
    format!("{name}@{domain}/{resource}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart_at_the_first_at_sign_and_the_first_slash_after_it() {
        for (text, name, domain, resource) in [
            ("esa", "esa", None, None),
            ("esa/phone", "esa/phone", None, None),
            ("esa@chat.example", "esa", Some("chat.example"), None),
            ("esa@chat.example/my/phone@home", "esa", Some("chat.example"), Some("my/phone@home")),
            ("@", "", Some(""), None),
        ] {
            assert_eq!(Address::of(text), Address { name, domain, resource }, "{text}");
        }
        assert!(Address::of("esa").is_at("chat.example"));
        assert!(Address::of("esa@Chat.Example").is_at("chat.example"));
        assert!(!Address::of("esa@elsewhere.example").is_at("chat.example"));
    }

    #[test]
    fn a_bare_address_has_a_domain_and_no_resource() {
        for (text, expected) in [
            ("esa", "esa@a.example"),
            ("esa@b.example", "esa@b.example"),
            ("esa@b.example/x", "esa@b.example"),
        ] {
            assert_eq!(bare(text, "a.example"), expected);
        }
        assert_eq!(full("esa", "a.example", "phone"), "esa@a.example/phone");
    }
}
