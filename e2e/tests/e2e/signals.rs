//! What an operator's tools see: metrics, readiness, traces.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kurir_e2e::collector::{Collector, Span};
use kurir_e2e::packets::refusal;
use kurir_e2e::pattern::TEXT;
use kurir_e2e::{PATIENCE, Plan, System, Topology};
use serde_json::{Value, json};

kurir_e2e::shows! {
    every_metric_is_documented_and_every_documented_one_is_there: "";
    readiness_follows_redis_and_the_database: "";
    a_trace_follows_a_login_and_a_tracked_message: "";
}

/// Type, where it is shown, and labels, by name.
type Metrics = BTreeMap<String, (String, BTreeSet<String>, BTreeSet<String>)>;

#[tokio::test]
async fn every_metric_is_documented_and_every_documented_one_is_there() {
    let system = System::start(Topology::Separate).await;
    let mut shown = Metrics::new();
    for part in ["tracker", "manager-1", "relay-1"] {
        let role = part.trim_end_matches("-1");
        for (name, kind, labels) in families(&system.metrics(part).await) {
            let metric =
                shown.entry(name).or_insert_with(|| (kind.clone(), BTreeSet::new(), BTreeSet::new()));
            assert_eq!(metric.0, kind);
            metric.1.insert(role.to_string());
            metric.2.extend(labels);
        }
    }
    // Every stream that is wanted is there, and counted on both sides.
    for (part, peer, count) in [
        ("relay-1", "relay", 2),
        ("relay-2", "relay", 2),
        ("relay-3", "relay", 2),
        ("relay-1", "manager", 2),
        ("relay-1", "tracker", 1),
        ("manager-1", "manager", 1),
        ("manager-2", "manager", 1),
        ("manager-1", "tracker", 1),
    ] {
        let role = part.split('-').next().unwrap();
        for metric in ["streams", "streams_wanted"] {
            system.shows(part, &format!("kurir_{role}_{metric}{{peer=\"{peer}\"}}"), count).await;
        }
    }
    let documented = documented();
    let names: BTreeSet<&String> = shown.keys().chain(documented.keys()).collect();
    let differ = names.into_iter().filter(|name| shown.get(*name) != documented.get(*name));
    let differ: Vec<String> = differ
        .map(|name| {
            format!("{name}: shown {:?}, docs/metrics.md {:?}", shown.get(name), documented.get(name))
        })
        .collect();
    assert!(differ.is_empty(), "{differ:#?}");
    system.stops().await;
}

/// Name as it is queried, type, and the names of its labels.
fn families(text: &str) -> Vec<(String, String, BTreeSet<String>)> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let family = |(name, kind): (&str, &str)| {
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let endings: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[suffix] };
        // The name of another family may begin with this one's.
        let labels_of = |line: &str| {
            let (ending, rest) = line.strip_prefix(name)?.split_once('{')?;
            let (labels, _) = rest.split_once('}').filter(|_| endings.contains(&ending))?;
            let names = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0.to_string()));
            Some(names.collect::<Vec<_>>())
        };
        let labels = text.lines().filter_map(labels_of).flatten();
        let labels = labels.filter(|label| kind != "histogram" || label != "le").collect();
        (format!("{name}{suffix}"), kind.to_string(), labels)
    };
    types.map(family).collect()
}

/// The table of docs/metrics.md.
fn documented() -> Metrics {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let page = std::fs::read_to_string(page).expect("docs/metrics.md");
    let words = |cell: &str| {
        let words = cell.split([',', ' ', '`']).filter(|word| !word.is_empty());
        words.map(ToString::to_string).collect::<BTreeSet<_>>()
    };
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let name = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
        Some((name.to_string(), (cells[2].to_string(), words(cells[3]), words(cells[4]))))
    };
    page.lines().filter_map(row).collect()
}

