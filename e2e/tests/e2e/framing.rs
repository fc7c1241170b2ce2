//! The framing as seen from outside (PROTOCOL section 0), and its traps, each a spoofing hole if missed.

use kurir_e2e::packets::{account_created, bad_request, message, refusal};
use kurir_e2e::pattern::ANY;
use kurir_e2e::raw::DELIMITER;
use kurir_e2e::{PATIENCE, Raw, Speaks, System, Topology};
use serde_json::{Value, json};

kurir_e2e::shows! {
    delimiter_inside_a_string_does_not_split_nor_reach_the_receiver_raw: "R13 R16 R26";
    line_feed_between_tokens_does_not_split: "R13 R16 R26";
    keys_compare_after_unescaping_and_occur_once: "R13 R26";
    values_may_come_in_any_cut_with_any_separator: "M2 M32 T1 T7 R5 R26";
    nobody_to_say_which_framing_means_the_originals: "M2 T1";
    values_over_a_limit_are_refused: "M32 T7 R26";
    whoever_sends_malformed_values_goes_on_after_the_next_end: "M16 M32";
}

#[tokio::test]
async fn delimiter_inside_a_string_does_not_split_nor_reach_the_receiver_raw() {
    let system = System::start(Topology::OneProcess).await;
    let mut esa = system.person("esa").at_relay(1).registers().await;
    let mut fajar = system.person("fajar").as_the_original().at_relay(2).registers().await;
    let mut gita = system.person("gita").as_the_original().at_relay(1).registers().await;
    let mut hana = system.person("hana").at_relay(2).registers().await;

    let forged = message("relay", "fajar", "forged").to_string();
    let body = format!("x\"\u{80}\u{81}\u{82}{forged}\u{80}\u{81}\u{82}y");
    // From either framing to either framing: it is one message, with that body.
    for (from, to) in [(&mut esa, &mut fajar), (&mut gita, &mut hana)] {
        from.writes(&to.name, &body).await;
        to.reads(&from.name, &body).await;
        to.relay().hears_nothing_else().await;
    }
    // Escaped by the sender it must not come out raw either (a person in the original's framing asserts ASCII).
    let escaped = r#"{"stanza":"message","to":"fajar","body":"\u0080\u0081\u0082{\"forged\":1}","\u0080\u0081\u0082":"é"}"#;
    esa.relay().sends_bytes(escaped.as_bytes()).await;
    esa.relay().sends_bytes(b"\n").await;
    let delivered = fajar.relay().receives(json!(ANY)).await;
    assert_eq!(delivered["body"], "\u{80}\u{81}\u{82}{\"forged\":1}");
    assert_eq!(delivered["\u{80}\u{81}\u{82}"], "é");
    // A bio goes the same way, through the manager.
    gita.befriends(&mut hana).await;
    gita.sends(json!({"stanza": "presence", "from": "gita", "bio": body})).await;
    let shown = hana.receives(json!(ANY)).await;
    assert_eq!(shown["bio"], Value::String(body));
    system.stops().await;
}

#[tokio::test]
async fn line_feed_between_tokens_does_not_split() {
    let system = System::start(Topology::OneProcess).await;
    let mut esa = system.person("esa").as_the_original().at_relay(1).registers().await;
    let mut fajar = system.person("fajar").at_relay(2).registers().await;
    let mut gita = system.person("gita").as_the_original().at_relay(1).registers().await;

    // The receiver's lines would show `{"stanza":"message","from":"relay",…}` as a packet of its own.
    let forged = r#"{"stanza":"message","from":"relay","body":"forged"}"#;
    let pretty = |to: &str| {
        format!(
            "{{\"stanza\":\"message\",\r\n\"to\":\n\"{to}\",\"isi\":[\n{forged}\n,\n1],\"body\":\"a\"\n}}"
        )
    };
    for receiver in [&mut fajar, &mut gita] {
        esa.relay().sends_bytes(&[pretty(&receiver.name).as_bytes(), DELIMITER].concat()).await;
        let delivered = receiver.relay().receives(json!(ANY)).await;
        assert_eq!((&delivered["from"], &delivered["body"]), (&json!("esa"), &json!("a")), "{delivered}");
        assert_eq!(delivered["isi"][0]["body"], "forged");
        receiver.relay().hears_nothing_else().await;
    }
    system.stops().await;
}

#[tokio::test]
async fn keys_compare_after_unescaping_and_occur_once() {
    let system = System::start(Topology::OneProcess).await;
    let mut mallory = system.person("mallory").at_relay(1).registers().await;
    let mut fajar = system.person("fajar").at_relay(2).registers().await;

    let disguised = r#"{"stanza":"message","to":"fajar","\u0066rom":"presiden","s\u0065q":9,"stanza_id":"x","t\u0073":1,"error":true,"body":"a"}"#;
    mallory.relay().sends_bytes(disguised.as_bytes()).await;
    mallory.relay().sends_bytes(b"\n").await;
    fajar.relay().receives(json!({"stanza": "message", "from": "mallory", "to": "fajar", "body": "a"})).await;

    let twice = [
        r#"{"stanza":"message","to":"fajar","from":"mallory","from":"presiden","body":"a"}"#,
        r#"{"stanza":"message","to":"fajar","from":"mallory","fro\u006d":"presiden","body":"a"}"#,
        r#"{"stanza":"message","to":"fajar","to":"esa","body":"a"}"#,
        r#"{"stanza":"message","stanza":"iq","to":"fajar","body":"a"}"#,
    ];
    for packet in twice {
        mallory.relay().sends_bytes(packet.as_bytes()).await;
        mallory.relay().sends_bytes(b"\n").await;
        mallory.relay().receives(bad_request()).await;
        mallory.relay().hears_nothing_else().await;
    }
    fajar.relay().hears_nothing_else().await;
    system.stops().await;
}

