//! `kurir chat` in a pipe: what people type and what they are shown.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use kurir_e2e::packets::{message, presence_to, roster_set, subscribed, with};
use kurir_e2e::pattern::{ANY, TEXT, matches};
use kurir_e2e::process::{Launch, most_memory_kib};
use kurir_e2e::system::binary;
use kurir_e2e::{PATIENCE, Plan, System, Topology, within};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

kurir_e2e::shows! {
    two_people_chat_in_the_terminal: "U1 U2 U3 U5 U6 U7 U8 U9 U10 U11 U12 U13 U14";
    packets_are_printed_as_json: "U4 U13 U14 U15";
    chat_says_why_it_cannot_start: "U4";
    what_was_typed_outlives_a_killed_terminal: "";
    what_came_while_the_terminal_was_away_is_shown_at_its_start: "";
    what_is_typed_while_relays_die_is_shown_once_and_in_order: "";
    a_pipe_waits_while_the_queue_is_full: "";
    what_is_typed_does_not_wait_for_a_manager_that_is_silent: "";
    a_full_disk_is_said_in_a_line_and_loses_nothing: "";
}

/// Somebody at `kurir chat`.
struct Terminal {
    who: String,
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Terminal {
    fn start(system: &System, who: &str, options: &[&str]) -> Terminal {
        Terminal::run(system, binary(), &[], who, options)
    }

    /// It can write no file: a full disk that takes no root.
    fn start_on_a_full_disk(system: &System, who: &str, options: &[&str]) -> Terminal {
        let limited = "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\"";
        let program = binary().display().to_string();
        Terminal::run(system, "/bin/sh".into(), &["-c", limited, &program], who, options)
    }

    fn run(system: &System, program: PathBuf, before: &[&str], who: &str, options: &[&str]) -> Terminal {
        let tracker = system.tracker().to_string();
        let args = ["chat", "--tracker", &tracker, "--user", who];
        let args = before.iter().copied().chain(args).chain(options.iter().copied());
        let launch = Launch {
            name: format!("chat-{who}"),
            program,
            args: args.map(String::from).collect(),
            env: vec![
                ("KURIR_PASSWORD".into(), "12345".into()),
                ("XDG_STATE_HOME".into(), system.dir().join("state").display().to_string()),
            ],
            user: None,
            logs: system.dir().to_path_buf(),
        };
        let mut command = tokio::process::Command::from(launch.command());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("kurir chat");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Terminal { who: who.into(), child, input, output }
    }

    async fn types(&mut self, line: &str) {
        self.types_bytes(format!("{line}\n").as_bytes()).await;
    }

    async fn types_bytes(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().expect("an open input");
        input.write_all(bytes).await.expect("a reader of the input");
    }

    /// Among the lines shown from now on there is this one.
    async fn shows(&mut self, line: &str) {
        self.shows_one(line, |shown| shown == line).await;
    }

    /// Among the packets printed from now on there is this one.
    async fn prints(&mut self, pattern: &Value) {
        let is_it = |shown: &str| {
            let packet: Value = serde_json::from_str(shown).unwrap_or_else(|_| panic!("not JSON: {shown}"));
            matches(pattern, &packet)
        };
        self.shows_one(&pattern.to_string(), is_it).await;
    }

    async fn shows_one(&mut self, what: &str, mut is_it: impl FnMut(&str) -> bool) {
        let mut seen = Vec::new();
        let found = async {
            while let Some(shown) = self.output.next_line().await.expect("lines in UTF-8") {
                if is_it(&shown) {
                    return true;
                }
                seen.push(shown);
            }
            false
        };
        let found = tokio::time::timeout(PATIENCE, found).await;
        assert!(found.unwrap_or(false), "{} was to show {what:?}, but showed {seen:#?}", self.who);
    }

    async fn shows_that_the_relay_is_lost(&mut self) {
        self.shows_one("that the relay is lost", |shown| shown.starts_with("* relay lost: ")).await;
    }

    /// The messages shown from now on are these, of whatever time, and no other.
    async fn shows_messages(&mut self, from: &str, bodies: impl IntoIterator<Item = String>) {
        for body in bodies {
            let mut message = String::new();
            self.shows_one(&format!("a message from {from}"), |shown| {
                let found = shown.split_once(&format!("{from}: ")).map(|(_, body)| body);
                found.is_some_and(|found| {
                    found.clone_into(&mut message);
                    true
                })
            })
            .await;
            assert_eq!(message, body, "{}", self.who);
        }
    }

    /// The most that it has had resident.
    fn memory_kib(&self) -> u64 {
        most_memory_kib(self.child.id().expect("it runs"))
    }

    /// SIGKILL: nothing more is written or said.
    async fn gets_killed(mut self) {
        self.child.kill().await.expect("SIGKILL");
    }

    /// The end of its input, and its own.
    async fn ends(mut self) -> (ExitStatus, String) {
        drop(self.input.take());
        let output = within(PATIENCE, "the end of kurir chat", self.child.wait_with_output()).await;
        let output = output.expect("its exit status");
        (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Both are new and online; what esa types next goes to fajar.
async fn esa_writes_to_fajar(system: &System) -> (Terminal, Terminal) {
    let start = async |who: &str| {
        let mut terminal = Terminal::start(system, who, &["--register"]);
        terminal.shows(&format!("* you are online as {who}")).await;
        terminal
    };
    let fajar = start("fajar").await;
    let mut esa = start("esa").await;
    esa.types("/to fajar").await;
    (fajar, esa)
}

#[tokio::test]
async fn two_people_chat_in_the_terminal() {
    let system = System::start(Topology::OneProcess).await;
    let mut esa = Terminal::start(&system, "esa", &["--register"]);
    esa.shows("* you are online as esa").await;
    let mut fajar = Terminal::start(&system, "fajar", &["--register"]);
    fajar.shows("* you are online as fajar").await;

    fajar.types("/add esa ini esa").await;
    fajar.shows("* esa, called ini esa (to)").await;
    esa.types("/add fajar").await;
    esa.shows("* fajar (both)").await;
    fajar.shows("* esa, called ini esa (both)").await;
    fajar.types("/name esa author").await;
    fajar.shows("* esa, called author (both)").await;
    esa.types("/bio lagi makan kebab").await;
    fajar.shows("* esa now says: lagi makan kebab").await;
    fajar.types("/roster").await;
    fajar.shows("* esa, called author (both), online").await;
    fajar.types("/who esa").await;
    fajar.shows("* esa is online: lagi makan kebab").await;

    esa.types("/to fajar").await;
    esa.types("halo fajar").await;
    fajar.shows("esa: halo fajar").await;
    for step in ["sent", "stored", "delivered", "read"] {
        esa.shows(&format!("[1] {step}")).await;
    }
    esa.types("/explain 1").await;
    for step in ["accepted", "stored", "acked"] {
        esa.shows_one(step, |shown| shown.starts_with("* [1] ") && shown.contains(&format!(" {step} at ")))
            .await;
    }
    esa.types("/explain 2").await;
    esa.shows("! [2] is no message of this start").await;
    let mut phone = Terminal::start(&system, "esa", &["--device", "phone"]);
    phone.shows("* you are online as esa").await;
    esa.types("/devices").await;
    esa.shows("* default, online").await;
    esa.shows("* phone, online").await;
    esa.types("/forget phone").await;
    esa.shows("* phone is logged out").await;
    let (status, said) = phone.ends().await;
    assert!(!status.success() && said.contains("the session is over"), "{said}");
    let mut tab = Terminal::start(&system, "esa", &["--device", "tab"]);
    tab.shows("* you are online as esa").await;
    tab.types("/forget tab").await;
    tab.shows("* tab is logged out").await;
    let output = within(PATIENCE, "its end", tab.child.wait()).await.expect("its exit status");
    assert!(output.success(), "{output}");
    fajar.types("/to esa").await;
    fajar.types("//hai 🛵").await;
    esa.shows("fajar: /hai 🛵").await;
    fajar.types_bytes(b"caf\xe9\r\n").await;
    esa.shows("fajar: caf\u{fffd}").await;
    fajar.types("/to siapa").await;
    fajar.types("ada orang?").await;
    fajar.shows("[3] sent").await;
    fajar.shows("! [3] not sent: there is no such user").await;
    fajar.types("/remove esa").await;
    fajar.shows("* esa is no contact any more").await;
    fajar.types("/remove siapa").await;
    fajar.shows("! siapa: refused: item-not-found").await;

    // Esa still follows fajar and is told that he is gone.
    fajar.types("/quit").await;
    let (status, said) = fajar.ends().await;
    assert!(status.code() == Some(1) && said.contains("not sent: 1 message"), "{said}");
    esa.shows("* fajar is offline").await;
    let (status, said) = esa.ends().await;
    assert!(status.success(), "{said}");
    system.stops().await;
}

#[tokio::test]
async fn packets_are_printed_as_json() {
    let system = System::start(Topology::OneProcess).await;
    system.person("esa").registers().await.logs_out().await;
    let mut esa = Terminal::start(&system, "esa", &["--json"]);
    let is_there = serde_json::json!({"error": false, "msg": "Login successfull", "code": 200, "component": ANY, "session": ANY});
    esa.prints(&is_there).await;
    esa.types("/roster").await;
    let items = serde_json::json!({"items": []});
    esa.prints(&with(with(roster_set("esa"), "query", items), "id", ANY)).await;
    let mut budi = system.person("budi").registers().await;
    esa.types("/add budi").await;
    let item = serde_json::json!({"jid": "budi", "name": null, "subscription": "to"});
    esa.prints(&subscribed("budi", "esa", &item)).await;
    esa.prints(&presence_to("budi", ANY, 1, "esa")).await;
    budi.writes("esa", "halo\u{2028}esa").await;
    esa.prints(&message("budi", "esa", "halo\u{2028}esa")).await;
    esa.types("/to budi").await;
    esa.types("halo juga").await;
    budi.reads_body("esa", "halo juga").await;
    let event = |event: &str| serde_json::json!({"event": event, "number": 1, "id": TEXT});
    esa.prints(&with(with(event("queued"), "to", "budi"), "body", "halo juga")).await;
    esa.prints(&event("sent")).await;
    esa.prints(&with(event("stored"), "stanza_id", TEXT)).await;
    // What cannot be sent is not lost in silence.
    let large = "x".repeat(65_500);
    esa.types(&large).await;
    let reason = "the message is larger than 65536 bytes; send it in several lines";
    let refused = serde_json::json!({"event": "refused", "to": "budi", "body": large, "reason": reason});
    esa.prints(&refused).await;
    // Of a line longer than any message nothing is kept, and the next one is sent.
    let mebibyte = vec![b'x'; 1024 * 1024];
    for _ in 0..100 {
        esa.types_bytes(&mebibyte).await;
    }
    esa.prints(&with(refused, "body", Value::Null)).await;
    esa.types("").await;
    assert!(esa.memory_kib() < 64 * 1024, "{} KiB", esa.memory_kib());
    esa.types("sudah").await;
    budi.reads_body("esa", "sudah").await;
    let (status, said) = esa.ends().await;
    assert!(status.code() == Some(1) && said.contains("not sent: 2 messages"), "{said}");
    system.stops().await;
}

#[tokio::test]
async fn chat_says_why_it_cannot_start() {
    let system = System::start(Topology::OneProcess).await;
    let (status, said) = Terminal::start(&system, "siapa", &[]).ends().await;
    assert!(!status.success() && said.contains("--register"), "{said}");
    system.person("esa").registers().await.logs_out().await;
    let (status, said) = Terminal::start(&system, "esa", &["--register"]).ends().await;
    assert!(!status.success() && said.contains("taken"), "{said}");
    system.stops().await;
}

/// PROTOCOL Part II, `id`: the queue is in a file, and the same message with the same id is stored once.
#[tokio::test]
async fn what_was_typed_outlives_a_killed_terminal() {
    let mut system = Plan::new(Topology::Separate).managers(1).relays(2).cheap_passwords().start().await;
    let (mut fajar, mut esa) = esa_writes_to_fajar(&system).await;
    esa.types("satu").await;
    esa.shows("[1] read").await;
    for relay in ["relay-1", "relay-2"] {
        system.kill(relay);
    }
    esa.shows_that_the_relay_is_lost().await;
    for (number, body) in [(2, "dua"), (3, "tiga")] {
        esa.types(body).await;
        esa.shows(&format!("[{number}] waits for a connection")).await;
    }
    esa.gets_killed().await;
    for relay in ["relay-1", "relay-2"] {
        system.start_again(relay).await;
    }

    let mut esa = Terminal::start(&system, "esa", &[]);
    for (number, body) in [(1, "dua"), (2, "tiga")] {
        let left = format!("* [{number}] to fajar, of ");
        esa.shows_one(&left, |shown| shown.starts_with(&left) && shown.ends_with(body)).await;
    }
    esa.shows("[2] stored").await;
    esa.types("/to fajar").await;
    esa.types("empat").await;
    esa.shows("[3] stored").await;
    fajar.shows_messages("esa", ["satu", "dua", "tiga", "empat"].map(String::from)).await;
    let (status, said) = esa.ends().await;
    assert!(status.success(), "{said}");
    // Nothing is left for another start.
    let mut esa = Terminal::start(&system, "esa", &[]);
    esa.shows_one("that it is online", |shown| {
        assert!(!shown.contains("not stored yet"), "{shown}");
        shown == "* you are online as esa"
    })
    .await;
    system.stops().await;
}

/// PROTOCOL Part II, `resume`, `receipt`, `marker`.
#[tokio::test]
async fn what_came_while_the_terminal_was_away_is_shown_at_its_start() {
    let system = Plan::new(Topology::OneProcess).cheap_passwords().start().await;
    let fajar = Terminal::start(&system, "fajar", &["--register"]);
    let (status, said) = fajar.ends().await;
    assert!(status.success(), "{said}");
    let mut esa = Terminal::start(&system, "esa", &["--register"]);
    esa.types("/to fajar").await;
    for (number, body) in [(1, "halo"), (2, "sudah makan?")] {
        esa.types(body).await;
        esa.shows(&format!("[{number}] stored")).await;
    }

    // With the time at which they were stored; and esa is told.
    let mut fajar = Terminal::start(&system, "fajar", &[]);
    for body in [") esa: halo", ") esa: sudah makan?"] {
        fajar.shows_one(body, |shown| shown.starts_with('(') && shown.ends_with(body)).await;
    }
    esa.shows("[2] delivered").await;
    esa.shows("[1, 2] read").await;
    fajar.types("/to esa").await;
    fajar.types("belum :)").await;
    fajar.shows("[1] read").await;
    esa.shows_messages("fajar", ["belum :)".into()]).await;
    let (status, said) = fajar.ends().await;
    assert!(status.success(), "{said}");

    // What was shown is not shown again, but to whoever begins anew.
    let mut fajar = Terminal::start(&system, "fajar", &[]);
    esa.types("lagi?").await;
    fajar.shows_messages("esa", ["lagi?".into()]).await;
    let (status, said) = fajar.ends().await;
    assert!(status.success(), "{said}");
    let anew = system.dir().join("anew.jsonl").display().to_string();
    let mut fajar = Terminal::start(&system, "fajar", &["--state", &anew]);
    for line in [") esa: halo", ") esa: sudah makan?", ") you to esa: belum :)", ") esa: lagi?"] {
        fajar.shows_one(line, |shown| shown.ends_with(line)).await;
    }
    // The same state at the same time is refused.
    let (status, said) = Terminal::start(&system, "fajar", &["--state", &anew]).ends().await;
    assert!(!status.success() && said.contains("in use"), "{said}");
    system.stops().await;
}

#[tokio::test]
async fn what_is_typed_while_relays_die_is_shown_once_and_in_order() {
    let mut system = Plan::new(Topology::Separate).managers(2).relays(2).cheap_passwords().start().await;
    let mut fajar = Terminal::start(&system, "fajar", &["--register"]);
    fajar.shows("* you are online as fajar").await;
    let mut esa = Terminal::start(&system, "esa", &["--register"]);
    esa.types("/to fajar").await;
    let mut number = 0;
    for part in ["relay-1", "manager-1", "relay-2", "manager-2"] {
        for round in 0..10 {
            if round == 5 {
                system.kill(part);
            }
            number += 1;
            esa.types(&number.to_string()).await;
        }
        esa.shows(&format!("[{number}] stored")).await;
        system.start_again(part).await;
        system.lists(&["manager-1", "manager-2", "relay-1", "relay-2"]).await;
    }
    fajar.shows_messages("esa", (1..=number).map(|number| number.to_string())).await;
    esa.shows_one("that the last is read", |shown| shown.ends_with(&format!("{number}] read"))).await;
    let (status, said) = esa.ends().await;
    assert!(status.success(), "{said}");
    system.stops().await;
}

/// PROTOCOL Part II, `id`: a full queue (16 MiB) holds the writer up, and loses nothing.
#[tokio::test]
async fn a_pipe_waits_while_the_queue_is_full() {
    const LINES: usize = 300;
    let mut system = Plan::new(Topology::Separate).managers(1).relays(1).cheap_passwords().start().await;
    let (mut fajar, mut esa) = esa_writes_to_fajar(&system).await;
    system.kill("relay-1");
    esa.shows_that_the_relay_is_lost().await;
    let body = |number: usize| format!("{number} {}", "x".repeat(60_000));
    let mut input = esa.input.take().expect("an open input");
    let writing = tokio::spawn(async move {
        for number in 1..=LINES {
            input.write_all(format!("{}\n", body(number)).as_bytes()).await.expect("a reader of the input");
        }
        input
    });
    esa.shows("* too many messages wait to be sent: what comes next waits for room").await;
    assert!(!writing.is_finished(), "nothing is read that would have to be thrown away");
    system.start_again("relay-1").await;
    // Both are read, so that neither is held up.
    let stored = async {
        for number in (50..=LINES).step_by(50) {
            esa.shows(&format!("[{number}] stored")).await;
        }
        esa
    };
    let (mut esa, ()) = tokio::join!(stored, fajar.shows_messages("esa", (1..=LINES).map(body)));
    esa.input = Some(writing.await.expect("every line written"));
    let (status, said) = esa.ends().await;
    assert!(status.success(), "{said}");

    // Without a file what is not stored is lost, and that is a failure.
    let mut esa = Terminal::start(&system, "esa", &["--no-state"]);
    esa.shows("* you are online as esa").await;
    system.kill("relay-1");
    esa.shows_that_the_relay_is_lost().await;
    esa.types("/to fajar").await;
    esa.types("halo").await;
    esa.shows("[1] waits for a connection").await;
    let (status, said) = esa.ends().await;
    assert!(status.code() == Some(1) && said.contains("not sent: 1 message"), "{said}");
    system.stops().await;
}

/// What the manager is asked is answered in order, once it goes on.
#[tokio::test]
async fn what_is_typed_does_not_wait_for_a_manager_that_is_silent() {
    let mut system = Plan::new(Topology::Separate).managers(1).relays(1).cheap_passwords().start().await;
    system.person("fajar").registers().await.logs_out().await;
    let mut esa = Terminal::start(&system, "esa", &["--register"]);
    esa.shows("* you are online as esa").await;
    system.pause("manager-1");
    for line in ["/roster", "/who siapa", "/to fajar", "halo"] {
        esa.types(line).await;
    }
    esa.shows_one("that the message is sent", |shown| {
        assert!(["* you write to fajar", "[1] sent"].contains(&shown), "{shown}");
        shown == "[1] sent"
    })
    .await;
    system.resume("manager-1");
    // The end of the input waits for the answers, too.
    drop(esa.input.take());
    for line in ["* no contacts yet; /add NAME adds one", "! nobody is called siapa"] {
        esa.shows(line).await;
    }
    let (status, said) = esa.ends().await;
    assert!(status.success(), "{said}");
    system.stops().await;
}

/// Nor does it keep anybody from starting: what was left is sent from the file as it is.
#[tokio::test]
async fn a_full_disk_is_said_in_a_line_and_loses_nothing() {
    let mut system = Plan::new(Topology::Separate).managers(1).relays(1).cheap_passwords().start().await;
    let (mut fajar, mut esa) = esa_writes_to_fajar(&system).await;
    system.kill("relay-1");
    esa.shows_that_the_relay_is_lost().await;
    esa.types("satu").await;
    esa.shows("[1] waits for a connection").await;
    esa.gets_killed().await;
    system.start_again("relay-1").await;

    let mut esa = Terminal::start_on_a_full_disk(&system, "esa", &[]);
    let left = "* [1] to fajar, of ";
    esa.shows_one(left, |shown| shown.starts_with(left) && shown.ends_with("satu")).await;
    let complaint = "! what is to be kept cannot be written to ";
    esa.shows_one(complaint, |shown| shown.starts_with(complaint)).await;
    esa.shows("[1] stored").await;
    esa.types("/to fajar").await;
    esa.types("dua").await;
    let refusal = "! not sent: the message could not be written to the state file: file too large";
    esa.shows_one(refusal, |shown| {
        assert!(!shown.starts_with(complaint), "once is enough");
        shown == refusal
    })
    .await;
    let (status, said) = esa.ends().await;
    assert_eq!((status.code(), said.as_str()), (Some(1), "kurir: not sent: 1 message\n"));

    // With room again: known to be stored, and what was refused is not sent.
    let mut esa = Terminal::start(&system, "esa", &[]);
    esa.shows_one(left, |shown| shown.starts_with(left) && shown.ends_with("satu")).await;
    esa.shows("[1] stored").await;
    esa.types("/to fajar").await;
    esa.types("tiga").await;
    esa.shows("[2] stored").await;
    fajar.shows_messages("esa", ["satu", "tiga"].map(String::from)).await;
    let (status, said) = esa.ends().await;
    assert!(status.success(), "{said}");
    system.stops().await;
}
