//! What a ticket says: who may speak for a user at a relay (PROTOCOL Part II, `token`).
//!
//! Signing and checking belong to those who hold keys; here are only the claims.

use serde::{Deserialize, Serialize};

use crate::name::{LoginId, Resource, UserKey};

/// The claims of a ticket, under the names that RFC 7519 gives them where it has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The user.
    pub sub: UserKey,
    /// The user's name as it is shown: what the relay writes as `from`.
    pub name: String,
    /// The device.
    pub res: Resource,
    /// The login that this ticket belongs to.
    pub login: LoginId,
    /// The relay that this ticket was made out for, by its id. It is good at every other one too.
    pub relay: String,
    /// The manager that signed it, by its id.
    pub mgr: String,
    /// This ticket's own id, by which a relay counts each one once.
    pub jti: String,
    /// When it was made, in seconds since the Unix epoch.
    pub iat: u64,
    /// When it ends, likewise.
    pub exp: u64,
    /// The login's trace, as W3C Trace Context writes it, for the relay to go on with. None where traces are off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}
