//! What one end writes, the other end reads.

use kurir_protocol::{
    client::{ArchiveQuery, Draft, FromServer, ToServer},
    framing::{Framing, Limits, encode},
    iq,
    manager::{
        self, ArchiveAction, Item, NewName, Presence, PresenceRequest, RelayEntry, RosterAction, Search,
        Session, Subscription, ToClient,
    },
    name::UserKey,
    object::text,
    relay, replies,
    tracker::{self, Component, Kind},
    write,
};
use proptest::{collection::vec, option, prelude::*, sample::select};

use crate::feed::{Event, Feed};

/// The values on the wire, after passing through a framing.
fn through(framing: Framing, write: impl FnOnce(&mut Vec<u8>)) -> Vec<String> {
    let (mut lines, mut wire) = (Vec::new(), Vec::new());
    write(&mut lines);
    encode(framing, &lines, &mut wire);
    let decoder = kurir_protocol::framing::Decoder::for_client_library(Limits::FROM_SERVERS);
    let mut feed = Feed::with(decoder);
    feed.receive(&wire);
    assert_eq!(feed.kept(), 0);
    let value = |event| match event {
        Event::Value(value) => value,
        other => panic!("{other:?}"),
    };
    feed.events.into_iter().map(value).collect()
}

fn framing() -> impl Strategy<Value = Framing> {
    select(vec![Framing::Original, Framing::Lines])
}

/// Anything a user may write, the delimiter's characters often.
fn words() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[a\"\\\\\n\r\t\u{0}\u{80}\u{81}\u{82}é😀]{0,8}"]
}

fn to_server(framing: Framing, packet: &ToServer<'_>) -> String {
    through(framing, |out| packet.write(out)).remove(0)
}

fn to_client(framing: Framing, packet: &ToClient<'_>) -> FromServer {
    FromServer::parse(&through(framing, |out| packet.write(out))[0]).unwrap()
}

fn subscription() -> impl Strategy<Value = Subscription> {
    select(vec![Subscription::To, Subscription::From, Subscription::Both])
}

