//! Packets that never change, or only by a name.
//!
//! The constants are values without LF; [`push`] appends one as a canonical line.

/// Malformed input, on every socket; at the manager also bad usernames and passwords.
pub const BAD_REQUEST: &str = r#"{"error":true,"msg":"Bad request","code":400}"#;
/// A relay hello that is refused; the connection is closed.
pub const UNAUTHORIZED: &str = r#"{"error":true,"msg":"Unauthorized","code":401}"#;
/// Login: no such account.
pub const USER_NOT_FOUND: &str = r#"{"error":true,"msg":"User not found","code":404}"#;
/// The receiver does not read; the connection is closed.
pub const TOO_SLOW: &str = r#"{"error":true,"msg":"Too slow","code":408}"#;
/// Register: the name is taken.
pub const USERNAME_USED: &str = r#"{"error":true,"msg":"Username used","code":409}"#;
/// Login: this device is online already.
pub const ALREADY_LOGGED_IN: &str = r#"{"error":true,"msg":"Already logged in","code":409}"#;
/// Another connection of this device took this one's place; the connection is closed.
pub const CONFLICT: &str = r#"{"error":true,"msg":"Conflict","code":409}"#;
/// A value over the limits; the connection is closed.
pub const TOO_LARGE: &str = r#"{"error":true,"msg":"Too large","code":413}"#;
/// Database away, or busy: nobody's fault, try again.
pub const TEMPORARY_FAILURE: &str = r#"{"error":true,"msg":"Temporary failure","code":503}"#;

/// Appends one of the constants above as a canonical line.
pub fn push(out: &mut Vec<u8>, reply: &str) {
    out.extend_from_slice(reply.as_bytes());
    out.push(b'\n');
}

/// Tells the sender `to` that a message found no receiver (R15), as a canonical line.
pub fn not_delivered(out: &mut Vec<u8>, to: &str) {
    let _ = (out, to);
    todo!()
}
