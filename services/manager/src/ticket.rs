//! Tickets: what a user shows to the relay it was sent to (PROTOCOL Part II `token`). Each manager signs with a key of its
//! own that dies with the process; relays learn the public half when they attach.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use kurir_directory::{ComponentId, Generation};
use kurir_protocol::{
    name::{LoginId, Resource, UserKey, Username},
    ticket::Claims,
};

/// The key that this manager signs with.
pub(crate) struct Signer {
    manager: ComponentId,
    header: Header,
    key: EncodingKey,
    public: Vec<u8>,
    life: Duration,
}

/// Who a ticket is for, and the relay it was made out for. It is as good at every other relay.
#[derive(Debug)]
pub(crate) struct Bearer<'a> {
    pub(crate) user: &'a UserKey,
    pub(crate) username: &'a Username,
    pub(crate) device: &'a Resource,
    pub(crate) login: LoginId,
    pub(crate) relay: &'a ComponentId,
}

/// Why there is no ticket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    #[error("no signing key could be made")]
    Key,
    #[error("a ticket could not be signed")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

impl Signer {
    /// Makes a key, named after the manager's first generation.
    pub(crate) fn generate(
        manager: &ComponentId,
        generation: Generation,
        life: Duration,
    ) -> Result<Self, SignError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| SignError::Key)?;
        let document = pair.to_pkcs8().map_err(|_| SignError::Key)?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(generation.to_string());
        Ok(Self {
            manager: manager.clone(),
            header,
            key: EncodingKey::from_ed_der(document.as_ref()),
            public: pair.public_key().as_ref().to_vec(),
            life,
        })
    }

    pub(crate) fn key_id(&self) -> &str {
        self.header.kid.as_deref().unwrap_or_default()
    }

    /// Ed25519, 32 bytes.
    pub(crate) fn public_key(&self) -> &[u8] {
        &self.public
    }

    pub(crate) fn life(&self) -> Duration {
        self.life
    }

    /// Signs a ticket that is valid from `now` on.
    pub(crate) fn sign(&self, bearer: &Bearer<'_>, now: SystemTime) -> Result<String, SignError> {
        // Before 1970 the clock is wrong anyway; the ticket is then refused as expired.
        let issued = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = Claims {
            sub: bearer.user.clone(),
            name: bearer.username.to_string(),
            res: bearer.device.clone(),
            login: bearer.login,
            relay: bearer.relay.to_string(),
            mgr: self.manager.to_string(),
            jti: uuid::Uuid::new_v4().simple().to_string(),
            iat: issued,
            // A fraction of the first second has passed already.
            exp: issued + self.life.as_secs() + 1,
            trace: kurir_trace::traceparent(),
        };
        jsonwebtoken::encode(&self.header, &claims, &self.key).map_err(SignError::Sign)
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("key_id", &self.key_id()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation};

    use super::*;

    #[test]
    fn a_ticket_is_verified_with_the_public_key_and_names_user_login_and_relay() {
        let manager = ComponentId::try_from("manager-5001".to_owned()).unwrap();
        let relay = ComponentId::try_from("relay-5010".to_owned()).unwrap();
        let signer = Signer::generate(&manager, Generation::new(), Duration::from_mins(1)).unwrap();
        let username = Username::register("Esa").unwrap();
        let user = username.key();
        let device = Resource::named("phone").unwrap();
        let (user, username, device) = (&user, &username, &device);
        let bearer = Bearer { user, username, device, login: LoginId(7), relay: &relay };
        let ticket = signer.sign(&bearer, SystemTime::now()).unwrap();
        assert!(ticket.is_ascii(), "it travels in a JSON string");

        let key = DecodingKey::from_ed_der(signer.public_key());
        let read = jsonwebtoken::decode::<Claims>(&ticket, &key, &Validation::new(Algorithm::EdDSA)).unwrap();
        assert_eq!(read.header.kid.as_deref(), Some(signer.key_id()));
        assert_eq!(read.claims.sub, *user);
        assert_eq!(read.claims.res, *device);
        assert_eq!(read.claims.name, "Esa");
        assert_eq!(read.claims.login, LoginId(7));
        assert_eq!(read.claims.relay, "relay-5010");
        assert!(read.claims.exp - read.claims.iat >= 60);

        let other = Signer::generate(&manager, Generation::new(), Duration::from_mins(1)).unwrap();
        let key = DecodingKey::from_ed_der(other.public_key());
        assert!(jsonwebtoken::decode::<Claims>(&ticket, &key, &Validation::new(Algorithm::EdDSA)).is_err());
    }
}
