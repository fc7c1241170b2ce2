//! Every packet that the client library sends, as it is written.

use expect_test::{Expect, expect};
use kurir_protocol::{
    client::{ArchiveQuery, ChatState, Draft, Marker, Receipt, ToServer},
    manager::{Search, Session},
    relay::Resume,
};

fn written(expected: &Expect, packet: &ToServer<'_>) {
    let mut out = Vec::new();
    packet.write(&mut out);
    let text = String::from_utf8(out).unwrap();
    expected.assert_eq(text.strip_suffix('\n').unwrap());
}

#[test]
fn u1_u2_hello_to_tracker_and_manager() {
    written(
        &expect![[r#"{"ip_local":"192.168.1.6","port":62998,"type":"client","is_private":true}"#]],
        &ToServer::Hello { host: "192.168.1.6", port: 62998 },
    );
    written(&expect![[r#"{"message":"get components"}"#]], &ToServer::GetComponents);
}

#[test]
fn u3_u4_registration_and_login() {
    written(
        &expect![[r#"{"type":"auth","username":"esa","password":"12345","register":true}"#]],
        &ToServer::Register { username: "esa", password: "12345", resource: None },
    );
    written(
        &expect![[r#"{"type":"auth","username":"esa","password":"12345"}"#]],
        &ToServer::Login { username: "esa", password: "12345", resource: None },
    );
}

#[test]
fn part_ii_devices_and_sessions() {
    let (username, password, resource) = ("esa", "12345", Some("phone"));
    written(
        &expect![[
            r#"{"type":"auth","username":"esa","password":"12345","resource":"phone","register":true}"#
        ]],
        &ToServer::Register { username, password, resource },
    );
    written(
        &expect![[r#"{"type":"auth","username":"esa","password":"12345","resource":"phone"}"#]],
        &ToServer::Login { username, password, resource },
    );
    written(
        &expect![[r#"{"type":"auth","username":"esa","session":"s"}"#]],
        &ToServer::ComeBack { username, session: &Session::new("s") },
    );
}

#[test]
fn part_ii_the_archive() {
    let search = Search { with: Some("fajar".into()), after: None, before: Some(9), limit: 7 };
    for (expected, query) in [
        (
            expect![[
                r#"{"stanza":"iq","namespace":"archive","type":"get","query":{"with":"fajar","limit":7,"before":9},"id":"1"}"#
            ]],
            ArchiveQuery::Search(&search),
        ),
        (
            expect![[r#"{"stanza":"iq","namespace":"archive","type":"get","query":{"id":"0193"},"id":"1"}"#]],
            ArchiveQuery::Sent("0193"),
        ),
        (
            expect![[
                r#"{"stanza":"iq","namespace":"archive","type":"get","query":{"displayed":null},"id":"1"}"#
            ]],
            ArchiveQuery::Displayed,
        ),
    ] {
        written(&expected, &ToServer::Archive { query, id: "1" });
    }
}

#[test]
fn part_ii_devices_and_what_became_of_a_message() {
    written(
        &expect![[r#"{"stanza":"iq","namespace":"account","type":"get","id":"1"}"#]],
        &ToServer::Devices { id: "1" },
    );
    written(
        &expect![[
            r#"{"stanza":"iq","namespace":"account","type":"set","query":{"remove":"my \"tv\""},"id":"1"}"#
        ]],
        &ToServer::RemoveDevice { resource: "my \"tv\"", id: "1" },
    );
    written(
        &expect![[
            r#"{"stanza":"iq","namespace":"explain","type":"get","query":{"stanza_id":"0194"},"id":"1"}"#
        ]],
        &ToServer::Explain { stanza_id: "0194", id: "1" },
    );
}

#[test]
fn u5_hello_to_a_relay() {
    written(&expect![[r#"{"type":"get_relay_less_connection"}"#]], &ToServer::GetRelay);
    written(
        &expect![[r#"{"username":"esa","message":"hello!","token":"t"}"#]],
        &ToServer::RelayHello { username: "esa", token: Some("t"), resume: None },
    );
    written(
        &expect![[r#"{"username":"esa","message":"hello!"}"#]],
        &ToServer::RelayHello { username: "esa", token: None, resume: None },
    );
}

#[test]
fn u7_to_u10_the_roster() {
    let (from, id) = ("fajar", "1");
    written(
        &expect![[
            r#"{"stanza":"iq","namespace":"roster","from":"fajar","type":"get","query":{"items":null},"id":"1"}"#
        ]],
        &ToServer::RosterGet { from, id },
    );
    written(
        &expect![[
            r#"{"stanza":"iq","namespace":"roster","from":"fajar","type":"set","query":{"item":{"jid":"esa","name":"author","subscription":"to"}},"id":"1"}"#
        ]],
        &ToServer::RosterSet { from, jid: "esa", name: Some("author"), id },
    );
    written(
        &expect![[
            r#"{"stanza":"iq","namespace":"roster","from":"fajar","type":"set","query":{"item":{"jid":"esa","name":null,"subscription":"to"}},"id":"1"}"#
        ]],
        &ToServer::RosterSet { from, jid: "esa", name: None, id },
    );
    written(
        &expect![[
            r#"{"stanza":"iq","namespace":"roster","from":"fajar","type":"set","query":{"item":{"jid":"esa"}},"subscription":"remove","id":"1"}"#
        ]],
        &ToServer::RosterRemove { from, jid: "esa", id },
    );
}

#[test]
fn u6_u11_to_u13_presence() {
    written(&expect![[r#"{"stanza":"presence"}"#]], &ToServer::InitialPresence);
    written(&expect![[r#"{"stanza":"presence","to":"esa"}"#]], &ToServer::DirectedPresence { to: "esa" });
    written(
        &expect![[r#"{"stanza":"presence","from":"esa","bio":"lagi makan \"kebab\""}"#]],
        &ToServer::Bio { from: "esa", bio: "lagi makan \"kebab\"" },
    );
    written(
        &expect![[r#"{"stanza":"presence","from":"esa","type":"unavailable"}"#]],
        &ToServer::Logout { from: "esa" },
    );
}

#[test]
fn u14_messages_and_pings() {
    let (from, to, body) = ("esa", "fajar", "halo\nfajar");
    written(
        &expect![[r#"{"stanza":"message","from":"esa","to":"fajar","lang":"id","body":"halo\nfajar"}"#]],
        &ToServer::Message(Draft { from, to, body: Some(body), lang: Some("id"), ..Draft::default() }),
    );
    written(
        &expect![[r#"{"stanza":"message","from":"esa","to":"fajar","body":"halo\nfajar"}"#]],
        &ToServer::Message(Draft { from, to, body: Some(body), ..Draft::default() }),
    );
    written(
        &expect![[r#"{"stanza":"iq","namespace":"ping","type":"get","id":"7"}"#]],
        &ToServer::Ping { id: "7" },
    );
}

#[test]
fn part_ii_a_place_in_the_log() {
    let hello = |resume| ToServer::RelayHello { username: "esa", token: None, resume };
    written(
        &expect![[r#"{"username":"esa","message":"hello!","resume":0}"#]],
        &hello(Some(&Resume { seq: 0, log: None })),
    );
    written(
        &expect![[r#"{"username":"esa","message":"hello!","resume":7,"log":"l"}"#]],
        &hello(Some(&Resume { seq: 7, log: Some("l".into()) })),
    );
    written(&expect![[r#"{"stanza":"ack","seq":7}"#]], &ToServer::Ack { seq: 7 });
}

#[test]
fn part_ii_receipts_markers_and_states() {
    let draft = Draft { from: "esa", to: "fajar", id: Some("1"), ..Draft::default() };
    written(
        &expect![[
            r#"{"stanza":"message","from":"esa","to":"fajar","id":"1","body":"halo","receipt":"request","marker":"markable"}"#
        ]],
        &ToServer::Message(Draft {
            body: Some("halo"),
            receipt: Some(&Receipt::Request),
            marker: Some(&Marker::Markable),
            ..draft
        }),
    );
    written(
        &expect![[r#"{"stanza":"message","from":"esa","to":"fajar","id":"1","receipt":{"received":"s"}}"#]],
        &ToServer::Message(Draft { receipt: Some(&Receipt::Received("s".into())), ..draft }),
    );
    written(
        &expect![[r#"{"stanza":"message","from":"esa","to":"fajar","id":"1","marker":{"displayed":"s"}}"#]],
        &ToServer::Message(Draft { marker: Some(&Marker::Displayed("s".into())), ..draft }),
    );
    written(
        &expect![[r#"{"stanza":"message","from":"esa","to":"fajar","state":"composing"}"#]],
        &ToServer::Message(Draft { id: None, state: Some(ChatState::Composing), ..draft }),
    );
}
