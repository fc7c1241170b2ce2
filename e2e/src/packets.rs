//! The packets of PROTOCOL Part I, as patterns.

use serde_json::{Value, json};

use crate::containers::Containers;
use crate::pattern::{NUMBER, TEXT};

/// `manager.domain` as it is by default.
pub const DOMAIN: &str = "localhost";

/// What a new account says of itself.
pub const FIRST_BIO: &str = "Feel happy using this application! ;D";

/// PROTOCOL's `R`: the relay that a reply names.
pub fn relay() -> Value {
    // In a container each relay has an address of its own; who logs in with `System::person` goes where it says.
    let at = if Containers::asked_for().is_some() { TEXT } else { "127.0.0.1" };
    json!({"username": TEXT, "ip_local": at, "port": NUMBER, "type": "relay", "connection": NUMBER, "token": TEXT})
}

/// The reply to a registration that worked.
pub fn account_created() -> Value {
    json!({"error": false, "msg": "Account created", "code": 201, "component": [relay()], "session": TEXT})
}

/// The reply to a login that worked, in the original's spelling.
pub fn logged_in() -> Value {
    json!({"error": false, "msg": "Login successfull", "code": 200, "component": [relay()], "session": TEXT})
}

/// The reply to `get_relay_less_connection`.
pub fn relay_less_connection() -> Value {
    json!([{"error": false, "msg": "Relay Less Connection", "code": 200, "component": [relay()]}])
}

/// A reply that says no.
pub fn refusal(code: u16, msg: &str) -> Value {
    json!({"error": true, "msg": msg, "code": code})
}

/// 400.
pub fn bad_request() -> Value {
    refusal(400, "Bad request")
}

/// A user's presence, as broadcast.
pub fn presence(from: &str, bio: &str, online: u8) -> Value {
    json!({"stanza": "presence", "from": from, "username": from, "bio": bio, "online": online, "updated_at": NUMBER})
}

/// A user's presence, as answered to one user.
pub fn presence_to(from: &str, bio: &str, online: u8, to: &str) -> Value {
    with(presence(from, bio, online), "to", to)
}

/// A directed presence.
pub fn directed(from: &str, bio: &str, online: u8, to: &str) -> Value {
    with(presence_to(from, bio, online, to), "directed_entity", true)
}

/// The broadcast that says that someone is gone.
pub fn unavailable(from: &str) -> Value {
    json!({"stanza": "presence", "from": from, "type": "unavailable"})
}

/// A roster item.
pub fn item(jid: &str, name: &str, subscription: &str) -> Value {
    json!({"jid": jid, "name": name, "subscription": subscription})
}

/// "subscribed", to whoever added and, where it became mutual, to the other.
pub fn subscribed(from: &str, to: &str, item: &Value) -> Value {
    json!({"stanza": "presence", "from": from, "to": to, "type": "subscribed", "item": item})
}

/// The answer to a roster get.
pub fn roster(to: &str, items: &[Value]) -> Value {
    json!({"stanza": "iq", "namespace": "roster", "type": "result", "query": {"items": items}, "to": to})
}

/// The end of the answer to an add or a rename.
pub fn roster_set(to: &str) -> Value {
    json!({"stanza": "iq", "namespace": "roster", "type": "result", "to": to})
}

/// The end of the answer to a removal.
pub fn roster_removed(to: &str) -> Value {
    with(roster_set(to), "subscription", "remove")
}

/// A roster request that is refused. `to` is null before login.
pub fn roster_error(kind: &str, condition: &str, to: impl Into<Value>) -> Value {
    let error = json!({"type": kind, "condition": condition});
    json!({"stanza": "iq", "namespace": "roster", "type": "error", "error": error, "to": to.into()})
}

/// Asks for the roster.
pub fn get_roster(from: &str) -> Value {
    json!({"stanza": "iq", "namespace": "roster", "from": from, "type": "get", "query": {"items": null}})
}

/// Adds or renames a contact.
pub fn add_contact(from: &str, jid: &str, name: &str) -> Value {
    let query = json!({"item": item(jid, name, "to")});
    json!({"stanza": "iq", "namespace": "roster", "from": from, "type": "set", "query": query})
}

/// Removes a contact.
pub fn remove_contact(from: &str, jid: &str) -> Value {
    let query = json!({"item": {"jid": jid}});
    json!({"stanza": "iq", "namespace": "roster", "from": from, "type": "set", "subscription": "remove", "query": query})
}

/// A message as its sender writes it and its receiver reads it.
pub fn message(from: &str, to: &str, body: &str) -> Value {
    json!({"stanza": "message", "from": from, "to": to, "lang": "id", "body": body})
}

/// Row R15: nobody there.
pub fn not_delivered(sender: &str) -> Value {
    json!({"stanza": "message", "from": "relay", "to": sender, "error": true, "body": "User not found or User not online"})
}

/// Part II's ping, answered on every socket.
pub fn ping(id: &str) -> Value {
    json!({"stanza": "iq", "namespace": "ping", "type": "get", "id": id})
}

/// A value with one key more.
pub fn with(mut value: Value, key: &str, more: impl Into<Value>) -> Value {
    value[key] = more.into();
    value
}
