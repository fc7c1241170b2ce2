//! What an operator meets: configuration that is refused, ports in use, stores that are away, stopping.

use std::net::TcpListener;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use kurir_e2e::ports::{Ports, local};
use kurir_e2e::process::Launch;
use kurir_e2e::system::{STOPS_WITHIN, UP, binary};
use kurir_e2e::{PATIENCE, Plan, System, Topology, within};
use rustix::process::Signal;
use serde_json::{Value, json};

kurir_e2e::shows! {
    configuration_errors_name_key_and_source: "";
    port_in_use_is_one_clear_line: "";
    stores_away_at_start_are_waited_for_and_then_given_up: "";
    redis_away_while_components_join_is_waited_for: "";
    sigterm_stops_in_bounded_time_with_clients_connected: "";
    ready_line_and_admin_port: "";
    up_runs_on_redis_and_postgres_too: "T1 M2 R5";
    original_data_survives_a_restart: "M10";
}

fn kurir(system: &System, args: &[&str], env: &[(&str, &str)]) -> Launch {
    Launch {
        name: "command".into(),
        program: binary(),
        args: args.iter().map(ToString::to_string).collect(),
        env: env.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        user: None,
        logs: system.dir().to_path_buf(),
    }
}

async fn outcome(launch: &Launch, limit: Duration) -> Output {
    let mut command = tokio::process::Command::from(launch.command());
    command.stdin(Stdio::null()).kill_on_drop(true);
    within(limit, &format!("the end of kurir {:?}", launch.args), command.output()).await.expect("its output")
}

/// It ends with `code` and says why in one line, which has all of `parts` in it.
async fn is_refused(launch: &Launch, code: i32, limit: Duration, parts: &[&str]) {
    let output = outcome(launch, limit).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "kurir {:?}: {said}", launch.args);
    let is_reason = |line: &&str| line.contains("\"level\":\"ERROR\"") || line.starts_with("kurir: ");
    let reasons: Vec<&str> = said.lines().filter(is_reason).collect();
    let clear = reasons.len() == 1 && parts.iter().all(|part| reasons[0].contains(part));
    assert!(clear, "kurir {:?} was to say {parts:?} once, but said:\n{said}", launch.args);
    assert!(!said.contains("panicked at"), "{said}");
}

#[tokio::test]
async fn configuration_errors_name_key_and_source() {
    let system = Plan::new(Topology::OneProcess).start_nothing_but_stores().await;
    let file = system.dir().join("wrong.toml");
    let path = file.display().to_string();
    let write = |text: &str| std::fs::write(&file, text).expect("a configuration file");
    for role in ["tracker", "manager", "relay"] {
        write(&format!("[{role}]\nlisten = \"127.0.0.1:0\"\nlissen = \"x\"\n"));
        is_refused(&kurir(&system, &[role, "--config", &path], &[]), 2, PATIENCE, &["lissen", "wrong.toml"])
            .await;
        write(&format!("[{role}]\nmax_value_bytes = \"many\"\n"));
        let launch = kurir(&system, &[role, "--config", &path], &[]);
        is_refused(&launch, 2, PATIENCE, &["max_value_bytes", "wrong.toml"]).await;
        let variable = format!("KURIR__{}__LISSEN", role.to_uppercase());
        let launch = kurir(&system, &[role], &[(&variable, "x")]);
        is_refused(&launch, 2, PATIENCE, &["lissen", &variable]).await;
    }
    let launch = kurir(&system, &["relay"], &[("KURIR__RELAY__BARE_HELLO", "everybody")]);
    is_refused(&launch, 2, PATIENCE, &["bare_hello", "KURIR__RELAY__BARE_HELLO"]).await;
    write("[relay\n");
    is_refused(&kurir(&system, &["relay", "--config", &path], &[]), 2, PATIENCE, &["wrong.toml"]).await;
    let launch = kurir(&system, &["manager", "--config", "/nowhere/kurir.toml"], &[]);
    is_refused(&launch, 2, PATIENCE, &["/nowhere/kurir.toml"]).await;
    write("[relay]\nlissen = 1\n");
    is_refused(&kurir(&system, &["config", "check", "--config", &path], &[]), 2, PATIENCE, &["lissen"]).await;

    // What Kubernetes sets for a service called kurir-relay does no harm, and what is in force is printed with its source.
    let env = [("KURIR_RELAY_SERVICE_HOST", "10.0.0.1"), ("KURIR__RELAY__LISTEN", "127.0.0.1:5999")];
    let output = outcome(&kurir(&system, &["config", "print"], &env), PATIENCE).await;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}");
    let line = printed.lines().find(|line| line.contains("127.0.0.1:5999")).expect("the value in force");
    assert!(line.contains("KURIR__RELAY__LISTEN"), "{line}");
}

