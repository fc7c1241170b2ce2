//! Every packet that servers send, as it is written.

use std::time::Duration;

use expect_test::{Expect, expect};
use kurir_protocol::{
    iq::Condition,
    manager::{self, Item, Presence, RelayEntry, Session, Subscription, ToClient},
    relay, replies,
    tracker::{self, Component, Kind},
};

fn line(expected: &Expect, write: impl FnOnce(&mut Vec<u8>)) {
    let mut out = Vec::new();
    write(&mut out);
    let text = String::from_utf8(out).unwrap();
    let value = text.strip_suffix('\n').unwrap();
    assert!(!value.contains(['\n', '\r']));
    serde_json::from_str::<serde_json::Value>(value).unwrap();
    expected.assert_eq(value);
}

fn written(expected: &Expect, packet: &ToClient<'_>) {
    line(expected, |out| packet.write(out));
}

fn session() -> Session {
    Session::new("5e55")
}

const RELAY: RelayEntry<'_> =
    RelayEntry { id: "relay-5010", host: "127.0.0.1", port: 51476, connections: 1, token: None };

fn item(name: Option<&str>) -> Item {
    Item { jid: "esa".to_owned(), name: name.map(str::to_owned), subscription: Subscription::Both }
}

fn presence() -> Presence {
    Presence {
        username: "esa".to_owned(),
        bio: "Feel happy using this application! ;D".to_owned(),
        online: true,
        updated_at_ms: 1_726_223_542_222,
    }
}

fn id() -> manager::RosterRequest {
    let value = r#"{"stanza":"iq","namespace":"roster","type":"get","id":"q\n1"}"#;
    let Ok(manager::FromClient::Roster(request)) = manager::FromClient::parse(value) else {
        panic!("{value}")
    };
    request
}

#[test]
fn t4_the_components() {
    let manager =
        Component { kind: Kind::Manager, host: "10.0.0.1".to_owned(), port: 59441, is_private: false };
    let relay = Component { kind: Kind::Relay, host: "10.0.0.2".to_owned(), port: 51541, is_private: true };
    line(
        &expect![[
            r#"[{"ip_local":"10.0.0.1","port":59441,"type":"manager","is_private":"0"},{"ip_local":"10.0.0.2","port":51541,"type":"relay","is_private":"1"}]"#
        ]],
        |out| tracker::write_components(out, [&manager, &relay]),
    );
    line(&expect!["[]"], |out| tracker::write_components(out, []));
}

