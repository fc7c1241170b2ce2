//! Where the state file is, if nobody says.

use std::env;
use std::fmt::Write as _;
use std::path::PathBuf;

/// The longest name of a file or directory, in bytes: most file systems allow 255, and others of the same name have
/// suffixes.
const LONGEST: usize = 200;

/// `$XDG_STATE_HOME/kurir/TRACKER/USER.jsonl`, of a device with a name `USER@DEVICE.jsonl`, with `~/.local/state` for a
/// variable that is not set. Another tracker is another system, where a user of the same name is somebody else.
pub(super) fn default_path(tracker: &str, user: &str, device: Option<&str>) -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    // Names compare without case.
    let user = file_name(&user.to_lowercase());
    let file = match device {
        // No name has an `@`.
        Some(device) => format!("{user}@{}", file_name(device)),
        None => user,
    };
    Some(base.join("kurir").join(short(file_name(tracker))).join(format!("{}.jsonl", short(file))))
}

/// A name that is too long keeps its beginning; the rest is a hash, after a `~` that no other name has.
fn short(name: String) -> String {
    if name.len() <= LONGEST {
        return name;
    }
    // FNV-1a of 128 bits: the same in every build, and nobody gains by two names with the same one.
    let hash = name.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    // It is ASCII: every place is a boundary.
    let beginning = name.get(..LONGEST - 33).unwrap_or_default();
    format!("{beginning}~{hash:032x}")
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
    fn a_long_name_is_shortened_and_stays_one_of_its_own() {
        let names =
            ["é".repeat(33), "é".repeat(400), format!("{}e", "é".repeat(400))].map(|name| file_name(&name));
        let short = names.clone().map(short);
        let [fits, long, other] = &short;
        assert_eq!(fits, &names[0]);
        assert_ne!(long, other);
        assert!(short.iter().all(|name| name.len() <= LONGEST), "{short:?}");
        // The same in every build: the file is found again.
        assert_eq!(long.split_once('~').map(|(_, hash)| hash), Some("a4f5f2a9733c13dc16ffd0bf6b34512d"));
    }

    #[test]
    fn no_name_leads_elsewhere() {
        assert_eq!(file_name("127.0.0.1:5000"), "127.0.0.1:5000");
        assert_eq!(file_name("../é"), "%2e.%2f%c3%a9");
        assert_ne!(file_name("a/b"), file_name("a%2fb"));
    }
}
