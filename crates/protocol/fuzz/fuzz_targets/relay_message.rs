//! Whatever a client writes, a receiver is sent one valid value in which only the relay says who it is from.
#![no_main]

use kurir_protocol::{
    framing::{DELIMITER, Decoded, Decoder, Framing, Limits, encode},
    object::Members,
    relay::FromClient,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Decoded::Value { start, end } = Decoder::new(Limits::default()).decode(bytes) else { return };
    let value = std::str::from_utf8(&bytes[start..end]).expect("values are UTF-8");
    let Ok(FromClient::Message(message)) = FromClient::parse(value) else { return };
    let mut line = Vec::new();
    message.write("esa", &mut line);
    for framing in [Framing::Original, Framing::Lines] {
        let mut wire = Vec::new();
        encode(framing, &line, &mut wire);
        let mut decoder = Decoder::new(Limits { max_value_bytes: usize::MAX, ..Limits::default() });
        let Decoded::Value { start: 0, end } = decoder.decode(&wire) else { panic!("no value") };
        let (value, after) = wire.split_at(end);
        match framing {
            Framing::Original => assert!(value.is_ascii() && after == DELIMITER),
            Framing::Lines => assert!(!value.contains(&b'\n') && after == b"\n"),
        }
        let value = std::str::from_utf8(value).expect("values are UTF-8");
        let all = || Members::of(value).expect("an object");
        assert_eq!(
            all().filter(|member| member.key == "from").map(|member| member.raw).collect::<Vec<_>>(),
            ["\"esa\""]
        );
        assert!(!all().any(|member| ["seq", "stanza_id", "ts", "error"].contains(&member.key.as_ref())));
    }
});