#[test]
fn m8_m11_m13_m14_replies_that_name_a_relay() {
    written(
        &expect![[
            r#"{"error":false,"msg":"Account created","code":201,"component":[{"username":"relay-5010","ip_local":"127.0.0.1","port":51476,"type":"relay","connection":1}],"session":"5e55"}"#
        ]],
        &ToClient::AccountCreated { relay: Some(RELAY), jid: None, session: &session() },
    );
    written(
        &expect![[
            r#"{"error":false,"msg":"Login successfull","code":200,"component":[{"username":"relay-5010","ip_local":"127.0.0.1","port":51476,"type":"relay","connection":1,"token":"e.y.j"}],"session":"5e55"}"#
        ]],
        &ToClient::LoggedIn {
            relay: Some(RelayEntry { token: Some("e.y.j"), ..RELAY }),
            jid: None,
            session: &session(),
        },
    );
    written(
        &expect![[
            r#"{"error":false,"msg":"Login successfull","code":200,"component":[],"jid":"esa@a.example/phone","session":"5e55"}"#
        ]],
        &ToClient::LoggedIn { relay: None, jid: Some("esa@a.example/phone"), session: &session() },
    );
    written(
        &expect![[
            r#"[{"error":false,"msg":"Relay Less Connection","code":200,"component":[{"username":"relay-5010","ip_local":"127.0.0.1","port":51476,"type":"relay","connection":1}]}]"#
        ]],
        &ToClient::RelayLessConnection { relay: Some(RELAY) },
    );
    written(
        &expect![[r#"[{"error":false,"msg":"Relay Less Connection","code":200,"component":[]}]"#]],
        &ToClient::RelayLessConnection { relay: None },
    );
}

#[test]
fn roster_results() {
    let (items, request) = ([item(Some("ini \"esa\"\n😀")), item(None)], id());
    written(
        &expect![[
            r#"{"stanza":"iq","namespace":"roster","type":"result","query":{"items":[{"jid":"esa","name":"ini \"esa\"\n😀","subscription":"both"},{"jid":"esa","name":null,"subscription":"both"}]},"to":"fajar"}"#
        ]],
        &ToClient::Roster { items: &items, to: "fajar", id: None },
    );
    written(
        &expect![[
            r#"{"stanza":"iq","namespace":"roster","type":"result","query":{"items":[]},"to":"fajar","id":"q\n1"}"#
        ]],
        &ToClient::Roster { items: &[], to: "fajar", id: request.id.as_ref() },
    );
    written(
        &expect![[r#"{"stanza":"iq","namespace":"roster","type":"result","to":"fajar"}"#]],
        &ToClient::RosterSet { to: "fajar", id: None },
    );
    written(
        &expect![[
            r#"{"stanza":"iq","namespace":"roster","type":"result","subscription":"remove","to":"fajar","id":"q\n1"}"#
        ]],
        &ToClient::RosterRemoved { to: "fajar", id: request.id.as_ref() },
    );
}

#[test]
fn m16_m21_roster_errors() {
    let error = |condition, to| ToClient::RosterError { condition, to, id: None };
    written(
        &expect![[
            r#"{"stanza":"iq","namespace":"roster","type":"error","error":{"type":"auth","condition":"not-authorized"},"to":null}"#
        ]],
        &error(Condition::NotLoggedIn, None),
    );
    written(
        &expect![[
            r#"{"stanza":"iq","namespace":"roster","type":"error","error":{"type":"modify","condition":"bad-request"},"to":"fajar"}"#
        ]],
        &error(Condition::BadRequest, Some("fajar")),
    );
    written(
        &expect![[
            r#"{"stanza":"iq","namespace":"roster","type":"error","error":{"type":"auth","condition":"forbidden"},"to":"fajar"}"#
        ]],
        &error(Condition::Forbidden, Some("fajar")),
    );
    written(
        &expect![[
            r#"{"stanza":"iq","namespace":"roster","type":"error","error":{"type":"cancel","condition":"not-allowed"},"to":"fajar"}"#
        ]],
        &error(Condition::NotAllowed, Some("fajar")),
    );
    written(
        &expect![[
            r#"{"stanza":"iq","namespace":"roster","type":"error","error":{"type":"cancel","condition":"item-not-found"},"to":"fajar"}"#
        ]],
        &error(Condition::ItemNotFound, Some("fajar")),
    );
    written(
        &expect![[
            r#"{"stanza":"iq","namespace":"roster","type":"error","error":{"type":"wait","condition":"resource-constraint"},"to":"fajar"}"#
        ]],
        &error(Condition::Temporary, Some("fajar")),
    );
    let request = id();
    let echoed = ToClient::RosterError {
        condition: Condition::BadRequest,
        to: Some("fajar"),
        id: request.id.as_ref(),
    };
    written(
        &expect![[
            r#"{"stanza":"iq","namespace":"roster","type":"error","error":{"type":"modify","condition":"bad-request"},"to":"fajar","id":"q\n1"}"#
        ]],
        &echoed,
    );
}

#[test]
fn m18_subscribed_and_m23_unsubscribed() {
    written(
        &expect![[
            r#"{"stanza":"presence","from":"esa","to":"fajar","type":"subscribed","item":{"jid":"esa","name":"author","subscription":"both"}}"#
        ]],
        &ToClient::Subscribed { from: "esa", to: "fajar", item: &item(Some("author")) },
    );
    written(
        &expect![[r#"{"stanza":"presence","from":"esa","to":"fajar","type":"unsubscribed"}"#]],
        &ToClient::Unsubscribed { from: "esa", to: "fajar" },
    );
}

#[test]
fn m24_to_m30_presence() {
    let presence = presence();
    written(
        &expect![[
            r#"{"stanza":"presence","from":"esa","username":"esa","bio":"Feel happy using this application! ;D","online":1,"updated_at":1726223542222}"#
        ]],
        &ToClient::Presence { presence: &presence, from: "esa" },
    );
    written(
        &expect![[
            r#"{"stanza":"presence","from":"esa","username":"esa","bio":"Feel happy using this application! ;D","online":1,"updated_at":1726223542222,"to":"fajar"}"#
        ]],
        &ToClient::PresenceTo { presence: &presence, from: "esa", to: "fajar" },
    );
    let offline = Presence { online: false, ..presence };
    written(
        &expect![[
            r#"{"stanza":"presence","from":"esa@a.example","username":"esa","bio":"Feel happy using this application! ;D","online":0,"updated_at":1726223542222,"to":"fajar","directed_entity":true}"#
        ]],
        &ToClient::PresenceDirected { presence: &offline, from: "esa@a.example", to: "fajar" },
    );
    written(
        &expect![[r#"{"stanza":"presence","from":"esa","type":"unavailable"}"#]],
        &ToClient::Unavailable { from: "esa" },
    );
    written(
        &expect![[
            r#"{"stanza":"presence","type":"error","error":{"type":"auth","condition":"forbidden"},"to":"fajar"}"#
        ]],
        &ToClient::PresenceForbidden { to: "fajar" },
    );
    written(
        &expect![[r#"{"stanza":"presence","type":"error","to":"fajar","target":"no one"}"#]],
        &ToClient::PresenceUnknown { to: "fajar", target: "no one" },
    );
}

#[test]
fn r15_the_sentence_for_what_found_no_receiver() {
    line(
        &expect![[
            r#"{"stanza":"message","from":"relay","to":"esa","error":true,"body":"User not found or User not online"}"#
        ]],
        |out| replies::not_delivered(out, "esa"),
    );
}

#[test]
fn r16_a_message_as_it_is_delivered() {
    let delivered = |expected: &Expect, value: &str| {
        let Ok(relay::FromClient::Message(message)) = relay::FromClient::parse(value) else {
            panic!("{value}")
        };
        line(expected, |out| message.write("Esa\"", out));
    };
    delivered(
        &expect![[r#"{"from":"Esa\"","stanza":"message","to":"fajar","lang":"id","body":"halo fajar"}"#]],
        r#"{"stanza":"message","from":"esa","to":"fajar","lang":"id","body":"halo fajar"}"#,
    );
    delivered(
        &expect![[r#"{"from":"Esa\"","stanza":"message","to":"fajar","x" : [ {"seq":1} ],"y":null}"#]],
        r#" { "seq" : 1 , "stanza":"message","stanza_id":2,"to":"fajar" , "ts":3,"x" : [ {"seq":1} ] ,"error":true,"y":null,"from":"relay" } "#.trim(),
    );
    delivered(&expect![[r#"{"from":"Esa\"","stanza":"message"}"#]], r#"{"stanza":"message"}"#);
}

#[test]
fn fixed_replies() {
    let all = [
        replies::BAD_REQUEST,
        replies::UNAUTHORIZED,
        replies::USER_NOT_FOUND,
        replies::TOO_SLOW,
        replies::USERNAME_USED,
        replies::ALREADY_LOGGED_IN,
        replies::CONFLICT,
        replies::TOO_LARGE,
        replies::TEMPORARY_FAILURE,
    ];
    expect![[r#"
        {"error":true,"msg":"Bad request","code":400}
        {"error":true,"msg":"Unauthorized","code":401}
        {"error":true,"msg":"User not found","code":404}
        {"error":true,"msg":"Too slow","code":408}
        {"error":true,"msg":"Username used","code":409}
        {"error":true,"msg":"Already logged in","code":409}
        {"error":true,"msg":"Conflict","code":409}
        {"error":true,"msg":"Too large","code":413}
        {"error":true,"msg":"Temporary failure","code":503}"#]]
    .assert_eq(&all.join("\n"));
    line(&expect![[r#"{"error":true,"msg":"Bad request","code":400}"#]], |out| {
        replies::push(out, replies::BAD_REQUEST);
    });
}

#[test]
fn stream_errors_say_what_to_do() {
    use replies::{StreamCondition as Condition, stream_error};
    line(
        &expect![[
            r#"{"stanza":"stream","type":"error","error":{"type":"auth","condition":"not-authorized"}}"#
        ]],
        |out| stream_error(out, Condition::NotAuthorized, None),
    );
    line(
        &expect![[r#"{"stanza":"stream","type":"error","error":{"type":"cancel","condition":"conflict"}}"#]],
        |out| stream_error(out, Condition::Conflict, None),
    );
    line(
        &expect![[
            r#"{"stanza":"stream","type":"error","error":{"type":"modify","condition":"policy-violation"}}"#
        ]],
        |out| stream_error(out, Condition::PolicyViolation, None),
    );
    line(
        &expect![[
            r#"{"stanza":"stream","type":"error","error":{"type":"wait","condition":"resource-constraint","retry_after_ms":2000}}"#
        ]],
        |out| stream_error(out, Condition::ResourceConstraint, Some(Duration::from_secs(2))),
    );
    line(
        &expect![[
            r#"{"stanza":"stream","type":"error","error":{"type":"wait","condition":"system-shutdown"}}"#
        ]],
        |out| stream_error(out, Condition::SystemShutdown, None),
    );
}

#[test]
fn every_socket_answers_a_ping_and_each_request_it_does_not_know() {
    let ping = r#"{"stanza":"iq","namespace":"ping","type":"get","id":"é\"1"}"#;
    let answers = |value: &str| {
        let Ok(tracker::FromClient::Iq(at_tracker)) = tracker::FromClient::parse(value) else {
            panic!("{value}")
        };
        let Ok(manager::FromClient::Iq(at_manager)) = manager::FromClient::parse(value) else {
            panic!("{value}")
        };
        let Ok(relay::FromClient::Iq(at_relay)) = relay::FromClient::parse(value) else { panic!("{value}") };
        assert_eq!((&at_tracker, &at_manager), (&at_manager, &at_relay));
        at_relay
    };
    assert!(answers(ping).is_ping());
    line(&expect![[r#"{"stanza":"iq","namespace":"ping","type":"result","id":"é\"1"}"#]], |out| {
        answers(ping).answer(out);
    });
    line(&expect![[r#"{"stanza":"iq","namespace":"ping","type":"result","id":"é\"1"}"#]], |out| {
        answers(ping).answer_before_login(out);
    });
    line(&expect![[r#"{"stanza":"iq","namespace":"Ping","type":"result"}"#]], |out| {
        answers(r#"{"stanza":"iq","namespace":"Ping","type":"get","id":7}"#).answer(out);
    });
    let unknown = r#"{"stanza":"iq","namespace":"disco","type":"set","id":""}"#;
    line(
        &expect![[
            r#"{"stanza":"iq","namespace":"disco","type":"error","error":{"type":"cancel","condition":"service-unavailable"},"id":""}"#
        ]],
        |out| answers(unknown).answer(out),
    );
    line(
        &expect![[
            r#"{"stanza":"iq","namespace":"disco","type":"error","error":{"type":"auth","condition":"not-authorized"},"id":""}"#
        ]],
        |out| answers(unknown).answer_before_login(out),
    );
    line(
        &expect![[
            r#"{"stanza":"iq","type":"error","error":{"type":"cancel","condition":"service-unavailable"}}"#
        ]],
        |out| answers(r#"{"stanza":"iq","type":"get"}"#).answer(out),
    );
}

/// Part II, `id`: what becomes of a tracked message.
#[test]
fn a_tracked_message_is_stored_or_refused() {
    line(
        &expect![[
            r#"{"stanza":"message","type":"ack","id":"a\n1","stanza_id":"0192f0c1-7b5a-7d3e-8f00-000000000001","level":"stored"}"#
        ]],
        |out| relay::acknowledge(out, "a\n1", "0192f0c1-7b5a-7d3e-8f00-000000000001", None),
    );
    line(
        &expect![[
            r#"{"stanza":"message","type":"ack","id":"1","stanza_id":"0192f0c1-7b5a-7d3e-8f00-000000000001","seq":18446744073709551615,"level":"stored"}"#
        ]],
        |out| {
            relay::acknowledge(out, "1", "0192f0c1-7b5a-7d3e-8f00-000000000001", Some(u64::MAX));
        },
    );
    line(
        &expect![[
            r#"{"stanza":"message","from":"relay","to":"esa","error":true,"body":"User not found or User not online","id":"1"}"#
        ]],
        |out| relay::not_delivered(out, "esa", "1"),
    );
    line(
        &expect![[
            r#"{"stanza":"message","type":"error","from":"relay","to":"esa","id":7,"error":{"type":"modify","condition":"bad-request"}}"#
        ]],
        |out| relay::refuse(out, "esa", "7", relay::Refusal::BadId),
    );
    line(
        &expect![[
            r#"{"stanza":"message","type":"error","from":"relay","to":"esa","id":"1","error":{"type":"cancel","condition":"conflict"}}"#
        ]],
        |out| relay::refuse(out, "esa", r#""1""#, relay::Refusal::Conflict),
    );
    line(
        &expect![[
            r#"{"stanza":"message","type":"error","from":"relay","to":"esa","id":"1","error":{"type":"wait","condition":"resource-constraint"}}"#
        ]],
        |out| relay::refuse(out, "esa", r#""1""#, relay::Refusal::Wait),
    );
}

/// Part II, `resume`: the answer to the hello, and an entry of the log.
#[test]
fn a_device_that_resumes_is_told_where_the_log_ends_and_where_each_entry_is() {
    let ready = relay::Ready { seq: 7, log: "0192f0c1", first: None, reset: false };
    line(&expect![[r#"{"stanza":"stream","type":"ready","seq":7,"log":"0192f0c1"}"#]], |out| {
        relay::ready(out, &ready);
    });
    line(
        &expect![[
            r#"{"stanza":"stream","type":"ready","seq":7,"log":"0192f0c1","reset":true,"error":{"type":"cancel","condition":"item-not-found"}}"#
        ]],
        |out| {
            relay::ready(out, &relay::Ready { reset: true, ..ready });
        },
    );
    line(&expect![[r#"{"stanza":"stream","type":"ready","seq":7,"log":"0192f0c1","first":3}"#]], |out| {
        relay::ready(out, &relay::Ready { first: Some(3), ..ready });
    });
    line(
        &expect![[
            r#"{"stanza":"stream","type":"gap","after":1,"first":3,"error":{"type":"cancel","condition":"item-not-found"}}"#
        ]],
        |out| relay::gap(out, 1, 3),
    );
    let stanza = r#"{"from":"esa","stanza":"message","to":"fajar","id":"1","body":"halo"}"#;
    line(
        &expect![[
            r#"{"seq":7,"ts":1726223542222,"stanza_id":"0192f0c1","from":"esa","stanza":"message","to":"fajar","id":"1","body":"halo"}"#
        ]],
        |out| relay::deliver(out, stanza, 7, "0192f0c1", 1_726_223_542_222),
    );
}