#[tokio::test]
async fn port_in_use_is_one_clear_line() {
    let system = Plan::new(Topology::OneProcess).start_nothing_but_stores().await;
    let base = system.ports().base().to_string();
    let data = system.dir().join("data").display().to_string();
    for port in [system.tracker(), system.manager(1), system.relay(2), system.admin(UP)] {
        let taken = TcpListener::bind(port).expect("a free port");
        let launch = kurir(&system, &["up", "--port-base", &base, "--data", &data], &[]);
        let parts = [&port.to_string(), "the port is in use", "--port-base"];
        is_refused(&launch, 1, PATIENCE * 2, &parts).await;
        drop(taken);
    }
}

#[tokio::test]
async fn stores_away_at_start_are_waited_for_and_then_given_up() {
    let mut system = Plan::new(Topology::Separate).managers(1).relays(1).start_nothing_but_stores().await;
    system.starts("tracker").await;

    // Given up after the configured time, with a line that names the key.
    system.redis().kill();
    let config = system.dir().join("relay-1.toml");
    std::fs::write(&config, system.configuration("relay-1")).expect("a configuration file");
    let config = config.display().to_string();
    let launch = kurir(&system, &["relay", "--config", &config, "--set", "start.retry_seconds=2"], &[]);
    is_refused(&launch, 1, PATIENCE * 2, &["directory.url"]).await;
    system.redis().start_again().await;
    system.postgres().stop().await;
    let config = system.dir().join("manager-1.toml");
    std::fs::write(&config, system.configuration("manager-1")).expect("a configuration file");
    let config = config.display().to_string();
    let launch = kurir(&system, &["manager", "--config", &config, "--set", "start.retry_seconds=2"], &[]);
    is_refused(&launch, 1, PATIENCE * 2, &["database.url"]).await;

    // Waited for: alive and not ready until it is there.
    system.redis().kill();
    system.launch("manager-1");
    system.launch("relay-1");
    for name in ["manager-1", "relay-1"] {
        let alive = async || system.admin_says(name, "/livez").await.filter(|(status, _)| *status == 200);
        kurir_e2e::until(PATIENCE, &format!("/livez of {name}"), alive).await;
        let (status, parts) = system.admin_says(name, "/readyz").await.expect("an answer");
        assert_eq!(status, 503, "{name} is ready without its stores: {parts}");
    }
    system.redis().start_again().await;
    system.postgres().start_again().await;
    system.is_ready("manager-1").await;
    system.is_ready("relay-1").await;
    system.lists(&["manager-1", "relay-1"]).await;
    system.person("esa").registers().await.logs_out().await;
    system.stops().await;
}

#[tokio::test]
async fn redis_away_while_components_join_is_waited_for() {
    let mut system = Plan::new(Topology::Separate).managers(2).relays(1).start().await;
    let names = ["manager-1", "manager-2", "relay-1"];
    for name in names {
        system.kill(name);
    }
    // Redis goes away between the connection and the lease, which is still that of the life before.
    for name in names {
        system.part(name).start_again();
    }
    for name in names {
        says(&mut system, name, "waiting for the lease of an earlier life to run out").await;
    }
    system.redis().pause();
    for name in names {
        says(&mut system, name, "no lease yet").await;
        let (status, parts) = system.admin_says(name, "/readyz").await.expect("an answer");
        assert!(status == 503 && parts.contains("taking the lease"), "{name}: {status} {parts}");
    }
    // Who is told to stop need not wait.
    system.part("manager-2").signal(Signal::TERM);
    let status = system.part("manager-2").end(STOPS_WITHIN).await;
    assert!(status.success(), "{status}");

    system.redis().resume();
    for name in ["manager-1", "relay-1"] {
        system.is_ready(name).await;
        let log = system.part(name).log();
        assert_eq!(log.matches("no lease yet").count(), 1, "one warning for one outage: {log}");
    }
    system.person("esa").registers().await.logs_out().await;
    system.stops().await;
}

/// Waits until a part that runs has logged it, in any of its lives.
async fn says(system: &mut System, name: &str, what: &str) {
    let part = system.part(name);
    let said = async || {
        if let Some(status) = part.ended() {
            panic!("{} ended before it said {what:?}: {status}", part.name());
        }
        part.log().contains(what).then_some(())
    };
    kurir_e2e::until(PATIENCE, &format!("{what:?} of {name}"), said).await;
}

