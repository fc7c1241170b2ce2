use std::sync::Arc;

use clap::Parser;
use kurir_rpc::v1::Component;
use kurir_trail::{Device, Event, Kept};

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn args(line: &[&str]) -> Result<Args, String> {
    let line = std::iter::once("explain").chain(line.iter().copied());
    Cli::try_parse_from(line).map(|cli| cli.args).map_err(|error| error.to_string())
}

const ID: &str = "0192f0c1-7b5a-7d3e-8f00-000000000001";

#[test]
fn a_message_is_asked_for_by_its_stanza_id_or_as_its_sender_sent_it() {
    assert_eq!(args(&[ID]).unwrap().asked().stanza_id, Some(ID.parse().unwrap()));
    let sent = args(&["--from", "Esa", "--id", "1"]).unwrap().asked().sent_as.unwrap();
    assert_eq!(sent, SentAs { user: "esa".into(), device: None, id: "1".into() });
    for wrong in [
        &[][..],
        &["7"],
        &["--from", "esa"],
        &["--id", "1"],
        &["--from", "a b", "--id", "1"],
        &[ID, "--from", "esa", "--id", "1"],
    ] {
        assert!(args(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_line_says_when_where_what_whose_and_why() {
    let (esa, fajar) =
        (Arc::new(Device::new("esa", "default", 1, 1)), Arc::new(Device::new("fajar", "tv", 2, 1)));
    let stanza_id: Option<Uuid> = ID.parse().ok();
    let event =
        |at_us, step, device: &Arc<Device>| Event { stanza_id, seq: 7, ..Event::new(at_us, step, device) };
    let peer = || Some("manager-1".into());
    let events = [
        Kept::encode(
            "relay-1",
            Event { message_id: Some("a\n".into()), ..event(1_000, Step::Accepted, &esa) },
        ),
        Kept::encode("manager-1", Event { count: 2, took_us: 1234, ..event(3_500, Step::Committed, &esa) }),
        Kept::encode(
            "manager-1",
            Event { count: 1, ..event(3_600, Step::Announced, &Arc::new(Device::elsewhere("fajar", ""))) },
        ),
        Kept::encode(
            "relay-1",
            Event { count: 2, took_us: 2_100_000, peer: peer(), ..event(4_000, Step::Stored, &esa) },
        ),
        Kept::encode(
            "relay-2",
            Event { reason: Reason::OwnMessage, peer: peer(), ..event(5_004_000, Step::Skipped, &fajar) },
        ),
    ];
    let shown = table(&events);
    let lines: Vec<_> =
        shown.lines().skip(1).map(|line| line.split_once(' ').unwrap().1.trim_start()).collect();
    assert_eq!(
        lines,
        [
            "AFTER    COMPONENT  STEP       WHOSE        REASON       DETAILS",
            "relay-1    accepted   esa/default               id a\\n",
            "+2.5 ms  manager-1  committed  esa/default               esa's log at 7; 2 messages at once, 1.2 ms",
            "+0.1 ms  manager-1  announced  fajar                     fajar's log at 7; 1 relay told",
            "+0.4 ms  relay-1    stored     esa/default               at manager-1, attempt 2, 2.1 s",
            "+5.0 s   relay-2    skipped    fajar/tv     own-message  log at 7, read at manager-1",
        ]
    );
    assert!(shown.lines().next().unwrap().ends_with(&format!("message {ID}")), "{shown}");
}

#[test]
fn a_receiver_of_whom_no_device_was_there_is_named() {
    let event = |step, user: &str| {
        Kept::encode("relay-1", Event::new(1, step, &Arc::new(Device::elsewhere(user, ""))))
    };
    let told = |events: &[(Step, &str)]| Answers {
        events: events.iter().map(|(step, user)| event(*step, user)).collect(),
        since_us: Some(1),
        ..Answers::default()
    };
    let accepted = [(Step::Accepted, "esa"), (Step::Committed, "esa")];
    let stored = [&accepted[..], &[(Step::Announced, "fajar"), (Step::Skipped, "esa")]].concat();
    assert_eq!(waiting(&told(&stored)), Some("fajar"));
    assert_eq!(waiting(&told(&accepted)), None, "in no log that is known of");
    for step in [Step::Connected, Step::Heard, Step::Written] {
        assert_eq!(waiting(&told(&[&stored[..], &[(step, "fajar")]].concat())), None, "{step:?}");
    }
    let to_oneself = [(Step::Announced, "esa"), (Step::Confirmed, "esa")];
    assert_eq!(waiting(&told(&to_oneself)), Some("esa"));
    let silent = Silent { component: "relay-2".into(), error: "no answer in time".into() };
    assert_eq!(waiting(&Answers { silent: vec![silent], ..told(&stored) }), None);
    assert_eq!(waiting(&Answers { off: vec!["relay-2".into()], ..told(&stored) }), None);
    assert_eq!(waiting(&Answers { since_us: Some(2), ..told(&stored) }), None, "forgotten at one of them");
}

#[test]
fn why_nobody_knows_is_said() {
    let by_id = args(&[ID]).unwrap();
    let made_us = kurir_trail::resolve::millis(by_id.stanza_id.unwrap().get_timestamp().unwrap()) * 1000;
    let remember = |since_us| Answers { since_us: Some(since_us), ..Answers::default() };
    let off = Answers { off: vec!["relay-1".into()], ..Answers::default() };
    let silent = vec![Silent { component: "manager-1".into(), error: "no answer in time".into() }];
    let silent = Answers { silent, ..remember(made_us + 1_000_000) };
    for (args, answers, why) in [
        (&by_id, remember(made_us + 1_000_000), "is forgotten"),
        (&by_id, remember(made_us - 1_000_000), "is it the stanza_id"),
        (&by_id, off, "explain is off"),
        (&by_id, silent, "of those who answered"),
        (&by_id, Answers::default(), "no relay and no manager has answered"),
        (&args(&["00000000-0000-4000-8000-000000000000"]).unwrap(), remember(1), "none of Kurir's"),
        (&args(&["--from", "esa", "--id", "1"]).unwrap(), remember(1), "a message 1 of esa"),
    ] {
        let said = nobody_knows(args, &answers);
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn who_runs_is_asked_and_who_is_gone_lately_is_named() {
    let row = |id: &str, active, since_ms| Row {
        component: Some(Component {
            id: id.into(),
            grpc_url: format!("http://{id}"),
            ..Component::default()
        }),
        active,
        since_ms,
        ..Row::default()
    };
    let rows = [
        row("relay-1", true, 1),
        row("relay-1", false, 5_000),
        row("relay-2", false, 5_000),
        row("relay-3", false, 90_000_000),
    ];
    let (asker, gone) = whom_to_ask(&rows);
    assert_eq!(asker.components, [("relay-1".to_owned(), "http://relay-1".to_owned())]);
    let gone: Vec<_> = gone.iter().map(|silent| (&*silent.component, &*silent.error)).collect();
    assert_eq!(gone, [("relay-2", "it is gone, for 5 s")]);
}
