//! The binary from outside: exit codes, what is said on which stream, start and stop.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

const READY: &str = "kurir is ready";

fn kurir(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kurir"));
    // What the developer's own environment configures is not ours.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KURIR__")) {
        command.env_remove(name);
    }
    command.args(args);
    command
}

fn run(args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = kurir(args).envs(env.iter().copied()).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A loopback address that no other test has, so that fixed ports don't meet.
fn own_host(test: u8) -> Ipv4Addr {
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high.max(1), low, test)
}

/// Ends its process when the test does, however that is.
struct Running(Child);

impl Running {
    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn config_check_is_silent_about_a_good_configuration() {
    let (code, out, err) = run(&["config", "check", "--set", "relay.bare_hello=online"], &[]);
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "", ""));
}

#[test]
fn what_is_wrong_with_the_configuration_is_one_line_and_exit_2_whatever_the_command() {
    let file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file.as_file(), "[relay]\nlisen = '127.0.0.1:1'").unwrap();
    let path = file.path().to_str().unwrap();
    let from_file = format!("kurir: unknown key relay.lisen (from {path})\n");
    let env = [("KURIR__MANAGER__MAX_DEPTH", "deep")];
    let from_env = "kurir: manager.max_depth: invalid type: found string \"deep\", expected u8 \
                    (from environment variable KURIR__MANAGER__MAX_DEPTH)\n";
    for command in
        [&["config", "check"][..], &["config", "print"], &["tracker"], &["relay"], &["up"], &["migrate"]]
    {
        let (code, out, err) = run(&[command, &["--config", path]].concat(), &[]);
        assert_eq!((code, out.as_str(), err.as_str()), (Some(2), "", from_file.as_str()), "{command:?}");
        let (code, _, err) = run(command, &env);
        assert_eq!((code, err.as_str()), (Some(2), from_env), "{command:?}");
    }
}

#[test]
fn config_print_says_where_each_value_came_from_and_hides_passwords() {
    let env = [
        ("KURIR__DATABASE__URL", "postgres://kurir:hunter2@db/kurir"),
        ("KURIR_RELAY_SERVICE_HOST", "10.0.0.1"),
    ];
    let (code, out, _) = run(&["config", "print", "--role", "relay", "--set", "relay.id=r-1"], &env);
    assert_eq!(code, Some(0));
    for line in [
        "url = \"postgres://kurir:***@db/kurir\" # from environment variable KURIR__DATABASE__URL",
        "id = \"r-1\" # from --set relay.id",
        "listen = \"127.0.0.1:5092\" # default",
        "url = \"redis://127.0.0.1:6379\" # default",
    ] {
        assert!(out.lines().any(|printed| printed == line), "{line} is not in\n{out}");
    }
    assert!(!out.contains("hunter2"));
}

#[test]
fn a_port_in_use_is_one_line_with_the_address_and_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let listen = format!("tracker.listen={address}");
    let args = ["tracker", "--set", &listen, "--set", "admin.listen=off", "--set", "log.format=human"];
    let (code, out, err) = run(&[&args[..], &["--set", "log.level=warn"]].concat(), &[]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert_eq!(err.lines().count(), 1, "{err}");
    let expected = format!(
        "cannot listen on {address}: the port is in use; choose another with tracker.listen, tracker.grpc_listen or \
         admin.listen"
    );
    assert!(err.contains(&expected), "{err}");
}

#[test]
fn why_a_server_ends_is_said_even_with_the_log_off() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("tracker.listen={}", taken.local_addr().unwrap());
    let args = ["tracker", "--set", &listen, "--set", "admin.listen=off", "--set", "log.level=off"];
    let (code, _, err) = run(&args, &[]);
    assert_eq!((code, err.lines().count()), (Some(1), 1), "{err}");
    assert!(err.starts_with("kurir: tracker.listen: cannot listen on "), "{err}");
}

#[test]
fn a_redis_that_is_away_is_tried_again_and_then_given_up_with_exit_1() {
    // Bound and not listening: nothing answers there, and nobody else can take it meanwhile.
    let nobody = SocketAddr::new(own_host(3).into(), 9);
    let url = format!("redis://:hunter2@{nobody}");
    let set =
        [format!("directory.url={url}"), "start.retry_seconds=1".to_owned(), "admin.listen=off".to_owned()];
    let mut args = vec!["relay"];
    args.extend(set.iter().flat_map(|set| ["--set", set.as_str()]));
    let (code, _, err) = run(&args, &[]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.lines().filter(|line| line.contains("not reachable yet")).count() >= 2, "{err}");
    let last = err.lines().last().unwrap();
    assert!(last.contains("not reached within 1 s") && last.contains(&nobody.to_string()), "{err}");
    assert!(!err.contains("hunter2"), "{err}");
}

#[test]
fn up_says_where_it_listens_is_ready_and_stops_when_told() {
    let data = tempfile::tempdir().unwrap();
    let host = own_host(1).to_string();
    let args = ["up", "--host", &host, "--data", data.path().to_str().unwrap(), "--set", "log.level=warn"];
    let mut up = Running(kurir(&args).stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(up.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let listing: Vec<String> = lines.by_ref().take_while(|line| line != READY).collect();
    for expected in [
        format!("tracker       {host}:5000  (gRPC {host}:5100)"),
        format!("manager-5001  {host}:5001  (gRPC {host}:5101)"),
        format!("relay-5010    {host}:5010  (gRPC {host}:5110)"),
        format!("relay-5011    {host}:5011  (gRPC {host}:5111)"),
        format!("to chat       kurir chat --tracker {host}:5000"),
    ] {
        assert!(listing.contains(&expected), "{expected} is not in {listing:#?}");
    }
    let admin = SocketAddr::new(own_host(1).into(), 5090);
    assert!(get(admin, "/readyz").starts_with("HTTP/1.1 200 OK"));
    assert!(get(admin, "/metrics").contains("component=\"relay-5011\""));

    let (code, _, err) = run(&args, &[]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains(
            "the port is in use; `kurir up` uses ports 5000 to 5189, choose others with --port-base"
        )
    );

    up.signal(Signal::TERM);
    assert_eq!(up.0.wait().unwrap().code(), Some(0));
    assert!(lines.next().is_none());
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let data = tempfile::tempdir().unwrap();
    let host = own_host(2).to_string();
    let data = data.path().to_str().unwrap();
    let args = ["up", "--host", &host, "--data", data, "--set", "shutdown.pause_seconds=3600"];
    let mut up = Running(kurir(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let out = BufReader::new(up.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(out.take_while(|line| line != READY).count() > 0);
    up.signal(Signal::INT);
    let mut err = BufReader::new(up.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    // Two signals that arrive together are one.
    assert!(err.any(|line| line.contains("a second signal stops at once")));
    let admin = SocketAddr::new(own_host(2).into(), 5090);
    assert!(get(admin, "/readyz").starts_with("HTTP/1.1 503 "));
    up.signal(Signal::INT);
    assert_eq!(up.0.wait().unwrap().code(), Some(1));
}

/// Thousands of pairs need more than the 1024 that a shell usually allows.
#[test]
fn bench_raises_its_open_file_limit() {
    let binary = env!("CARGO_BIN_EXE_kurir");
    let script = format!("ulimit -Sn 100; exec {binary} bench forwarder --listen 127.0.0.1:0");
    let mut forwarder =
        Running(Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap());
    let mut out = BufReader::new(forwarder.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(out.any(|line| line.contains("forwarder is ready")));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", forwarder.0.id())).unwrap();
    let open_files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let [soft, hard, ..] = open_files.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("{open_files}")
    };
    assert_eq!(soft, hard);
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