#[tokio::test]
async fn sigterm_stops_in_bounded_time_with_clients_connected() {
    for topology in [Topology::OneProcess, Topology::Separate] {
        let mut system = System::start(topology).await;
        let mut esa = system.person("esa").at_relay(1).registers().await;
        let mut silent = system.at_relay("somebody silent", 1).await;
        let names: Vec<String> = system.parts().map(|part| part.name().to_string()).collect();
        let began = Instant::now();
        for name in &names {
            system.part(name).signal(Signal::TERM);
        }
        for name in &names {
            let status = system.part(name).end(STOPS_WITHIN).await;
            assert!(status.success(), "{name} stopped with {status}");
        }
        println!("{topology:?} stopped after {:.1} s", began.elapsed().as_secs_f64());
        esa.manager.is_closed_in_the_end(PATIENCE).await;
        esa.relay().is_closed_in_the_end(PATIENCE).await;
        silent.is_closed_in_the_end(PATIENCE).await;
    }
}

#[tokio::test]
async fn ready_line_and_admin_port() {
    let mut system = System::start(Topology::OneProcess).await;
    let output = system.part(UP).output();
    assert!(output.lines().any(|line| line.contains("ready")), "no ready line in:\n{output}");
    for address in [system.tracker(), system.manager(1), system.relay(1), system.relay(2)] {
        assert!(output.contains(&address.to_string()), "{address} is not printed:\n{output}");
    }
    assert!(output.contains("kurir chat"), "how to chat is not printed:\n{output}");

    let esa = system.person("esa").registers().await;
    for (path, what) in [("/livez", ""), ("/readyz", "ready"), ("/metrics", "# TYPE")] {
        let (status, body) = system.admin_says(UP, path).await.expect("an answer");
        assert!(status == 200 && body.contains(what), "{path}: {status} {body}");
    }
    assert_eq!(system.admin_says(UP, "/nothing").await.expect("an answer").0, 404);
    let tracker = local(Ports::grpc(system.tracker().port())).to_string();
    let launch = kurir(&system, &["status", "--tracker", &tracker], &[]);
    let status = outcome(&launch, PATIENCE).await;
    let shown = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.status.success(), "{shown}{}", String::from_utf8_lossy(&status.stderr));
    for component in ["manager-", "relay-"] {
        assert!(shown.contains(component), "{shown}");
    }
    esa.logs_out().await;
    system.stops().await;
}

#[tokio::test]
async fn up_runs_on_redis_and_postgres_too() {
    let mut system = Plan::new(Topology::Separate).managers(2).relays(3).start_nothing_but_stores().await;
    let (redis, postgres) = (system.redis().url(), system.postgres().url());
    let base = system.ports().base().to_string();
    let args = [
        "up",
        "--managers",
        "2",
        "--relays",
        "3",
        "--port-base",
        &base,
        "--redis",
        &redis,
        "--database",
        &postgres,
    ];
    let process = kurir(&system, &args, &[]).start();
    // Its admin port is where the plan has the tracker's.
    let ready = async || system.admin_says("tracker", "/readyz").await.filter(|(status, _)| *status == 200);
    kurir_e2e::until(PATIENCE * 2, "/readyz of kurir up", ready).await;
    system.lists(&["manager-1", "manager-2", "relay-1", "relay-2", "relay-3"]).await;
    let mut esa = system.person("esa").at_manager(1).at_relay(1).registers().await;
    let mut fajar = system.person("fajar").at_manager(2).at_relay(3).registers().await;
    esa.befriends(&mut fajar).await;
    esa.reaches(&mut fajar, "halo").await;
    process.assert_never_panicked();
}

#[tokio::test]
async fn original_data_survives_a_restart() {
    let mut system = System::start(Topology::OneProcess).await;
    let mut esa = system.person("esa").registers().await;
    let mut fajar = system.person("fajar").registers().await;
    esa.befriends(&mut fajar).await;
    esa.sends(json!({"stanza": "presence", "from": "esa", "bio": "kept"})).await;
    fajar.receives(kurir_e2e::packets::presence("esa", "kept", 1)).await;
    // Not even an orderly end is needed.
    system.kill(UP);
    system.start_again(UP).await;
    system.lists(&["manager-1", "relay-1", "relay-2"]).await;
    let mut esa = system.person("esa").logs_in().await;
    let mut fajar = system.person("fajar").logs_in().await;
    let both: Value = kurir_e2e::packets::item("esa", "esa", "both");
    fajar.sends(kurir_e2e::packets::get_roster("fajar")).await;
    fajar.receives(kurir_e2e::packets::roster("fajar", &[both])).await;
    fajar.sends(json!({"stanza": "presence", "to": "esa"})).await;
    fajar.receives(kurir_e2e::packets::directed("esa", "kept", 1, "fajar")).await;
    esa.reaches(&mut fajar, "again").await;
    system.stops().await;
}