proptest! {
    #[test]
    fn strings_are_read_as_they_were_written(words in words()) {
        let mut out = Vec::new();
        write::string(&mut out, &words);
        let raw = String::from_utf8(out).unwrap();
        prop_assert_eq!(text(&raw).unwrap(), words.as_str());
        let theirs: String = serde_json::from_str(&raw).unwrap();
        prop_assert_eq!(theirs, words);
    }

    #[test]
    fn strings_of_others_are_read_as_serde_json_reads_them(inner in r#"(\\["\\/bfnrt]|\\u[0-9a-fA-F]{4}|\\ud83d\\ude0[0-9]|[a-zé]){0,8}"#) {
        let raw = format!("\"{inner}\"");
        if let Ok(theirs) = serde_json::from_str::<String>(&raw) {
            prop_assert_eq!(text(&raw).unwrap(), theirs);
        } else {
            prop_assert!(text(&raw).unwrap().contains('\u{FFFD}'), "half a surrogate pair");
        }
    }

    #[test]
    fn u3_u4_registration_and_login(framing in framing(), username in words(), password in words(), register: bool) {
        let (username, password) = (username.as_str(), password.as_str());
        let resource = None;
        let packet = if register { ToServer::Register { username, password, resource } } else { ToServer::Login { username, password, resource } };
        let Ok(manager::FromClient::Auth(auth)) = manager::FromClient::parse(&to_server(framing, &packet)) else { panic!() };
        let good = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
        prop_assert_eq!(auth.username, good(username).then(|| username.to_owned()));
        prop_assert_eq!(auth.password.as_ref().map(manager::Password::expose), good(password).then_some(password));
        prop_assert_eq!(auth.register, register);
    }

    #[test]
    fn u7_to_u10_roster_requests(framing in framing(), contact in words(), called in option::of(words()), id in words()) {
        let (from, jid, name, id) = ("fajar", contact.as_str(), called.as_deref(), id.as_str());
        let parse = |packet: &ToServer<'_>| {
            let Ok(manager::FromClient::Roster(request)) = manager::FromClient::parse(&to_server(framing, packet)) else { panic!() };
            assert_eq!(text(request.id.as_ref().unwrap().as_json()).as_deref(), Some(id));
            request.action
        };
        let me = UserKey::of(from).unwrap();
        let RosterAction::Get { from: asker } = parse(&ToServer::RosterGet { from, id }) else { panic!() };
        prop_assert!(asker.is(&me, "a.example"));
        let RosterAction::Set { jid: added, name: named, .. } = parse(&ToServer::RosterSet { from, jid, name, id }) else { panic!() };
        prop_assert_eq!((added.as_str(), named), (jid, NewName::Set(called.clone())));
        let RosterAction::Remove { jid: removed, .. } = parse(&ToServer::RosterRemove { from, jid, id }) else { panic!() };
        prop_assert_eq!(&removed, jid);
    }

    #[test]
    fn u6_u11_u12_u13_presence_requests(framing in framing(), words in words().prop_filter("not empty", |words| !words.is_empty())) {
        let parse = |packet: &ToServer<'_>| {
            let Ok(manager::FromClient::Presence(request)) = manager::FromClient::parse(&to_server(framing, packet)) else { panic!() };
            request
        };
        prop_assert_eq!(parse(&ToServer::InitialPresence), PresenceRequest::Initial);
        prop_assert_eq!(parse(&ToServer::Logout { from: &words }), PresenceRequest::Logout);
        prop_assert_eq!(parse(&ToServer::DirectedPresence { to: &words }), PresenceRequest::Directed { to: words.clone() });
        let PresenceRequest::Bio { from: Some(_), bio } = parse(&ToServer::Bio { from: "esa", bio: &words }) else { panic!() };
        prop_assert_eq!(bio, words);
    }

    #[test]
    fn u5_u14_relay_hello_and_message(framings in (framing(), framing()), to in words(), body in words(), lang in option::of(words())) {
        let hello = to_server(framings.0, &ToServer::RelayHello { username: &to, token: lang.as_deref(), resume: None });
        let Ok(relay::FromClient::Hello(hello)) = relay::FromClient::parse(&hello) else { panic!() };
        prop_assert_eq!((hello.username.as_deref(), &hello.token), (Some(to.as_str()), &lang));

        let sent = to_server(framings.0, &ToServer::Message(Draft { from: "relay", to: &to, body: Some(&body), lang: lang.as_deref(), ..Draft::default() }));
        let Ok(relay::FromClient::Message(message)) = relay::FromClient::parse(&sent) else { panic!() };
        prop_assert_eq!(message.to(), Some(to.as_str()));
        let delivered = through(framings.1, |out| message.write("Esa", out));
        prop_assert_eq!(delivered.len(), 1);
        let Ok(FromServer::Message(received)) = FromServer::parse(&delivered[0]) else { panic!("{delivered:?}") };
        prop_assert_eq!((received.from.as_str(), received.to, received.body, received.lang), ("Esa", Some(to), Some(body), lang));
    }

    #[test]
    fn rosters(framing in framing(), items in vec((words(), option::of(words()), subscription()), 0..4)) {
        let items: Vec<_> = items.into_iter().map(|(jid, name, subscription)| Item { jid, name, subscription }).collect();
        let read = to_client(framing, &ToClient::Roster { items: &items, to: "fajar", id: None });
        prop_assert_eq!(read, FromServer::Roster { items: items.clone(), id: None });
        for item in items {
            let read = to_client(framing, &ToClient::Subscribed { from: &item.jid, to: "fajar", item: &item });
            prop_assert_eq!(read, FromServer::Subscribed { from: item.jid.clone(), item });
        }
    }

    #[test]
    fn presence(framing in framing(), username in words(), bio in words(), online: bool, updated_at_ms: i64) {
        let presence = Presence { username, bio, online, updated_at_ms };
        let from = presence.username.as_str();
        for (packet, was_directed) in [
            (ToClient::Presence { presence: &presence, from }, false),
            (ToClient::PresenceTo { presence: &presence, from, to: "fajar" }, false),
            (ToClient::PresenceDirected { presence: &presence, from, to: "fajar" }, true),
        ] {
            let FromServer::Presence(read) = to_client(framing, &packet) else { panic!() };
            prop_assert_eq!((&read.from, &read.bio), (&presence.username, &presence.bio));
            prop_assert_eq!((read.online, read.updated_at_ms, read.directed), (online, updated_at_ms, was_directed));
        }
    }

    #[test]
    fn components(framing in framing(), hosts in vec((words(), any::<u16>(), any::<bool>()), 0..4)) {
        let component = |(host, port, is_private)| Component { kind: Kind::Relay, host, port, is_private };
        let components: Vec<_> = hosts.into_iter().map(component).collect();
        let values = through(framing, |out| tracker::write_components(out, &components));
        prop_assert_eq!(FromServer::parse(&values[0]), Ok(FromServer::Components(components)));
    }
}

#[test]
fn relays_come_with_their_ticket() {
    let relay =
        || Some(RelayEntry { id: "relay-5010", host: "h", port: 5010, connections: 3, token: Some("t") });
    let read = |packet: ToClient<'_>| match to_client(Framing::Original, &packet) {
        FromServer::AccountCreated { relay, session } if session == Some(Session::new("s")) => (201, relay),
        FromServer::LoggedIn { relay, session } if session == Some(Session::new("s")) => (200, relay),
        FromServer::RelayLessConnection { relay } => (0, relay),
        other => panic!("{other:?}"),
    };
    let session = Session::new("s");
    for (code, packet) in [
        (201, ToClient::AccountCreated { relay: relay(), jid: None, session: &session }),
        (200, ToClient::LoggedIn { relay: relay(), jid: None, session: &session }),
        (0, ToClient::RelayLessConnection { relay: relay() }),
    ] {
        let (was, relay) = read(packet);
        let relay = relay.unwrap();
        assert_eq!(
            (was, relay.id.as_str(), relay.host.as_str(), relay.port),
            (code, "relay-5010", "h", 5010)
        );
        assert_eq!(relay.token.as_deref(), Some("t"));
    }
    assert_eq!(read(ToClient::RelayLessConnection { relay: None }), (0, None));
}

