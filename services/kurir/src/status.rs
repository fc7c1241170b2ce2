//! `kurir status`: components, load, users.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::{Context, anyhow};
use kurir_rpc::v1::tracker_client::TrackerClient;
use kurir_rpc::v1::{ComponentKind, StatusRequest, status_response::Row};
use serde::Serialize;
use tokio::time::timeout;

/// The tracker answers from memory.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Which components are alive, with load and users.
///
/// Asks one tracker. Trackers know nothing of each other: if two of them show different things, some component does not
/// reach one of them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The tracker's gRPC address, `tracker.grpc_listen`: not the one that `kurir chat` takes. With `kurir up` it is the
    /// port base + 100.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5100")]
    tracker: String,
    /// Print one JSON array instead of a table.
    #[arg(long)]
    json: bool,
}

/// Asks a tracker and prints its answer.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let tracker = &args.tracker;
    let rows = timeout(ANSWER_WITHIN, ask(tracker)).await.context("no answer in time");
    let rows = rows.and_then(|rows| rows).map_err(|error| unanswered(tracker, &error))?;
    let mut rows: Vec<Shown> = rows.into_iter().map(Shown::from).collect();
    rows.sort_by(|one, other| (&one.kind, &one.id).cmp(&(&other.kind, &other.id)));
    let mut text = if args.json { serde_json::to_string(&rows)? } else { table(&rows) };
    text.push('\n');
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever read our output has gone, `head` for example.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// What to do about a tracker that gave no answer.
pub(crate) fn unanswered(tracker: &str, error: &anyhow::Error) -> anyhow::Error {
    let advice = "is that a running tracker's gRPC address (tracker.grpc_listen, not tracker.listen)?";
    anyhow!("{tracker}: {error:#}; {advice}")
}

/// The components that a tracker knows.
pub(crate) async fn ask(tracker: &str) -> anyhow::Result<Vec<Row>> {
    let url = if tracker.contains("://") { tracker.to_owned() } else { format!("http://{tracker}") };
    let channel = kurir_rpc::connect(&url).await?;
    let answer = TrackerClient::new(channel).status(StatusRequest {}).await;
    // The rest of the status is gRPC's own business.
    let answer = answer.map_err(|status| anyhow!("{}", status.message().to_owned()))?;
    Ok(answer.into_inner().rows)
}

/// One component, as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    kind: &'static str,
    id: String,
    generation: String,
    active: bool,
    /// It lets its users go and will stop.
    draining: bool,
    /// Since it became active, or inactive.
    since_ms: u64,
    users: u64,
    connections: u64,
    address: String,
    grpc: String,
    private: bool,
}

impl From<Row> for Shown {
    fn from(row: Row) -> Self {
        let load = row.load.unwrap_or_default();
        let component = row.component.unwrap_or_default();
        Self {
            kind: match component.kind() {
                ComponentKind::Manager => "manager",
                ComponentKind::Relay => "relay",
                ComponentKind::Unspecified => "unknown",
            },
            draining: row.active && component.draining,
            id: component.id,
            generation: component.generation,
            active: row.active,
            since_ms: row.since_ms,
            users: load.users,
            connections: load.connections,
            address: format!("{}:{}", component.client_host, component.client_port),
            grpc: component.grpc_url,
            private: component.private,
        }
    }
}

impl Shown {
    fn state(&self) -> &'static str {
        match (self.active, self.draining) {
            (false, _) => "inactive",
            (true, true) => "draining",
            (true, false) => "active",
        }
    }
}

fn table(rows: &[Shown]) -> String {
    let mut lines =
        vec![["KIND", "ID", "STATUS", "SINCE", "USERS", "CONNECTIONS", "ADDRESS"].map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        [
            row.kind.to_owned(),
            row.id.clone(),
            row.state().to_owned(),
            ago(Duration::from_millis(row.since_ms)),
            row.users.to_string(),
            row.connections.to_string(),
            row.address.clone(),
        ]
    }));
    aligned(&lines) + &summary(rows)
}

/// Columns, one line each.
pub(crate) fn aligned<const COLUMNS: usize>(lines: &[[String; COLUMNS]]) -> String {
    let mut widths = [0; COLUMNS];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for line in lines {
        let mut shown = String::new();
        for (width, cell) in widths.iter().zip(line) {
            // Writing to a string cannot fail.
            let _ = write!(shown, "{cell:<width$}  ");
        }
        text.push_str(shown.trim_end());
        text.push('\n');
    }
    text
}

fn summary(rows: &[Shown]) -> String {
    let active = |kind| rows.iter().filter(move |row| row.active && row.kind == kind);
    let (managers, relays) = (active("manager").count(), active("relay").count());
    let users: u64 = active("manager").map(|row| row.users).sum();
    let count = |count, what| if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") };
    let (managers, relays) = (count(managers as u64, "manager"), count(relays as u64, "relay"));
    format!("{} online; {managers} and {relays} active", count(users, "user"))
}

/// Two units are as exact as anybody needs.
pub(crate) fn ago(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use kurir_rpc::v1::{Component, Load};

    use super::*;

    fn row(kind: ComponentKind, id: &str, active: bool, users: u64) -> Shown {
        Shown::from(Row {
            component: Some(Component {
                kind: kind.into(),
                id: id.into(),
                client_host: "10.0.0.5".into(),
                client_port: 5001,
                ..Component::default()
            }),
            load: Some(Load { users, connections: users + 1 }),
            active,
            since_ms: 61_000,
        })
    }

    #[test]
    fn the_table_has_a_line_for_each_component_and_the_sum() {
        let rows = [
            row(ComponentKind::Manager, "manager-5001", true, 12),
            row(ComponentKind::Relay, "relay-5010", false, 0),
            Shown { draining: true, ..row(ComponentKind::Relay, "relay-5011", true, 7) },
        ];
        let expected = "\
KIND     ID            STATUS    SINCE      USERS  CONNECTIONS  ADDRESS
manager  manager-5001  active    1 min 1 s  12     13           10.0.0.5:5001
relay    relay-5010    inactive  1 min 1 s  0      1            10.0.0.5:5001
relay    relay-5011    draining  1 min 1 s  7      8            10.0.0.5:5001
12 users online; 1 manager and 1 relay active";
        assert_eq!(table(&rows), expected);
    }

    #[test]
    fn times_have_two_units() {
        let shown = [5, 65, 3600 * 3 + 120, 86_400 * 2 + 3600].map(|s| ago(Duration::from_secs(s)));
        assert_eq!(shown, ["5 s", "1 min 5 s", "3 h 2 min", "2 d 1 h"]);
    }
}
