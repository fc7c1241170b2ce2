//! The user component: the client library against the real system.

use std::time::{Duration, Instant};

use kurir_client::{
    Client, ConnectError, Ended, Event, Events, Options, Presence, PresenceError, Refusal, RequestError,
    RosterItem, Subscription,
};
use kurir_e2e::{PATIENCE, Plan, System, Topology, within};

kurir_e2e::shows! {
    library_does_everything_a_user_does: "U1 U2 U3 U4 U5 U6 U7 U8 U9 U10 U11 U12 U13 U14";
    library_says_what_is_refused: "U3 U4 U8 U10 U11";
    library_takes_any_packet: "U15";
    library_comes_back_from_every_loss: "U1 U2 U4 U5 U6";
}

const PASSWORD: &str = "12345";

fn options(system: &System, name: &str) -> Options {
    Options::new([system.tracker().to_string()], name, PASSWORD)
}

async fn registers(system: &System, name: &str) -> (Client, Events) {
    let connected = within(PATIENCE, name, Client::connect(options(system, name).register())).await;
    connected.unwrap_or_else(|error| panic!("{name} can't register: {error}"))
}

async fn logs_in(system: &System, name: &str) -> (Client, Events) {
    let connected = within(PATIENCE, name, Client::connect(options(system, name))).await;
    connected.unwrap_or_else(|error| panic!("{name} can't log in: {error}"))
}

/// The next event that `wanted` makes something of, whatever comes before.
async fn hears<T>(events: &mut Events, what: &str, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
    hears_within(PATIENCE, events, what, &mut wanted).await
}