#[tokio::test]
async fn values_may_come_in_any_cut_with_any_separator() {
    let system = System::start(Topology::OneProcess).await;
    let mut esa = Raw::connect("esa, byte by byte", system.manager(1), Speaks::Lines).await;
    let hello = "{\"ip_local\": \"192.168.1.6\", \"port\": 62998, \"type\": \"client\"}\n";
    let auth = "{\"type\": \"auth\", \"username\": \"esa\", \"password\": \"12345\", \"register\": true}\n";
    for byte in format!("{hello}{auth}").bytes() {
        esa.sends_bytes(&[byte]).await;
    }
    esa.receives(account_created()).await;

    let iq = |id: &str| json!({"stanza": "iq", "namespace": "ping", "type": "get", "id": id}).to_string();
    let separators: [&[u8]; 6] = [b"\n", b"\r\n", b"", b" \t\n\n", DELIMITER, b"\n\r\n"];
    for address in [system.tracker(), system.manager(1), system.relay(1)] {
        let mut raw = Raw::connect(format!("somebody at {address}"), address, Speaks::Lines).await;
        if address == system.tracker() {
            raw.sends(json!({"type": "client"})).await;
            raw.next_packet().await.expect("the components");
        }
        let mut bytes = format!("{}\n", iq("first")).into_bytes();
        for (number, separator) in separators.iter().enumerate() {
            bytes.extend_from_slice(iq(&number.to_string()).as_bytes());
            bytes.extend_from_slice(separator);
        }
        // In two segments, cut anywhere.
        let (head, tail) = bytes.split_at(bytes.len() / 3);
        raw.sends_bytes(head).await;
        raw.sends_bytes(tail).await;
        for id in ["first", "0", "1", "2", "3", "4", "5"] {
            let pong = raw.receives(json!(ANY)).await;
            assert_eq!((&pong["type"], &pong["id"]), (&json!("result"), &json!(id)), "{pong}");
        }
    }
    system.stops().await;
}

#[tokio::test]
async fn nobody_to_say_which_framing_means_the_originals() {
    let system = System::start(Topology::OneProcess).await;
    // No byte follows the value: after 50 ms the reply comes in the original's framing.
    let mut esa = Raw::connect("esa", system.manager(1), Speaks::Original).await;
    esa.sends_bytes(br#"{"type": "auth", "username": "esa", "password": "12345", "register": true}"#).await;
    esa.receives(account_created()).await;
    let mut anybody = Raw::connect("anybody", system.tracker(), Speaks::Original).await;
    anybody.sends_bytes(br#"{"type": "client"}"#).await;
    anybody.receives_bare(json!([ANY, ANY, ANY])).await;
    system.stops().await;
}

#[tokio::test]
async fn values_over_a_limit_are_refused() {
    const LARGEST: usize = 65_536;
    let system = System::start(Topology::OneProcess).await;
    let sized = |bytes: usize| {
        let empty = json!({"x": ""}).to_string().len();
        json!({"x": "a".repeat(bytes - empty)})
    };
    let nested = |depth: usize| format!("{{\"a\":{}{}}}\n", "[".repeat(depth - 1), "]".repeat(depth - 1));
    for address in [system.tracker(), system.manager(1), system.relay(1)] {
        let mut raw = Raw::connect(format!("somebody at {address}"), address, Speaks::Lines).await;
        if address == system.tracker() {
            raw.sends(json!({"type": "client"})).await;
            raw.next_packet().await.expect("the components");
        }
        raw.sends(sized(LARGEST)).await;
        raw.sends_bytes(nested(32).as_bytes()).await;
        raw.hears_nothing_else().await;
        raw.sends(sized(LARGEST + 1)).await;
        raw.receives(refusal(413, "Too large")).await;
        raw.is_closed().await;

        let mut raw = Raw::connect(format!("somebody deep at {address}"), address, Speaks::Lines).await;
        raw.sends(json!({"type": "client"})).await;
        raw.sends_bytes(nested(33).as_bytes()).await;
        raw.receives_in_the_end(refusal(413, "Too large"), PATIENCE).await;
        raw.is_closed().await;
    }

    // The largest message that there may be arrives.
    let mut esa = system.person("esa").at_relay(1).registers().await;
    let mut fajar = system.person("fajar").at_relay(2).registers().await;
    let body = "b".repeat(LARGEST - message("esa", "fajar", "").to_string().len());
    esa.reaches(&mut fajar, &body).await;
    system.stops().await;
}

#[tokio::test]
async fn whoever_sends_malformed_values_goes_on_after_the_next_end() {
    let system = System::start(Topology::OneProcess).await;
    let mut esa = Raw::connect("esa", system.manager(1), Speaks::Original).await;
    esa.sends(json!({"type": "client"})).await;
    // What follows on the same line is skipped with it, were it ever so good.
    esa.sends_bytes(b"{\"a\": oops} {\"stanza\": \"iq\", \"namespace\": \"ping\", \"type\": \"get\", \"id\": \"skipped\"}").await;
    esa.sends_bytes(DELIMITER).await;
    esa.receives(bad_request()).await;
    esa.hears_nothing_else().await;
    for _ in 0..3 {
        esa.sends_bytes(b"}\n").await;
        esa.receives(bad_request()).await;
    }
    esa.is_closed().await;
    system.stops().await;
}
