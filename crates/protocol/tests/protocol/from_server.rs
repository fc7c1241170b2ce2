//! U15: what a client makes of what servers send; packets that our own servers write are in `round_trip`.

use kurir_protocol::{
    Malformed,
    client::{ChatState, Entry, FromServer, Marker, Receipt, ToServer},
    iq,
    manager::{Displayed, ExplainedStep, Explanation, Filed, Found, ListedDevice},
};

#[test]
fn what_is_newer_than_the_library_is_unknown() {
    for new in [
        "{}",
        r#"{"stanza":"stream","type":"later","after_ms":7}"#,
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
    let hello = ToServer::RelayHello { username: "esa", token: Some("secret"), resume: None };
    let reply = r#"{"error":false,"msg":"x","code":200,"component":[{"username":"r","ip_local":"h","port":1,"token":"secret"}]}"#;
    assert!(!format!("{hello:?} {:?}", FromServer::parse(reply)).contains("secret"));
}

#[test]
fn part_ii_the_relays_words_about_tracked_messages() {
    let stored = r#"{"stanza":"message","type":"ack","id":"1","stanza_id":"s","seq":7,"level":"stored"}"#;
    let expected = FromServer::Stored { id: "1".into(), stanza_id: "s".into(), seq: Some(7) };
    assert_eq!(FromServer::parse(stored), Ok(expected));
    let refused = r#"{"stanza":"message","type":"error","from":"relay","to":"esa","id":"1","error":{"type":"wait","condition":"resource-constraint"}}"#;
    let (kind, condition) = ("wait".into(), "resource-constraint".into());
    let expected = FromServer::NotStored { id: Some("1".into()), kind, condition };
    assert_eq!(FromServer::parse(refused), Ok(expected));
    let ready = r#"{"stanza":"stream","type":"ready","seq":7,"log":"l","reset":true}"#;
    let expected = FromServer::Ready { seq: 7, log: "l".into(), first: None, reset: true };
    assert_eq!(FromServer::parse(ready), Ok(expected));
    let gap = r#"{"stanza":"stream","type":"gap","after":1,"first":3}"#;
    assert_eq!(FromServer::parse(gap), Ok(FromServer::Gap { after: 1, first: 3 }));
}

#[test]
fn part_ii_the_end_of_a_connection() {
    let going = r#"{"stanza":"stream","type":"move","after_ms":250}"#;
    assert_eq!(FromServer::parse(going), Ok(FromServer::Move { after_ms: 250 }));
    let error = r#"{"stanza":"stream","type":"error","error":{"type":"wait","condition":"system-shutdown","retry_after_ms":9}}"#;
    let expected = FromServer::Closing { condition: "system-shutdown".into(), retry_after_ms: Some(9) };
    assert_eq!(FromServer::parse(error), Ok(expected));
}

#[test]
fn part_ii_the_archive() {
    let mut answer = Vec::new();
    let stanza = r#"{"from":"fajar","stanza":"message","to":"esa","id":"1","body":"halo"}"#;
    let filed = Filed { seq: 8, stanza_id: "s".into(), ts_ms: 5, stanza: stanza.into() };
    let messages = std::slice::from_ref(&filed);
    let found = Found { messages, complete: true, log: "l", first: Some(3) };
    iq::Answer::new("archive", Some("esa"), None).found(&mut answer, &found);
    let Ok(FromServer::Archive { page, id: None }) =
        FromServer::parse(str::from_utf8(&answer).unwrap().trim())
    else {
        panic!("{answer:?}");
    };
    assert_eq!((page.complete, page.log.as_str(), page.first), (true, "l", Some(3)));
    assert_eq!(page.messages.len(), 1);
    assert_eq!(page.messages[0].message.body.as_deref(), Some("halo"));
    assert!(page.messages[0].stanza.starts_with(r#"{"seq":8,"#));
    assert_eq!(page.messages[0].message.entry, Some(Entry { seq: 8, stanza_id: "s".into(), ts_ms: 5 }));

    let read = Displayed { with: "fajar".into(), stanza_id: "s".into(), ts_ms: 9 };
    answer.clear();
    iq::Answer::new("archive", Some("esa"), None).displayed(&mut answer, std::slice::from_ref(&read));
    let expected = FromServer::Displayed { conversations: vec![read], id: None };
    assert_eq!(FromServer::parse(str::from_utf8(&answer).unwrap().trim()), Ok(expected));
}

#[test]
fn part_ii_devices_and_what_became_of_a_message() {
    let read = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut answer = Vec::new();
        write(&mut answer);
        FromServer::parse(str::from_utf8(&answer).unwrap().trim()).unwrap()
    };
    let answer = |namespace| iq::Answer::new(namespace, Some("esa"), None);
    let devices = vec![
        ListedDevice { resource: "my \"tv\"".into(), online: true, seen_at_ms: 7 },
        ListedDevice { resource: "default".into(), online: false, seen_at_ms: 0 },
    ];
    let listed = read(&|out| answer("account").devices(out, &devices));
    assert_eq!(listed, FromServer::Devices { devices: devices.clone(), id: None });
    assert_eq!(read(&|out| answer("account").removed(out)), FromServer::DeviceRemoved { id: None });

    let step = |reason: &str, device: Option<&str>| ExplainedStep {
        at_ms: 7,
        component: "relay-5010".into(),
        step: "heard".into(),
        reason: reason.into(),
        device: device.map(Into::into),
    };
    let told = |steps: Vec<_>, incomplete| Explanation { steps, incomplete };
    for explanation in
        [told(vec![], true), told(vec![step("", Some("tv")), step("announcement", None)], false)]
    {
        let explained = read(&|out| answer("explain").explanation(out, &explanation));
        assert_eq!(explained, FromServer::Explained { explanation, id: None });
    }
    for strange in [r#"{"events":7}"#, r#"{"events":[7,{"at":"x"},{"at":1,"step":"heard"}]}"#, "[]", r#""x""#]
    {
        let packet = format!(r#"{{"stanza":"iq","namespace":"explain","type":"result","query":{strange}}}"#);
        let nothing = FromServer::Explained { explanation: told(vec![], false), id: None };
        assert_eq!(FromServer::parse(&packet), Ok(nothing), "{strange}");
    }
}

/// A relay puts the sender's name into what users send, and takes `error` away.
#[test]
fn an_acknowledgement_from_a_user_is_a_message() {
    let from_user = r#"{"seq":1,"ts":2,"stanza_id":"s","from":"mallory","stanza":"message","type":"ack","id":"1","to":"esa","level":"stored"}"#;
    let Ok(FromServer::Message(message)) = FromServer::parse(from_user) else { panic!("{from_user}") };
    assert_eq!(message.from, "mallory");
    assert_eq!(message.entry, Some(Entry { seq: 1, stanza_id: "s".into(), ts_ms: 2 }));
}

#[test]
fn part_ii_receipts_markers_and_states() {
    let read = |more: &str| {
        let packet = format!(r#"{{"stanza":"message","from":"esa","to":"fajar",{more}}}"#);
        let Ok(FromServer::Message(message)) = FromServer::parse(&packet) else { panic!("{packet}") };
        (message.receipt, message.marker, message.state)
    };
    assert_eq!(
        read(r#""receipt":"request","marker":"markable","state":"active""#),
        (Some(Receipt::Request), Some(Marker::Markable), Some(ChatState::Active))
    );
    assert_eq!(
        read(r#""receipt":{"received":"a\n"},"marker":{"displayed":"b"}"#),
        (Some(Receipt::Received("a\n".into())), Some(Marker::Displayed("b".into())), None)
    );
    for strange in [
        r#""receipt":{},"marker":[],"state":7"#,
        r#""receipt":{"received":7},"marker":{"x":"y"},"state":"bored""#,
        r#""receipt":null,"marker":"","state":{}"#,
    ] {
        assert_eq!(read(strange), (None, None, None), "{strange}");
    }
}
