//! Every packet that the client library sends, as it is written.

use expect_test::{Expect, expect};
use kurir_protocol::client::ToServer;

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
        &ToServer::Register { username: "esa", password: "12345" },
    );
    written(
        &expect![[r#"{"type":"auth","username":"esa","password":"12345"}"#]],
        &ToServer::Login { username: "esa", password: "12345" },
    );
}

#[test]
fn u5_hello_to_a_relay() {
    written(&expect![[r#"{"type":"get_relay_less_connection"}"#]], &ToServer::GetRelay);
    written(
        &expect![[r#"{"username":"esa","message":"hello!","token":"t"}"#]],
        &ToServer::RelayHello { username: "esa", token: Some("t") },
    );
    written(
        &expect![[r#"{"username":"esa","message":"hello!"}"#]],
        &ToServer::RelayHello { username: "esa", token: None },
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
        &ToServer::Message { from, to, body, lang: Some("id") },
    );
    written(
        &expect![[r#"{"stanza":"message","from":"esa","to":"fajar","body":"halo\nfajar"}"#]],
        &ToServer::Message { from, to, body, lang: None },
    );
    written(
        &expect![[r#"{"stanza":"iq","namespace":"ping","type":"get","id":"7"}"#]],
        &ToServer::Ping { id: "7" },
    );
}
