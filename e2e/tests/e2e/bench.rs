//! `kurir bench` at a tiny size: that it measures, checks and reports, not what the figures are.

use std::process::Stdio;
use std::time::Duration;

use kurir_e2e::process::Launch;
use kurir_e2e::system::binary;
use kurir_e2e::{Plan, Topology, within};
use serde_json::Value;

kurir_e2e::shows! {
    bench_flood_puts_the_relay_beside_the_forwarder: "";
    bench_latency_keeps_its_rate: "";
    bench_login_and_idle_report: "";
    bench_tracked_stores_delivers_and_keeps_its_rate: "";
    bench_backlog_comes_whole_with_live_messages_between: "";
}

/// Two servers start, and an idle user is looked at after a pause.
const LIMIT: Duration = Duration::from_secs(90);

/// Runs a benchmark to its good end; what it prints.
async fn bench(args: &[&str]) -> Value {
    let system = Plan::new(Topology::OneProcess).start_nothing_but_stores().await;
    let base = system.ports().base().to_string();
    let options = ["--json", "--port-base", &base];
    let args = ["bench"].iter().chain(args).chain(&options);
    let launch = Launch {
        name: "bench".into(),
        program: binary(),
        args: args.map(ToString::to_string).collect(),
        env: Vec::new(),
        user: None,
        logs: system.dir().to_path_buf(),
    };
    let mut command = tokio::process::Command::from(launch.command());
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = within(LIMIT, &format!("kurir {:?}", launch.args), command.output()).await.expect("output");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kurir {:?}: {said}", launch.args);
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn row<'a>(report: &'a Value, column: &str, value: &str) -> &'a Value {
    let rows = report["rows"].as_array().expect("rows");
    rows.iter().find(|row| row[column] == value).unwrap_or_else(|| panic!("no {value} in {report:#}"))
}

/// Nothing lost, duplicated or out of order, and something counted.
fn is_whole(row: &Value) {
    for finding in ["lost", "duplicated", "reordered"] {
        assert_eq!(row[finding], 0, "{row:#}");
    }
    for figure in ["messages", "per_second", "per_cpu_second", "rss_mib"] {
        assert!(row[figure].as_f64().is_some_and(|figure| figure > 0.0), "{figure} of {row:#}");
    }
}

#[tokio::test]
async fn bench_flood_puts_the_relay_beside_the_forwarder() {
    let args = ["flood", "--pairs", "4", "--seconds", "1", "--rounds", "1", "--vs", "forwarder"];
    let report = bench(&args).await;
    is_whole(row(&report, "target", "relay"));
    is_whole(row(&report, "target", "forwarder"));
    assert!(report["relay_to_forwarder"]["per_cpu_second"].is_number(), "{report:#}");
}

#[tokio::test]
async fn bench_latency_keeps_its_rate() {
    let args = ["latency", "--rate", "200", "--pairs", "4", "--seconds", "1", "--rounds", "1"];
    let report = bench(&args).await;
    let relay = row(&report, "target", "relay");
    is_whole(relay);
    assert_eq!((&relay["messages"], &relay["rate"]), (&200.into(), &200.into()), "{relay:#}");
    assert!(relay["p99_ms"].as_f64() >= relay["p50_ms"].as_f64(), "{relay:#}");
}

#[tokio::test]
async fn bench_login_and_idle_report() {
    let report = bench(&["login", "--users", "8", "--relays", "2", "--password-cost", "least"]).await;
    for what in ["registered", "logged in"] {
        let row = row(&report, "what", what);
        assert_eq!(
            (&row["users"], &row["fullest_relay_above_mean_percent"]),
            (&8.into(), &0.into()),
            "{row:#}"
        );
    }
    let report = bench(&["idle", "--users", "4"]).await;
    assert_eq!(report["rows"][0]["users"], 4, "{report:#}");
}

/// The figures of these columns are there, in this order.
fn ascends(row: &Value, columns: &[&str]) {
    let figure = |column: &&str| row[*column].as_f64().unwrap_or_else(|| panic!("{column} of {row:#}"));
    let figures: Vec<f64> = columns.iter().map(figure).collect();
    assert!(
        figures.first().is_some_and(|first| *first > 0.0) && figures.is_sorted(),
        "{columns:?} of {row:#}"
    );
}

#[tokio::test]
async fn bench_tracked_stores_delivers_and_keeps_its_rate() {
    let small =
        ["tracked", "--pairs", "3", "--seconds", "1", "--rounds", "1", "--relays", "2", "--managers", "2"];
    for (load, value) in [("window", 4), ("rate", 200)] {
        let option = (format!("--{load}"), value.to_string());
        let report = bench(&[&small[..], &[&option.0, &option.1]].concat()).await;
        let row = row(&report, "database", "sqlite");
        is_whole(row);
        assert_eq!((&row[load], &row["refusals"]), (&value.into(), &0.into()), "{row:#}");
        ascends(row, &["ack_p50_ms", "ack_p99_ms", "ack_p999_ms"]);
        ascends(row, &["delivery_p50_ms", "delivery_p99_ms"]);
        if load == "rate" {
            let stored = row["messages"].as_u64().expect("messages");
            assert!((150..=250).contains(&stored), "200 were due in that second: {row:#}");
        }
    }
}

#[tokio::test]
async fn bench_backlog_comes_whole_with_live_messages_between() {
    let args = ["backlog", "--messages", "3000", "--senders", "3", "--rounds", "2", "--live"];
    let report = bench(&args).await;
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!((rows.len(), &rows[0]["messages"]), (2, &3000.into()), "{report:#}");
    assert!(rows[1]["messages"].as_u64() > Some(3000), "what was live waits the next time: {report:#}");
    for row in rows {
        for finding in ["lost", "duplicated", "reordered"] {
            assert_eq!(row[finding], 0, "{row:#}");
        }
        ascends(row, &["ready_ms", "first_ms", "last_ms"]);
        ascends(row, &["live_untracked_p50_ms", "live_untracked_p99_ms"]);
        ascends(row, &["live_ack_p50_ms", "live_ack_p99_ms"]);
        for column in
            ["live_messages", "rss_before_mib", "rss_peak_mib", "rss_after_mib", "stored_per_second"]
        {
            assert!(row[column].as_f64().is_some_and(|figure| figure > 0.0), "{column} of {row:#}");
        }
    }
}
