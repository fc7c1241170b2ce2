//! Clients that mean harm: nobody else notices, and memory stays bounded.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use kurir_e2e::packets::{bad_request, message, not_delivered, ping, refusal};
use kurir_e2e::ports::{Ports, local};
use kurir_e2e::{PATIENCE, Person, Plan, Raw, Speaks, System, Topology, within};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

kurir_e2e::shows! {
    values_that_never_end: "T7 M32 R26";
    gigabyte_of_open_brackets: "T7 M32 R26";
    deep_nesting_is_cut_off: "T7 M32 R26";
    client_that_never_reads_its_replies: "T7 M32 R26";
    receiver_that_does_not_read_is_closed: "R16";
    client_that_never_reads_and_writes_to_nobody: "R15 R26";
    silent_connections: "T1 M2 R5";
    garbage_on_the_grpc_ports: "T7 M32 R26";
}

/// How much one hostile client may make a process grow, allocators' slack included.
const GROWTH_KIB: u64 = 48 * 1024;

/// So long may a round trip of somebody else take beside a hostile client.
const UNNOTICED: Duration = Duration::from_secs(10);

/// A system with two people who must not notice anything.
struct Bystanders {
    system: System,
    esa: Person,
    fajar: Person,
    before_kib: Vec<(String, u64)>,
}

impl Bystanders {
    async fn start() -> Bystanders {
        // A single password's default cost is 19 MiB, which would drown what is measured here.
        let system = Plan::new(Topology::Separate).cheap_passwords().start().await;
        let mut esa = system.person("esa").at_manager(1).at_relay(1).registers().await;
        let mut fajar = system.person("fajar").at_manager(2).at_relay(2).registers().await;
        esa.befriends(&mut fajar).await;
        esa.reaches(&mut fajar, "before").await;
        let before_kib = memory(&system);
        Bystanders { system, esa, fajar, before_kib }
    }

    async fn notice_nothing(&mut self) {
        let Bystanders { esa, fajar, .. } = self;
        within(UNNOTICED, "esa and fajar notice nothing", async {
            esa.reaches(fajar, "all is well").await;
            fajar.reaches(esa, "here too").await;
            esa.hears_nothing_else().await;
            fajar.hears_nothing_else().await;
        })
        .await;
    }

    /// The bystanders are well, and no process has grown by more than a bound.
    async fn end(mut self) {
        self.notice_nothing().await;
        self.is_small();
        self.system.stops().await;
    }

    /// No process has grown by more than a bound.
    fn is_small(&self) {
        for ((name, before), (_, after)) in self.before_kib.iter().zip(memory(&self.system)) {
            println!("{name}: {before} KiB before, {after} KiB after");
            assert!(after <= before + GROWTH_KIB, "{name} has grown from {before} to {after} KiB");
        }
    }

    fn client_ports(&self) -> [SocketAddr; 3] {
        [self.system.tracker(), self.system.manager(1), self.system.relay(1)]
    }
}

fn memory(system: &System) -> Vec<(String, u64)> {
    system.parts().map(|part| (part.name().to_string(), part.memory_kib())).collect()
}

async fn mallory(address: SocketAddr) -> Raw {
    Raw::connect(format!("mallory at {address}"), address, Speaks::Lines).await
}

#[tokio::test]
async fn values_that_never_end() {
    let mut town = Bystanders::start().await;
    // Unfinished and small: they wait, and cost what they have sent.
    let mut waiting = Vec::new();
    for address in town.client_ports() {
        for _ in 0..100 {
            let mut raw = mallory(address).await;
            raw.sends_bytes(format!("{{\"never\": \"{}", "x".repeat(30_000)).as_bytes()).await;
            waiting.push(raw);
        }
    }
    town.notice_nothing().await;
    // Unfinished and too large: told so, and closed.
    for address in town.client_ports() {
        // No first value has ended, so nobody has said which framing it is to be: the original's.
        let mut raw = Raw::connect(format!("mallory at {address}"), address, Speaks::Original).await;
        raw.sends_bytes(format!("{{\"never\": \"{}", "x".repeat(70_000)).as_bytes()).await;
        raw.receives(refusal(413, "Too large")).await;
        raw.is_closed().await;
    }
    for raw in &mut waiting {
        raw.sends_bytes(b"\"}\n").await;
        raw.settles().await;
    }
    town.end().await;
}