#[test]
fn errors_and_short_answers() {
    let read = |packet: ToClient<'_>| to_client(Framing::Lines, &packet);
    assert_eq!(read(ToClient::RosterSet { to: "fajar", id: None }), FromServer::RosterSet { id: None });
    assert_eq!(
        read(ToClient::RosterRemoved { to: "fajar", id: None }),
        FromServer::RosterRemoved { id: None }
    );
    assert_eq!(
        read(ToClient::RosterError { condition: iq::Condition::ItemNotFound, to: None, id: None }),
        FromServer::IqError {
            namespace: Some("roster".to_owned()),
            kind: "cancel".to_owned(),
            condition: "item-not-found".to_owned(),
            id: None
        }
    );
    let from = "esa".to_owned();
    assert_eq!(
        read(ToClient::Unsubscribed { from: "esa", to: "fajar" }),
        FromServer::Unsubscribed { from: from.clone() }
    );
    assert_eq!(read(ToClient::Unavailable { from: "esa" }), FromServer::Unavailable { from });
    assert_eq!(read(ToClient::PresenceForbidden { to: "fajar" }), FromServer::PresenceForbidden);
    let target = "x".to_owned();
    assert_eq!(
        read(ToClient::PresenceUnknown { to: "fajar", target: "x" }),
        FromServer::PresenceUnknown { target }
    );
    let mut out = Vec::new();
    replies::not_delivered(&mut out, "esa");
    assert_eq!(
        FromServer::parse(std::str::from_utf8(&out).unwrap()),
        Ok(FromServer::NotDelivered { id: None })
    );
    assert_eq!(
        FromServer::parse(replies::TOO_SLOW),
        Ok(FromServer::Refused { code: 408, msg: "Too slow".to_owned() })
    );
}

#[test]
fn devices_come_back_with_their_session() {
    let session = Session::new("s\"1");
    let packet = to_server(Framing::Original, &ToServer::ComeBack { username: "esa", session: &session });
    let Ok(manager::FromClient::Auth(auth)) = manager::FromClient::parse(&packet) else { panic!("{packet}") };
    assert_eq!((auth.username.as_deref(), auth.session), (Some("esa"), Some(session)));
    let login = ToServer::Login { username: "esa", password: "12345", resource: Some("my phone") };
    let packet = to_server(Framing::Lines, &login);
    let Ok(manager::FromClient::Auth(auth)) = manager::FromClient::parse(&packet) else { panic!("{packet}") };
    assert_eq!(auth.device.unwrap().as_str(), "my phone");
}

#[test]
fn requests_to_the_archive() {
    let search = |with: Option<&str>, after, before, limit| Search {
        with: with.map(str::to_owned),
        after,
        before,
        limit,
    };
    let searches = [search(None, None, None, 1), search(Some("fajar"), Some(3), Some(u64::MAX), 100)];
    let read = |query| {
        let packet = to_server(Framing::Original, &ToServer::Archive { query, id: "1" });
        let Ok(manager::FromClient::Archive(request)) = manager::FromClient::parse(&packet) else {
            panic!("{packet}");
        };
        request.action
    };
    for search in &searches {
        assert_eq!(read(ArchiveQuery::Search(search)), ArchiveAction::Search(search.clone()));
    }
    assert_eq!(read(ArchiveQuery::Sent("a\n")), ArchiveAction::Sent("a\n".into()));
    assert_eq!(read(ArchiveQuery::Displayed), ArchiveAction::Displayed);
}

#[test]
fn hellos_and_pings() {
    let hello = to_server(Framing::Original, &ToServer::Hello { host: "127.0.0.1", port: 7 });
    assert_eq!(tracker::FromClient::parse(&hello), Ok(tracker::FromClient::Hello { kind: Kind::Client }));
    assert_eq!(manager::FromClient::parse(&hello), Ok(manager::FromClient::Hello));
    let get = to_server(Framing::Original, &ToServer::GetComponents);
    assert_eq!(tracker::FromClient::parse(&get), Ok(tracker::FromClient::GetComponents));
    let get = to_server(Framing::Original, &ToServer::GetRelay);
    assert_eq!(manager::FromClient::parse(&get), Ok(manager::FromClient::GetRelay));
    let ping = to_server(Framing::Original, &ToServer::Ping { id: "é" });
    let Ok(relay::FromClient::Iq(ping)) = relay::FromClient::parse(&ping) else { panic!("{ping}") };
    let pong = through(Framing::Original, |out| ping.answer(out));
    assert_eq!(FromServer::parse(&pong[0]), Ok(FromServer::Pong { id: Some("é".to_owned()) }));
}