#[tokio::test]
async fn readiness_follows_redis_and_the_database() {
    let mut system = Plan::new(Topology::Separate).managers(1).relays(1).start().await;
    let mut esa = system.person("esa").registers().await;
    let mut fajar = system.person("fajar").registers().await;
    esa.befriends(&mut fajar).await;

    system.redis().kill();
    for name in ["manager-1", "relay-1"] {
        is_without(&system, name, "redis").await;
    }
    system.is_ready("tracker").await;
    // Who is connected is served, and newcomers are told to come again.
    esa.reaches(&mut fajar, "without Redis").await;
    let mut newcomer = system.at_manager("ida", 1).await;
    newcomer.sends(json!({"type": "auth", "username": "esa", "password": "12345"})).await;
    newcomer.receives(refusal(503, "Temporary failure")).await;
    system.redis().start_again().await;
    for name in ["manager-1", "relay-1"] {
        system.is_ready(name).await;
    }

    system.postgres().stop().await;
    is_without(&system, "manager-1", "database").await;
    system.is_ready("relay-1").await;
    esa.reaches(&mut fajar, "without PostgreSQL").await;
    system.postgres().start_again().await;
    system.is_ready("manager-1").await;
    system.person("ida").registers().await.logs_out().await;
    esa.reaches(&mut fajar, "with everything").await;
    system.stops().await;
}

/// Waits until a component says in readiness, on a line of its own and with the reason, that a dependency is away. It is alive.
async fn is_without(system: &System, name: &str, dependency: &str) {
    let says_so = async || {
        let (status, body) = system.admin_says(name, "/readyz").await?;
        let report: Value = serde_json::from_str(&body).expect("JSON");
        let why = report["dependencies"][dependency].as_str()?;
        let line = format!("\"{dependency}\": \"{why}\"");
        let has_a_line = body.lines().any(|shown| shown.trim().trim_end_matches(',') == line);
        (status == 503 && why.starts_with("no answer for 5 s or more: ") && has_a_line).then_some(report)
    };
    let what = format!("/readyz of {name} names {dependency}");
    let (report, _) = kurir_e2e::until(PATIENCE * 2, &what, says_so).await;
    let role = name.trim_end_matches("-1");
    assert_eq!(report["parts"], json!({role: "ready"}), "{report}");
    assert_eq!(system.gauge(name, &format!("kurir_ready{{part=\"{dependency}\"}}")).await, Some(0));
    let (status, _) = system.admin_says(name, "/livez").await.expect("an answer");
    assert_eq!(status, 200, "{name} is alive");
}

#[tokio::test]
async fn a_trace_follows_a_login_and_a_tracked_message() {
    let collector = Collector::start().await;
    let plan = Plan::new(Topology::Separate).managers(1).relays(1);
    let system = plan.setting("traces.otlp_endpoint", collector.url()).start().await;
    let mut esa = system.person("esa").registers().await;

    // A login is one trace, from the manager's packet to the relay's route, with what it waited for.
    let login = collector.has("the login at the manager", |span| span.is("kurir-manager", "login")).await;
    assert_eq!(login.field("user"), Some("esa"));
    assert_eq!(login.field("result"), Some("created"));
    let hello = collector.has("the hello at the relay", |span| span.is("kurir-relay", "hello")).await;
    assert_eq!((&hello.trace, &hello.parent), (&login.trace, &login.id), "the ticket carries the trace");
    for step in ["password", "database", "redis"] {
        let step =
            collector.has(step, |span| span.is("kurir-manager", step) && span.trace == login.trace).await;
        assert_eq!(step.parent, login.id, "{step:?}");
    }
    collector.has("the route", |span| span.is("kurir-relay", "redis") && span.parent == hello.id).await;

    // Messages are handed over by gRPC.
    let message = json!({"stanza": "message", "from": "esa", "to": "esa", "body": "to myself", "id": "a"});
    esa.relay().sends(message).await;
    let ack = json!({"stanza": "message", "type": "ack", "id": "a", "stanza_id": TEXT, "level": "stored"});
    esa.relay().receives(ack).await;
    let store = collector.has("the relay's batch", |span| span.is("kurir-relay", "store")).await;
    let served = |span: &Span| span.is("kurir-manager", "serve") && span.parent == store.id;
    let serve = collector.has("the manager's part", served).await;
    assert_eq!(serve.trace, store.trace);
    assert_eq!(serve.field("call"), Some("/kurir.v1.Log/Append"));

    // What goes on all the time is no trace: leases are renewed, and nobody hears of it.
    assert!(collector.spans().iter().all(|span| span.name != "redis" || !span.parent.is_empty()));
    system.stops().await;
}
