//! `kurir chat` in a pipe: what people type and what they are shown.

use std::process::{ExitStatus, Stdio};

use kurir_e2e::packets::{message, presence_to, roster_set, subscribed, with};
use kurir_e2e::pattern::{ANY, matches};
use kurir_e2e::process::Launch;
use kurir_e2e::system::binary;
use kurir_e2e::{PATIENCE, System, Topology, within};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

kurir_e2e::shows! {
    two_people_chat_in_the_terminal: "U1 U2 U3 U5 U6 U7 U8 U9 U10 U11 U12 U13 U14";
    packets_are_printed_as_json: "U4 U13 U14 U15";
    chat_says_why_it_cannot_start: "U4";
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
        let tracker = system.tracker().to_string();
        let args = ["chat", "--tracker", &tracker, "--user", who].into_iter().chain(options.iter().copied());
        let launch = Launch {
            name: format!("chat-{who}"),
            program: binary(),
            args: args.map(String::from).collect(),
            env: vec![("KURIR_PASSWORD".into(), "12345".into())],
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

    async fn shows_one(&mut self, what: &str, is_it: impl Fn(&str) -> bool) {
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

    /// The end of its input, and its own.
    async fn ends(mut self) -> (ExitStatus, String) {
        drop(self.input.take());
        let output = within(PATIENCE, "the end of kurir chat", self.child.wait_with_output()).await;
        let output = output.expect("its exit status");
        (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
    }
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
    fajar.types("/to esa").await;
    fajar.types("//hai 🛵").await;
    esa.shows("fajar: /hai 🛵").await;
    fajar.types_bytes(b"caf\xe9\r\n").await;
    esa.shows("fajar: caf\u{fffd}").await;
    fajar.types("/to siapa").await;
    fajar.types("ada orang?").await;
    fajar.shows("! a message reached nobody: no such user, or not online").await;
    fajar.types("/remove esa").await;
    fajar.shows("* esa is no contact any more").await;
    fajar.types("/remove siapa").await;
    fajar.shows("! siapa: refused: item-not-found").await;

    // Esa still follows fajar and is told that he is gone.
    fajar.types("/quit").await;
    let (status, said) = fajar.ends().await;
    assert!(status.success(), "{said}");
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
    let (status, said) = esa.ends().await;
    assert!(status.success(), "{said}");
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
