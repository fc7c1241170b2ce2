//! Where the state file is, if nobody says.

use std::env;
use std::fmt::Write as _;
use std::path::PathBuf;

/// `$XDG_STATE_HOME/kurir/TRACKER/USER.jsonl`, of a device with a name `USER@DEVICE.jsonl`, with `~/.local/state` for a variable that is not set. Another tracker is
/// another system, where a user of the same name is somebody else.
pub(super) fn default_path(tracker: &str, user: &str, device: Option<&str>) -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    // Names compare without case.
    let user = file_name(&user.to_lowercase());
    let file = match device {
        // No name has an `@`.
        Some(device) => format!("{user}@{}.jsonl", file_name(device)),
        None => format!("{user}.jsonl"),
    };
    Some(base.join("kurir").join(file_name(tracker)).join(file))
}

/// A name that is a name on every file system, and nobody else's.
fn file_name(name: &str) -> String {
    let mut safe = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || b"_-:".contains(&byte) || (byte == b'.' && index > 0);
        if plain {
            safe.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(safe, "%{byte:02x}");
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_elsewhere() {
        assert_eq!(file_name("127.0.0.1:5000"), "127.0.0.1:5000");
        assert_eq!(file_name("../é"), "%2e.%2f%c3%a9");
        assert_ne!(file_name("a/b"), file_name("a%2fb"));
    }
}