async fn hears_within<T>(
    limit: Duration,
    events: &mut Events,
    what: &str,
    wanted: &mut impl FnMut(Event) -> Option<T>,
) -> T {
    let heard = async {
        loop {
            let event = events.next().await.unwrap_or_else(|| panic!("{what}: the events have ended"));
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    };
    within(limit, what, heard).await
}

async fn hears_message(events: &mut Events, from: &str, body: &str) {
    let what = format!("{body:?} from {from}");
    hears(events, &what, |event| match event {
        Event::Message(message) if message.from == from && message.body.as_deref() == Some(body) => Some(()),
        _ => None,
    })
    .await;
}

async fn hears_presence(events: &mut Events, of: &str, matching: impl Fn(&Presence) -> bool) {
    hears(events, &format!("presence of {of}"), |event| match event {
        Event::Presence(presence) if presence.from == of && matching(&presence) => Some(()),
        _ => None,
    })
    .await;
}

fn contact(jid: &str, name: Option<&str>, subscription: Subscription) -> RosterItem {
    RosterItem { jid: jid.into(), name: name.map(Into::into), subscription }
}

#[tokio::test]
async fn library_does_everything_a_user_does() {
    let system = System::start(Topology::Separate).await;
    let (esa, mut esa_hears) = registers(&system, "esa").await;
    let (fajar, mut fajar_hears) = registers(&system, "fajar").await;
    assert_eq!(esa.username(), "esa");
    hears(&mut esa_hears, "the roster at start", |event| match event {
        Event::Roster(items) => {
            assert_eq!(items, []);
            Some(())
        }
        _ => None,
    })
    .await;

    // Add, mutual add, rename, roster.
    assert_eq!(
        fajar.add("esa", Some("ini esa")).await,
        Ok(contact("esa", Some("ini esa"), Subscription::To))
    );
    assert_eq!(esa.roster().await, Ok(vec![contact("fajar", None, Subscription::From)]));
    assert_eq!(esa.add("fajar", None).await, Ok(contact("fajar", None, Subscription::Both)));
    hears(&mut fajar_hears, "esa has added fajar", |event| match event {
        Event::Subscribed(item) => {
            (item == contact("esa", Some("ini esa"), Subscription::Both)).then_some(())
        }
        _ => None,
    })
    .await;
    let author = contact("esa", Some("author"), Subscription::Both);
    assert_eq!(fajar.rename("esa", Some("author")).await, Ok(author.clone()));
    assert_eq!(fajar.roster().await, Ok(vec![author]));

    // Bio, directed presence.
    assert_eq!(esa.bio("lagi makan kebab").await, Ok(()));
    hears_presence(&mut fajar_hears, "esa", |presence| presence.bio == "lagi makan kebab" && presence.online)
        .await;
    let seen = fajar.presence("esa").await.expect("esa's presence");
    assert!(seen.online && seen.directed && seen.bio == "lagi makan kebab", "{seen:?}");
    hears_presence(&mut esa_hears, "fajar", |presence| presence.directed).await;

    // Messages, and one to nobody.
    for number in 0..20 {
        assert_eq!(esa.send_untracked("fajar", &format!("halo {number}")).await, Ok(()));
    }
    for number in 0..20 {
        hears_message(&mut fajar_hears, "esa", &format!("halo {number}")).await;
    }
    assert_eq!(fajar.send_untracked("siapa", "halo").await, Ok(()));
    hears(&mut fajar_hears, "that nobody is there", |event| {
        matches!(event, Event::MessageFailed).then_some(())
    })
    .await;

    // Logout, and a login, at which roster and presence come again.
    esa.logout().await;
    hears(&mut esa_hears, "the end", |event| match event {
        Event::Ended(ended) => {
            assert_eq!(ended, Ended::LoggedOut);
            Some(())
        }
        _ => None,
    })
    .await;
    hears(&mut fajar_hears, "esa is gone", |event| match event {
        Event::Unavailable { from } => {
            assert_eq!(from, "esa");
            Some(())
        }
        _ => None,
    })
    .await;
    let (esa, mut esa_hears) = logs_in(&system, "esa").await;
    hears(&mut esa_hears, "the roster at login", |event| match event {
        Event::Roster(items) => {
            assert_eq!(items, [contact("fajar", None, Subscription::Both)]);
            Some(())
        }
        _ => None,
    })
    .await;
    hears_presence(&mut fajar_hears, "esa", |presence| presence.online).await;

    // Remove.
    assert_eq!(fajar.remove("esa").await, Ok(()));
    hears(&mut fajar_hears, "esa is no contact any more", |event| match event {
        Event::Unsubscribed { from } => {
            assert_eq!(from, "esa");
            Some(())
        }
        _ => None,
    })
    .await;
    assert_eq!(esa.roster().await, Ok(vec![contact("fajar", None, Subscription::To)]));
    esa.logout().await;
    fajar.logout().await;
    system.stops().await;
}

#[tokio::test]
async fn library_says_what_is_refused() {
    let system = System::start(Topology::OneProcess).await;
    let (esa, _esa_hears) = registers(&system, "esa").await;
    let refused = |options: Options, refusal: Refusal| async move {
        let name = options.username.clone();
        match within(PATIENCE, &name, Client::connect(options)).await {
            Err(ConnectError::Refused(found)) => assert_eq!(found, refusal, "{name}"),
            Err(error) => panic!("{name} got {error:?}"),
            Ok(_) => panic!("{name} got in"),
        }
    };
    refused(options(&system, "esa").register(), Refusal::UsernameUsed).await;
    refused(options(&system, "e sa").register(), Refusal::BadCredentials).await;
    refused(options(&system, "siapa"), Refusal::UserNotFound).await;
    refused(Options::new([system.tracker().to_string()], "esa", "54321"), Refusal::BadCredentials).await;
    refused(options(&system, "esa"), Refusal::AlreadyLoggedIn).await;

    let refusal = |kind: &str, condition: &str| RequestError::Refused {
        kind: kind.into(),
        condition: condition.into(),
    };
    assert_eq!(esa.add("siapa", None).await, Err(refusal("cancel", "item-not-found")));
    assert_eq!(esa.add("esa", None).await, Err(refusal("cancel", "not-allowed")));
    assert_eq!(esa.remove("siapa").await, Err(refusal("cancel", "item-not-found")));
    assert_eq!(esa.presence("siapa").await, Err(PresenceError::UserNotFound));
    esa.logout().await;
    system.stops().await;
}

/// What one user can make another's library read: keys it does not know, types it does not expect, any characters.
#[tokio::test]
async fn library_takes_any_packet() {
    let system = System::start(Topology::OneProcess).await;
    let (fajar, mut fajar_hears) = registers(&system, "fajar").await;
    let mut mallory = system.person("mallory").registers().await;
    let strange = [
        r#"{"stanza":"message","to":"fajar"}"#,
        r#"{"stanza":"message","to":"fajar","body":7}"#,
        r#"{"stanza":"message","to":"fajar","body":null,"type":"ack","level":"stored"}"#,
        r#"{"stanza":"message","to":"fajar","body":{"a":[]},"lang":[]}"#,
        r#"{"stanza":"message","to":"fajar","body":"\u0000\u0080\u0081\u0082\ud83d\ude00","":{"":""}}"#,
        r#"{"stanza":"message","to":"fajar","type":"error","msg":"x","code":413,"component":[]}"#,
    ];
    for packet in strange {
        mallory.relay().sends_bytes(packet.as_bytes()).await;
        mallory.relay().sends_bytes(b"\n").await;
    }
    mallory.writes("fajar", "still there?").await;
    hears_message(&mut fajar_hears, "mallory", "still there?").await;
    assert_eq!(fajar.send_untracked("mallory", "yes").await, Ok(()));
    mallory.reads_body("fajar", "yes").await;
    fajar.logout().await;
    system.stops().await;
}

#[tokio::test]
async fn library_comes_back_from_every_loss() {
    const BACK_WITHIN: Duration = Duration::from_secs(20);
    let mut system = Plan::new(Topology::Separate).start().await;
    let (esa, mut esa_hears) = registers(&system, "esa").await;
    let (fajar, mut fajar_hears) = registers(&system, "fajar").await;
    assert!(esa.add("fajar", None).await.is_ok());
    assert!(fajar.add("esa", None).await.is_ok());

    // Each relay and manager in turn: wherever the two are, they lose it.
    for name in ["relay-1", "relay-2", "relay-3", "manager-1", "manager-2", "tracker"] {
        system.kill(name);
        let killed = Instant::now();
        let mut tries = 0;
        loop {
            tries += 1;
            let body = format!("{name} {tries}");
            let sent = esa.send_untracked("fajar", &body).await;
            let arrived = async {
                loop {
                    match fajar_hears.next().await.expect("events") {
                        Event::Message(message) if message.body.as_deref() == Some(&body) => return,
                        Event::Ended(ended) => panic!("fajar's session ended: {ended}"),
                        _ => {}
                    }
                }
            };
            if sent.is_ok() && tokio::time::timeout(Duration::from_millis(500), arrived).await.is_ok() {
                break;
            }
            assert!(
                killed.elapsed() < BACK_WITHIN,
                "nothing arrives {BACK_WITHIN:?} after {name} was killed"
            );
        }
        println!("{name} killed: messages again after {:.1} s", killed.elapsed().as_secs_f64());
        // Requests work again as well, at whichever manager.
        let roster = within(BACK_WITHIN * 2, "a roster", async {
            loop {
                if let Ok(roster) = esa.roster().await {
                    return roster;
                }
            }
        });
        assert_eq!(roster.await.len(), 1);
        system.start_again(name).await;
        system.lists(&["manager-1", "manager-2", "relay-1", "relay-2", "relay-3"]).await;
    }
    while let Some(event) = esa_hears.try_next() {
        assert!(!matches!(event, Event::Ended(_)), "{event:?}");
    }
    esa.logout().await;
    fajar.logout().await;
    system.stops().await;
}
