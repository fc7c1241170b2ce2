//! A user's devices.

use std::{borrow::Borrow, cmp::Ordering, fmt, hash, sync::Arc};

use precis_profiles::{OpaqueString, precis_core::profile::PrecisFastInvocation};
use serde::{Deserialize, Serialize};

/// The name of the device of everybody who names none.
const DEFAULT: &str = "default";

/// The longest resourcepart of RFC 7622, in bytes.
const MAX_BYTES: usize = 1023;

/// No name of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a resource")]
pub struct BadResource;

/// A device of a user. The default one, which nearly everybody has, costs no allocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Resource(
    /// None: the default device, which has no other form.
    Option<Arc<str>>,
);

impl Resource {
    /// The device of everybody who names none.
    pub const fn default_device() -> Self {
        Self(None)
    }

    /// A device as its client names it: an RFC 7622 resourcepart, as RFC 8265's `OpaqueString` writes it, and not the
    /// default one, which cannot be named.
    pub fn named(resource: &str) -> Result<Self, BadResource> {
        let resource = OpaqueString::enforce(resource).map_err(|_| BadResource)?;
        match Self::try_from(resource.as_ref())? {
            Self(None) => Err(BadResource),
            named => Ok(named),
        }
    }

    /// The device that somebody's address means.
    pub fn addressed(resource: &str) -> Result<Self, BadResource> {
        if resource == DEFAULT { Ok(Self(None)) } else { Self::named(resource) }
    }

    /// Whether its client has given it a name.
    pub fn is_named(&self) -> bool {
        self.0.is_some()
    }

    /// The resource as text.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or(DEFAULT)
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl AsRef<str> for Resource {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Resource {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

// Hash and order are the text's, as `Borrow` promises.
impl hash::Hash for Resource {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Ord for Resource {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl PartialOrd for Resource {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl TryFrom<&str> for Resource {
    type Error = BadResource;

    fn try_from(resource: &str) -> Result<Self, BadResource> {
        match resource {
            DEFAULT => Ok(Self(None)),
            _ if resource.is_empty() || resource.len() > MAX_BYTES => Err(BadResource),
            _ => Ok(Self(Some(resource.into()))),
        }
    }
}

impl TryFrom<String> for Resource {
    type Error = BadResource;

    fn try_from(resource: String) -> Result<Self, BadResource> {
        Self::try_from(resource.as_str())
    }
}

impl From<Resource> for String {
    fn from(resource: Resource) -> Self {
        resource.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_device_has_one_form() {
        assert_eq!(Resource::try_from("default"), Ok(Resource::default_device()));
        assert_eq!(Resource::try_from(""), Err(BadResource));
        assert!(Resource::try_from("phone").unwrap() > Resource::default_device());
    }

    #[test]
    fn a_client_names_its_device_by_a_resourcepart_other_than_the_default_one() {
        for good in ["phone", "my phone", "a/b@c", "ｐhone", "d\u{e9}faut"] {
            assert!(Resource::named(good).is_ok_and(|resource| resource.is_named()), "{good:?}");
        }
        for bad in ["", "default", "a\nb", "a\u{7f}b", &"a".repeat(MAX_BYTES + 1)] {
            assert_eq!(Resource::named(bad), Err(BadResource), "{bad:?}");
        }
    }
}
