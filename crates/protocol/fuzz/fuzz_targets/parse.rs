//! No value that any side may receive makes a parser panic, and a name maps to one that maps to itself.
#![no_main]

use kurir_protocol::{
    client::FromServer,
    framing::{Decoded, Decoder, Limits},
    manager, name::UserKey,
    relay, tracker,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(name) = std::str::from_utf8(bytes)
        && let Ok(key) = UserKey::of(name)
    {
        assert_eq!(UserKey::of(key.as_str()).as_ref(), Ok(&key));
    }
    let Decoded::Value { start, end } = Decoder::for_client_library(Limits::default()).decode(bytes) else { return };
    let value = std::str::from_utf8(&bytes[start..end]).expect("values are UTF-8");
    let _ = FromServer::parse(value);
    if value.starts_with('{') {
        let _ = manager::FromClient::parse(value);
        let _ = relay::FromClient::parse(value);
        let _ = tracker::FromClient::parse(value);
    }
});
