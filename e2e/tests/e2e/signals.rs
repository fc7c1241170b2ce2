//! What an operator's tools see: metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kurir_e2e::{System, Topology};

kurir_e2e::shows! {
    every_metric_is_documented_and_every_documented_one_is_there: "";
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
        let samples = text.lines().filter_map(|line| line.strip_prefix(name));
        let labels =
            samples.filter_map(|sample| sample.split_once('{')?.1.split_once('}')).flat_map(|(labels, _)| {
                labels
                    .split(',')
                    .filter_map(|label| Some(label.split_once('=')?.0.to_string()))
                    .collect::<Vec<_>>()
            });
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