#[tokio::test]
async fn gigabyte_of_open_brackets() {
    const GIGABYTE: usize = 1 << 30;
    let mut town = Bystanders::start().await;
    let brackets = vec![b'['; 1 << 20];
    for address in town.client_ports() {
        let (mut reading, mut writing) = mallory(address).await.into_stream().into_split();
        let flood = async {
            let mut sent = 0;
            // 400 at the first one and the rest is skipped, or the connection is closed early; both are right.
            while sent < GIGABYTE && writing.write_all(&brackets).await.is_ok() {
                sent += brackets.len();
            }
            drop(writing);
            sent
        };
        let read = async {
            let mut answers = Vec::new();
            let ended = reading.read_to_end(&mut answers).await;
            (String::from_utf8_lossy(&answers).into_owned(), ended)
        };
        let watch = async {
            for _ in 0..10 {
                town.notice_nothing().await;
            }
        };
        let all = async { tokio::join!(flood, read, watch) };
        let (sent, (answers, ended), ()) = within(Duration::from_mins(2), "a gigabyte", all).await;
        println!("{address} took {} MiB of brackets", sent >> 20);
        assert!(answers.contains("Bad request") || answers.contains("Too large"), "{answers:?}");
        // Who is closed while still sending may be reset after the answer.
        assert!(ended.is_ok() || sent < GIGABYTE, "{ended:?}");
    }
    town.end().await;
}

#[tokio::test]
async fn deep_nesting_is_cut_off() {
    let town = Bystanders::start().await;
    for address in town.client_ports() {
        let mut raw = mallory(address).await;
        raw.sends_bytes(b"{\"a\":").await;
        // It is closed while it still sends: no write need succeed any more.
        let mut stream = raw.into_stream();
        let brackets = vec![b'['; 1 << 20];
        let mut sent = 0;
        let closed = async {
            while stream.write_all(&brackets).await.is_ok() {
                sent += brackets.len();
            }
        };
        within(PATIENCE * 2, "being closed", closed).await;
        println!("{address} read at most {} MiB", sent >> 20);
    }
    town.end().await;
}

#[tokio::test]
async fn client_that_never_reads_its_replies() {
    let mut town = Bystanders::start().await;
    for address in town.client_ports() {
        let raw = mallory(address).await;
        let mut stream = raw.into_stream();
        let pings = format!("{}\n", ping(&"x".repeat(1_000))).repeat(100);
        // Until it is closed, or its writes do not get through any more.
        let mut sent = 0;
        while sent < 512 << 20 {
            match tokio::time::timeout(Duration::from_secs(2), stream.write_all(pings.as_bytes())).await {
                Ok(Ok(())) => sent += pings.len(),
                Ok(Err(_)) | Err(_) => break,
            }
        }
        println!("{address} took {} MiB of pings that nobody reads the answers to", sent >> 20);
        assert!(sent >= 1 << 20, "{address} took only {sent} bytes");
        town.notice_nothing().await;
        drop(stream);
    }
    town.end().await;
}

#[tokio::test]
async fn receiver_that_does_not_read_is_closed() {
    let mut town = Bystanders::start().await;
    let mut gita = town.system.person("gita").at_relay(1).registers().await;
    let mut deaf = town.system.person("tuli").at_relay(2).registers().await;
    let name = deaf.name.clone();
    // Gita writes to the deaf one and to esa in turn; esa gets everything. Gita may be told that there is no room on the way,
    // so it is budi who asks, at the same relay: nothing but the close makes him find nobody.
    let mut budi = town.system.person("budi").at_relay(2).registers().await;
    let users = town.system.gauge("relay-2", "kurir_relay_users").await.expect("a relay that runs");
    let body = "z".repeat(30_000);
    let mut rounds = 0;
    loop {
        rounds += 1;
        assert!(rounds < 200, "after {rounds} × 1.5 MB the deaf one was still connected");
        for _ in 0..50 {
            gita.writes(&name, &body).await;
        }
        gita.writes("esa", &rounds.to_string()).await;
        town.esa.reads("gita", &rounds.to_string()).await;
        budi.writes(&name, "are you there?").await;
        let answer = tokio::time::timeout(Duration::from_millis(1), budi.relay().next_packet()).await;
        if let Ok(packet) = answer {
            assert_eq!(packet, Some(not_delivered("budi")));
            break;
        }
    }
    println!("closed after at most {rounds} × 1.5 MB");
    was_too_slow(deaf.keeps_relay_aside().into_stream()).await;
    town.system.shows("relay-2", "kurir_relay_users", users - 1).await;
    gita.relay().settles().await;
    town.end().await;
}

