//! The entries of the two tables.

use std::net::IpAddr;

use kurir_protocol::name::{LoginId, Resource};
use serde::{Deserialize, Serialize};

use crate::{ComponentId, Generation};

/// A device that is online at a manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The user's name as it is shown.
    pub username: String,
    /// The manager that has the connection.
    pub manager: ComponentId,
    /// Which life of that manager.
    pub generation: Generation,
    /// The login that the connection made.
    pub login: LoginId,
    /// When, in milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// Where the client connected from.
    pub client_address: IpAddr,
    /// How many presences of this login were published so far: an older one is dropped by whoever has seen a newer.
    pub presence_counter: u64,
    /// It may have taken the device from an older login, which then does not come back for it.
    #[serde(default)]
    pub displaces: bool,
}

/// What a manager says of a session that it claims; the rest is its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    /// The user's name as it is shown.
    pub username: String,
    /// The login that the connection made.
    pub login: LoginId,
    /// When, in milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// Where the client connected from.
    pub client_address: IpAddr,
    /// Presences of this login published so far; 0 at login.
    pub presence_counter: u64,
    /// Whether it takes the device from an older login that is online. Otherwise it is refused.
    pub displaces: bool,
}

/// A device that has a message connection at a relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The relay that has the connection.
    pub relay: ComponentId,
    /// Which life of that relay.
    pub generation: Generation,
    /// The login whose ticket the connection showed.
    pub login: LoginId,
    /// The connection's number at that relay: never given twice in one life.
    pub connection: u64,
}

/// Everything that stands for one user, entries of dead components left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserEntries {
    /// Devices online at managers.
    pub sessions: Vec<(Resource, Session)>,
    /// Devices reachable at relays.
    pub routes: Vec<(Resource, Route)>,
    /// Whether that is all. False while the tables were lost, and owners may not have written theirs again: who is found is
    /// there, who is not may only be late.
    pub complete: bool,
}
