//! U15: what a client makes of what servers send; packets that our own servers write are in `round_trip`.

use kurir_protocol::{
    Malformed,
    client::{FromServer, ToServer},
};

#[test]
fn what_is_newer_than_the_library_is_unknown() {
    for new in [
        "{}",
        r#"{"stanza":"stream","type":"move","after_ms":7}"#,
        r#"{"stanza":"message"}"#,
        r#"{"stanza":"presence","type":"subscribed","from":"esa"}"#,
        r#"{"stanza":"iq","type":"result","namespace":"disco"}"#,
        r#"{"error":false,"msg":"Hello","code":299}"#,
        r#"{"error":true,"msg":7,"code":"x"}"#,
    ] {
        assert_eq!(FromServer::parse(new), Ok(FromServer::Unknown), "{new}");
    }
}

#[test]
fn an_array_without_components_names_none() {
    assert_eq!(FromServer::parse("[]"), Ok(FromServer::Components(vec![])));
    assert_eq!(
        FromServer::parse(r#"[{"type":"printer","ip_local":"a","port":1}]"#),
        Ok(FromServer::Components(vec![]))
    );
    assert_eq!(FromServer::parse("[7]"), Err(Malformed));
    assert_eq!(FromServer::parse("7"), Err(Malformed));
}

#[test]
fn a_message_from_a_user_is_never_taken_for_the_relays_word() {
    let from_user =
        r#"{"from":"esa","stanza":"message","to":"fajar","body":"User not found or User not online"}"#;
    assert!(matches!(FromServer::parse(from_user), Ok(FromServer::Message(_))));
    let as_its_sender_wrote_it = r#"{"stanza":"Message","from":"esa","to":"fajar","body":"halo"}"#;
    assert!(matches!(FromServer::parse(as_its_sender_wrote_it), Ok(FromServer::Message(_))));
}

#[test]
fn passwords_and_tickets_are_not_for_debug() {
    let hello = ToServer::RelayHello { username: "esa", token: Some("secret") };
    let reply = r#"{"error":false,"msg":"x","code":200,"component":[{"username":"r","ip_local":"h","port":1,"token":"secret"}]}"#;
    assert!(!format!("{hello:?} {:?}", FromServer::parse(reply)).contains("secret"));
}