/// What there is to read at last is PROTOCOL section 5's 408, or the connection is reset.
async fn was_too_slow(mut stream: TcpStream) {
    let mut read = Vec::new();
    let ended = within(PATIENCE, "the end of the deaf one's connection", stream.read_to_end(&mut read)).await;
    if let Err(error) = ended {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
        return;
    }
    let last = read.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).unwrap_or_default();
    let packet = serde_json::from_slice::<Value>(last).unwrap_or_default();
    let end = String::from_utf8_lossy(&last[last.len().saturating_sub(200)..]).into_owned();
    assert_eq!(packet, refusal(408, "Too slow"), "the end is {end}");
}

/// Answers that come later than the message that asked for them count as well.
#[tokio::test]
async fn client_that_never_reads_and_writes_to_nobody() {
    const MESSAGES: usize = 1_000_000;
    let mut town = Bystanders::start().await;
    let mut mallory = town.system.person("mallory").at_relay(1).registers().await;
    let mut stream = mallory.keeps_relay_aside().into_stream();
    let mut sent = 0;
    while sent < MESSAGES {
        // Each to another nobody, so that each is looked up.
        let mut lines = String::new();
        for number in sent..sent + 1_000 {
            lines += &message("mallory", &format!("siapa{number}"), "halo").to_string();
            lines.push('\n');
        }
        // Until it is closed, or its writes do not get through any more.
        match tokio::time::timeout(Duration::from_secs(2), stream.write_all(lines.as_bytes())).await {
            Ok(Ok(())) => sent += 1_000,
            Ok(Err(_)) | Err(_) => break,
        }
    }
    println!("took {sent} messages to nobody from a client that reads no answer");
    assert!(sent >= 10_000, "only {sent} messages were taken");
    town.notice_nothing().await;
    town.is_small();
    drop(stream);
    town.end().await;
}

#[tokio::test]
async fn silent_connections() {
    let mut town = Bystanders::start().await;
    let mut silent = Vec::new();
    for address in town.client_ports() {
        for _ in 0..100 {
            silent.push(mallory(address).await);
        }
    }
    town.notice_nothing().await;
    // They are not closed for being silent, and when they speak they are heard.
    for raw in &mut silent {
        raw.settles().await;
    }
    town.end().await;
}

#[tokio::test]
async fn garbage_on_the_grpc_ports() {
    let mut town = Bystanders::start().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let noise: Vec<u8> = (0_u32..100_000).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let garbage = [
        noise.clone(),
        [preface.as_slice(), &noise].concat(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"{}\n".to_vec(),
    ];
    for address in town.client_ports() {
        for bytes in &garbage {
            let mut stream =
                TcpStream::connect(local(Ports::grpc(address.port()))).await.expect("a gRPC port");
            // It may be closed while we write.
            let _ = stream.write_all(bytes).await;
            let _ = stream.shutdown().await;
        }
        let silent = TcpStream::connect(local(Ports::grpc(address.port()))).await.expect("a gRPC port");
        town.notice_nothing().await;
        drop(silent);
    }
    // Nor does a client's malformed packet on one socket touch another.
    let mut raw = mallory(town.system.relay(1)).await;
    raw.sends_bytes(b"nonsense\n").await;
    raw.receives(bad_request()).await;
    raw.sends(message("esa", "fajar", "not said hello")).await;
    raw.settles().await;
    raw.sends(json!({"username": "fajar", "message": "hello!", "token": "x"})).await;
    raw.receives(refusal(401, "Unauthorized")).await;
    town.end().await;
}
