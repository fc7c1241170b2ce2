//! Every packet of Part I that clients send, as it is understood.

use expect_test::{Expect, expect};
use kurir_protocol::{manager, name::UserKey, relay, tracker};

fn tracker(value: &str, expected: &Expect) {
    expected.assert_eq(&format!("{:?}", tracker::FromClient::parse(value)));
}

fn manager(value: &str, expected: &Expect) {
    expected.assert_eq(&format!("{:?}", manager::FromClient::parse(value)));
}

fn roster(rest: &str, expected: &Expect) {
    manager(&format!(r#"{{"stanza":"iq","namespace":"roster",{rest}}}"#), expected);
}

fn relay(value: &str, expected: &Expect) {
    expected.assert_eq(&format!("{:?}", relay::FromClient::parse(value)));
}

#[test]
fn t2_the_trackers_first_packet_says_what_the_component_is() {
    tracker(
        r#"{"ip_local": "192.168.1.6", "port": 62998, "type": "client", "is_private": true}"#,
        &expect!["Ok(Hello { kind: Client })"],
    );
    tracker(r#"{"type":"Relay"}"#, &expect!["Ok(Hello { kind: Relay })"]);
    tracker(r#"{"ip_local":7,"port":"x","type":"MANAGER"}"#, &expect!["Ok(Hello { kind: Manager })"]);
}

#[test]
fn t5_get_components_compares_without_case() {
    tracker(r#"{"message": "get components"}"#, &expect!["Ok(GetComponents)"]);
    tracker(r#"{"message":"Get Components"}"#, &expect!["Ok(GetComponents)"]);
}

#[test]
fn t7_what_fits_no_row_is_ignored() {
    tracker("{}", &expect!["Ok(Ignored)"]);
    tracker(r#"{"type":"printer"}"#, &expect!["Ok(Ignored)"]);
    tracker(r#"{"message":["get components"]}"#, &expect!["Ok(Ignored)"]);
    tracker(r#"{"type":"client","type":"client"}"#, &expect!["Err(Malformed)"]);
    tracker(r#"["get components"]"#, &expect!["Err(Malformed)"]);
}

#[test]
fn u2_the_managers_first_packet_has_no_answer() {
    manager(r#"{"ip_local": "…", "port": 62998, "type": "client"}"#, &expect!["Ok(Hello)"]);
}

#[test]
fn m8_register_and_m11_login() {
    manager(
        r#"{"type":"auth","username":"esa","password":"12345","register":true}"#,
        &expect![[
            r#"Ok(Auth(Auth { username: Some("esa"), password: Some(Password(…)), register: true, device: Some(Resource(None)), session: None }))"#
        ]],
    );
    manager(
        r#"{"type":"auth","username":"esa","password":"12345"}"#,
        &expect![[
            r#"Ok(Auth(Auth { username: Some("esa"), password: Some(Password(…)), register: false, device: Some(Resource(None)), session: None }))"#
        ]],
    );
    manager(
        r#"{"type":"AUTH","username":"\u0065sa","password":"\ud83d\ude00"}"#,
        &expect![[
            r#"Ok(Auth(Auth { username: Some("esa"), password: Some(Password(…)), register: false, device: Some(Resource(None)), session: None }))"#
        ]],
    );
}

#[test]
fn a_device_is_named_in_auth() {
    for (resource, expected) in [
        ("\"phone\"", Some("phone")),
        ("null", Some("default")),
        ("\"default\"", None),
        ("\"\"", None),
        ("1", None),
    ] {
        let packet =
            format!(r#"{{"type":"auth","username":"esa","password":"12345","resource":{resource}}}"#);
        let Ok(manager::FromClient::Auth(auth)) = manager::FromClient::parse(&packet) else { panic!() };
        assert_eq!(auth.device.as_ref().map(AsRef::as_ref), expected, "{resource}");
    }
}

#[test]
fn m9_m12_bad_fields_are_told_apart_from_good_ones() {
    for bad in [
        "",
        ",\"username\":null",
        ",\"username\":7",
        ",\"username\":\"\"",
        ",\"username\":\"a b\"",
        ",\"username\":\"\\u3000\"",
    ] {
        let value = format!(r#"{{"type":"auth","password":"\t"{bad}}}"#);
        let Ok(manager::FromClient::Auth(auth)) = manager::FromClient::parse(&value) else {
            panic!("{value}")
        };
        assert_eq!((auth.username, auth.password, auth.register), (None, None, false), "{value}");
    }
}

#[test]
fn register_counts_when_truthy() {
    let register = |value: &str| {
        let value = format!(r#"{{"type":"auth","register":{value}}}"#);
        matches!(manager::FromClient::parse(&value), Ok(manager::FromClient::Auth(auth)) if auth.register)
    };
    for truthy in ["true", "1", "-0.5", "1e400", "\"false\"", "\" \"", "[0]", "{\"a\":0}"] {
        assert!(register(truthy), "{truthy}");
    }
    for falsy in ["false", "null", "0", "-0", "0.00e7", "\"\"", "[]", "[ ]", "{}", "{\n}"] {
        assert!(!register(falsy), "{falsy}");
    }
}

#[test]
fn m14_get_relay() {
    manager(r#"{"type":"get_relay_less_connection"}"#, &expect!["Ok(GetRelay)"]);
}

#[test]
fn u7_roster_get() {
    roster(
        r#""from":"fajar","type":"get","query":{"items":null}"#,
        &expect![[r#"Ok(Roster(RosterRequest { id: None, action: Get { from: Sender("fajar") } }))"#]],
    );
    roster(
        r#""from":"fajar","type":"GET","query":{},"id":"\u0061\"1""#,
        &expect![[
            r#"Ok(Roster(RosterRequest { id: Some(Id("\"\\u0061\\\"1\"")), action: Get { from: Sender("fajar") } }))"#
        ]],
    );
}

#[test]
fn m15_m19_roster_add_and_rename() {
    let set =
        r#""from":"fajar","type":"set","query":{"item":{"jid":"esa","name":"author","subscription":"to"}}"#;
    roster(
        set,
        &expect![[
            r#"Ok(Roster(RosterRequest { id: None, action: Set { from: Sender("fajar"), jid: "esa", name: Set(Some("author")) } }))"#
        ]],
    );
    roster(
        r#""from":"fajar","type":"set","query":{"item":{"jid":"esa","name":null}}"#,
        &expect![[
            r#"Ok(Roster(RosterRequest { id: None, action: Set { from: Sender("fajar"), jid: "esa", name: Set(None) } }))"#
        ]],
    );
    roster(
        r#""from":"fajar","type":"set","subscription":null,"query":{"item":{"jid":"esa"}}"#,
        &expect![[
            r#"Ok(Roster(RosterRequest { id: None, action: Set { from: Sender("fajar"), jid: "esa", name: Keep } }))"#
        ]],
    );
}

#[test]
fn m20_roster_remove() {
    roster(
        r#""from":"fajar","type":"set","query":{"item":{"jid":"esa"}},"subscription":"remove""#,
        &expect![[
            r#"Ok(Roster(RosterRequest { id: None, action: Remove { from: Sender("fajar"), jid: "esa" } }))"#
        ]],
    );
    roster(
        r#""from":"fajar","type":"set","query":{"item":{"jid":"esa"}},"subscription":"Remove""#,
        &expect![[
            r#"Ok(Roster(RosterRequest { id: None, action: Remove { from: Sender("fajar"), jid: "esa" } }))"#
        ]],
    );
}

#[test]
fn m16_m21_what_is_incomplete_or_of_the_wrong_type_is_a_bad_request() {
    for bad in [
        r#""type":"get","query":{}"#,
        r#""from":7,"type":"get","query":{}"#,
        r#""from":"fajar","type":"get""#,
        r#""from":"fajar","type":"get","query":[]"#,
        r#""from":"fajar","type":"set""#,
        r#""from":"fajar","type":"set","query":{}"#,
        r#""from":"fajar","type":"set","query":{"item":"esa"}"#,
        r#""from":"fajar","type":"set","query":{"item":{"name":"x"}}"#,
        r#""from":"fajar","type":"set","query":{"item":{"jid":null}}"#,
        r#""from":"fajar","type":"set","query":{"item":{"jid":"esa","name":7}}"#,
        r#""from":"fajar","type":"set","query":{"item":{"jid":"esa"}},"subscription":"both""#,
        r#""from":"fajar","type":"set","query":{"item":{"jid":"esa"}},"subscription":7"#,
        r#""from":"fajar","query":{}"#,
        r#""from":"fajar","type":"give","query":{}"#,
    ] {
        let value = format!(r#"{{"stanza":"iq","namespace":"roster",{bad}}}"#);
        let Ok(manager::FromClient::Roster(request)) = manager::FromClient::parse(&value) else {
            panic!("{value}")
        };
        assert_eq!(request.action, manager::RosterAction::Bad, "{value}");
    }
    roster(r#""type":"result""#, &expect!["Ok(Ignored)"]);
    roster(
        r#""type":"set","from":"a","query":{"item":{"jid":"esa","jid":"fajar"}}"#,
        &expect!["Err(Malformed)"],
    );
}

#[test]
fn the_asker_is_compared_case_mapped() {
    let value = r#"{"stanza":"IQ","namespace":"Roster","from":"Fajar","type":"get","query":{}}"#;
    let Ok(manager::FromClient::Roster(request)) = manager::FromClient::parse(value) else {
        panic!("{value}")
    };
    let manager::RosterAction::Get { from } = request.action else { panic!("{request:?}") };
    assert!(from.is(&UserKey::of("FAJAR").unwrap(), "a.example"));
    assert!(!from.is(&UserKey::of("esa").unwrap(), "a.example"));
}

#[test]
fn m24_initial_presence() {
    manager(r#"{"stanza":"presence"}"#, &expect!["Ok(Presence(Initial))"]);
    manager(r#"{"stanza":"Presence","from":"esa","bio":"","type":null}"#, &expect!["Ok(Presence(Initial))"]);
}

#[test]
fn m25_bio_comes_before_everything_else() {
    manager(
        r#"{"stanza":"presence","from":"esa","bio":"lagi makan kebab"}"#,
        &expect![[r#"Ok(Presence(Bio { from: Some(Sender("esa")), bio: "lagi makan kebab" }))"#]],
    );
    manager(
        r#"{"stanza":"presence","bio":"x","to":"fajar","type":"unavailable"}"#,
        &expect![[r#"Ok(Presence(Bio { from: None, bio: "x" }))"#]],
    );
    manager(
        r#"{"stanza":"presence","from":7,"bio":"x"}"#,
        &expect![[r#"Ok(Presence(Bio { from: Some(Sender("")), bio: "x" }))"#]],
    );
}

#[test]
fn m27_directed_presence_comes_before_logout() {
    manager(r#"{"stanza":"presence","to":"esa"}"#, &expect![[r#"Ok(Presence(Directed { to: "esa" }))"#]]);
    manager(
        r#"{"stanza":"presence","to":"esa","type":"unavailable"}"#,
        &expect![[r#"Ok(Presence(Directed { to: "esa" }))"#]],
    );
}

#[test]
fn m29_logout_compares_without_case() {
    manager(r#"{"stanza":"presence","from":"esa","type":"unavailable"}"#, &expect!["Ok(Presence(Logout))"]);
    manager(r#"{"stanza":"presence","type":"Unavailable"}"#, &expect!["Ok(Presence(Logout))"]);
}

#[test]
fn m32_what_fits_no_row_is_ignored() {
    for nothing in [
        "{}",
        r#"{"stanza":"message","to":"esa"}"#,
        r#"{"stanza":"presence","type":"away"}"#,
        r#"{"stanza":"presence","to":7}"#,
        r#"{"stanza":"presence","bio":7}"#,
        r#"{"stanza":"presence","type":"subscribe","to":"esa"}"#,
        r#"{"stanza":"iq","namespace":"disco","type":"result"}"#,
        r#"{"type":7}"#,
    ] {
        assert_eq!(manager::FromClient::parse(nothing), Ok(manager::FromClient::Ignored), "{nothing}");
    }
}

#[test]
fn r5_the_relays_first_packet() {
    relay(
        r#"{"username":"esa","message":"hello!"}"#,
        &expect![[r#"Ok(Hello(Hello { username: Some("esa"), token: None, resume: None }))"#]],
    );
    relay(
        r#"{"username":"esa","message":"hello!","token":"e.y.j"}"#,
        &expect![[r#"Ok(Hello(Hello { username: Some("esa"), token: Some("…"), resume: None }))"#]],
    );
    relay(
        r#"{"username":7,"token":7}"#,
        &expect![[r#"Ok(Hello(Hello { username: None, token: Some("…"), resume: None }))"#]],
    );
}

#[test]
fn r13_a_message() {
    let value = r#"{"stanza":"Message","from":"esa","to":"fajar","lang":"id","body":"halo fajar"}"#;
    let Ok(relay::FromClient::Message(message)) = relay::FromClient::parse(value) else { panic!("{value}") };
    assert_eq!(message.to(), Some("fajar"));
}

#[test]
fn r15_a_message_to_nobody_is_still_a_message() {
    for to in ["", ",\"to\":null", ",\"to\":7", ",\"to\":[\"fajar\"]"] {
        let value = format!("{{\"stanza\":\"message\"{to}}}");
        let Ok(relay::FromClient::Message(message)) = relay::FromClient::parse(&value) else {
            panic!("{value}")
        };
        assert_eq!(message.to(), None, "{value}");
    }
}

#[test]
fn r26_what_fits_no_row_is_ignored() {
    for nothing in [
        "{}",
        r#"{"stanza":"presence"}"#,
        r#"{"stanza":"iq","type":"result","id":"1"}"#,
        r#"{"message":"hello!"}"#,
    ] {
        assert_eq!(relay::FromClient::parse(nothing), Ok(relay::FromClient::Ignored), "{nothing}");
    }
}

/// Part II, `id`: a string of 1 to 255 bytes.
#[test]
fn a_message_is_tracked_by_a_string_and_by_nothing_else() {
    use kurir_protocol::relay::{FromClient, MessageId};
    let tracked = |id: &str, expected: &dyn Fn(&MessageId<'_>) -> bool| {
        let value = format!(r#"{{"stanza":"message","to":"fajar","id":{id}}}"#);
        let Ok(FromClient::Message(message)) = FromClient::parse(&value) else { panic!("{value}") };
        assert!(expected(message.id()), "{id}: {:?}", message.id());
    };
    tracked(r#""é1""#, &|id| matches!(id, MessageId::Tracked(id) if id == "é1"));
    tracked(r#""\u0031""#, &|id| matches!(id, MessageId::Tracked(id) if id == "1"));
    tracked(&format!("\"{}\"", "x".repeat(255)), &|id| matches!(id, MessageId::Tracked(_)));
    tracked("null", &|id| *id == MessageId::None);
    // Half a surrogate pair is no character, and one id must not be taken for another.
    let halves = [r#""\ud800""#, r#""a\udc00b""#, "\"\u{fffd}\""];
    for bad in [r#""""#, "7", "{}", "false", &format!("\"{}\"", "x".repeat(256))].into_iter().chain(halves) {
        tracked(bad, &|id| matches!(id, MessageId::Bad(raw) if *raw == bad));
    }
}

/// Part II, `resume`: a place in the log, or one beyond its end.
#[test]
fn a_device_goes_on_at_a_place_or_says_nothing_of_it() {
    use kurir_protocol::{
        Malformed,
        relay::{FromClient, Resume},
    };
    let read = |resume: &str| {
        let value = format!(r#"{{"username":"esa","message":"hello!"{resume}}}"#);
        FromClient::parse(&value).map(|packet| match packet {
            FromClient::Hello(hello) => hello.resume,
            other => panic!("{other:?}"),
        })
    };
    let at = |seq, log: Option<&str>| Ok(Some(Resume { seq, log: log.map(str::to_owned) }));
    for (resume, expected) in [
        ("", Ok(None)),
        (r#","resume":null,"log":"l""#, Ok(None)),
        (r#","resume":0"#, at(0, None)),
        (r#","resume":7,"log":"l""#, at(7, Some("l"))),
        (r#","resume":7,"log":null"#, at(7, None)),
        (r#","resume":18446744073709551616"#, at(u64::MAX, None)),
    ] {
        assert_eq!(read(resume), expected, "{resume}");
    }
    for bad in ["-1", "1.5", "1e3", "\"5\"", "true", "{}"] {
        assert_eq!(read(&format!(r#","resume":{bad}"#)), Err(Malformed), "{bad}");
    }
    assert_eq!(read(r#","resume":7,"log":7"#), Err(Malformed));
}

/// Part II: what only accompanies a conversation never comes back without a `body`, and a chat state is stored by nobody.
#[test]
fn what_comes_back_and_what_is_only_a_state() {
    use kurir_protocol::relay::FromClient;
    for (rest, bounced, state) in [
        (r#""body":"halo""#, true, false),
        (r#""lang":"id""#, true, false),
        ("\"x\":1", true, false),
        (r#""state":"composing""#, false, true),
        (r#""state":"composing","thread":"t""#, false, true),
        (r#""state":"active","body":"halo""#, true, false),
        (r#""state":"active","body":null"#, true, false),
        (r#""subject":"s""#, false, false),
        (r#""subject":"s","state":"active""#, false, false),
        (r#""thread":"t""#, false, false),
        (r#""receipt":{"received":"s"}"#, false, false),
        (r#""marker":{"displayed":"s"},"state":"active""#, false, false),
    ] {
        let value = format!(r#"{{"stanza":"message","to":"fajar",{rest}}}"#);
        let Ok(FromClient::Message(message)) = FromClient::parse(&value) else { panic!("{value}") };
        assert_eq!((message.is_bounced(), message.is_state()), (bounced, state), "{rest}");
    }
}

/// Part II, `ack`.
#[test]
fn an_ack_names_a_place_in_the_log() {
    use kurir_protocol::relay::FromClient;
    assert_eq!(FromClient::parse(r#"{"stanza":"Ack","seq":7}"#), Ok(FromClient::Ack(7)));
    let beyond = r#"{"stanza":"ack","seq":18446744073709551616}"#;
    assert_eq!(FromClient::parse(beyond), Ok(FromClient::Ack(u64::MAX)));
    for none in [r#"{"stanza":"ack"}"#, r#"{"stanza":"ack","seq":-1}"#, r#"{"stanza":"ack","seq":"7"}"#] {
        assert_eq!(FromClient::parse(none), Ok(FromClient::Ignored), "{none}");
    }
}
