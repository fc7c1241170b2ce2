//! `kurir drain`: a component lets its users go, and stops.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use kurir_rpc::v1::{
    Component, DrainProgress, DrainRequest, drain_client::DrainClient, status_response::Row,
};
use tokio::time::{Instant, sleep, timeout};

use crate::status;

/// A tracker or a component answers from memory.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Progress is printed no more often.
const PRINT_EVERY: Duration = Duration::from_secs(1);

/// After its last word a component is off the tracker's list within moments.
const GONE_WITHIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Has a relay or a manager let its users go, each in its turn, and stop: what SIGTERM does, from anywhere, with progress.
///
/// No new user is sent there from now on. Those who are there go to another relay or manager: clients that know `move`
/// (Part II) are told when, and are connected there before they leave here; others are closed when it is their turn, and
/// connect again. The turns are spread over the component's own `shutdown.spread_seconds`. Who is still there when its
/// time is over, some seconds before `shutdown.grace_seconds`, is closed. Then the process ends with 0. Whether it is started
/// again is its supervisor's business: systemd does so with `Restart=always`, Kubernetes always.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// The component's id, as `kurir status` shows it: `relay-5010`, `manager-5001`.
    #[arg(value_name = "COMPONENT")]
    component: String,
    /// The tracker's gRPC address, `tracker.grpc_listen`: not the one that `kurir chat` takes.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5100")]
    tracker: String,
}

const HELP: &str = "\
Interrupting this command does not interrupt the drain; given again it shows how far it is.

A tracker has no users: stop it with SIGTERM. `kurir up` is one process with every part in it: Ctrl-C.

Exit code 0: everybody left by themselves, or in their turn, and the component has stopped. 1: it has stopped, and closed
those who had not left in time; or it could not be drained, and why.

  $ kurir drain relay-5010
  relay-5010: 340 of 340 users are here
  relay-5010: 185 of 340 users are here
  relay-5010: 12 of 340 users are here
  relay-5010: 0 of 340 users are here
  relay-5010: stopped";

/// Drains and prints how far it is.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let Args { component: id, tracker } = &args;
    let rows = timeout(ANSWER_WITHIN, status::ask(tracker)).await.context("no answer in time");
    let rows = rows.and_then(|rows| rows).map_err(|error| status::unanswered(tracker, &error))?;
    let component = find(&rows, id)?;
    let last = follow(&component).await.with_context(|| id.clone())?;
    let stopped = timeout(GONE_WITHIN, gone(tracker, &component)).await;
    stopped.with_context(|| format!("{id} has said that it stops, and is active still"))?;
    if last.closed_at_deadline > 0 {
        bail!(
            "{id} has stopped; {} had not left in time and were closed",
            of(last.closed_at_deadline, last.users)
        );
    }
    print(&format!("{id}: stopped"))
}

fn find(rows: &[Row], id: &str) -> anyhow::Result<Component> {
    let active = rows.iter().filter(|row| row.active).filter_map(|row| row.component.as_ref());
    if let Some(found) = active.clone().find(|component| component.id == id) {
        return Ok(found.clone());
    }
    let mut known: Vec<_> = active.map(|component| component.id.as_str()).collect();
    known.sort_unstable();
    let known = if known.is_empty() { "no component".to_owned() } else { known.join(", ") };
    bail!("no component {id} is active; the tracker knows {known}")
}

/// Begins the drain and prints what the component says, to its last word.
async fn follow(component: &Component) -> anyhow::Result<DrainProgress> {
    let channel = kurir_rpc::connect(&component.grpc_url).await?;
    let mut client = DrainClient::new(channel);
    let answer = timeout(ANSWER_WITHIN, client.drain(DrainRequest {})).await;
    let answer = answer.context("no answer in time; it may begin yet, as kurir status will say")?;
    // The rest of the status is gRPC's own business.
    let mut told = answer.map_err(|status| anyhow!("{}", status.message().to_owned()))?.into_inner();
    let mut last = DrainProgress::default();
    let mut printed: Option<(Instant, String)> = None;
    loop {
        let progress = told.message().await.ok().flatten().with_context(|| {
            format!(
                "it was cut off with {} there; whatever has become of it, kurir status says",
                of(last.left, last.users)
            )
        })?;
        // Before the turns begin nothing is known.
        let begun = progress.users > 0 || progress.stopped;
        last = progress;
        let due = printed.as_ref().is_none_or(|(at, _)| at.elapsed() >= PRINT_EVERY) || progress.left == 0;
        let are = if progress.users == 1 { "is" } else { "are" };
        let line = format!("{}: {} {are} here", component.id, of(progress.left, progress.users));
        if begun && due && printed.as_ref().is_none_or(|(_, before)| *before != line) {
            print(&line)?;
            printed = Some((Instant::now(), line));
        }
        if progress.stopped {
            return Ok(progress);
        }
    }
}

fn of(left: u64, users: u64) -> String {
    format!("{left} of {users} user{}", if users == 1 { "" } else { "s" })
}

/// Waits until that life of the component is active no more. A tracker that is away says nothing against it.
async fn gone(tracker: &str, component: &Component) {
    loop {
        let Ok(Ok(rows)) = timeout(ANSWER_WITHIN, status::ask(tracker)).await else { return };
        let is_active = |row: &Row| {
            row.active && row.component.as_ref().is_some_and(|other| other.generation == component.generation)
        };
        if !rows.iter().any(is_active) {
            return;
        }
        sleep(LOOK_AGAIN).await;
    }
}

fn print(line: &str) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{line}") {
        // Whoever read our output has gone; the drain goes on.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => Ok(printed?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, active: bool) -> Row {
        let component = Component { id: id.to_owned(), ..Component::default() };
        Row { component: Some(component), active, ..Row::default() }
    }

    #[test]
    fn a_component_that_is_not_active_is_named_with_those_that_are() {
        let rows = [row("relay-2", true), row("relay-1", true), row("relay-3", false)];
        assert_eq!(find(&rows, "relay-1").unwrap().id, "relay-1");
        let error = find(&rows, "relay-3").unwrap_err().to_string();
        assert_eq!(error, "no component relay-3 is active; the tracker knows relay-1, relay-2");
        let error = find(&[], "relay-3").unwrap_err().to_string();
        assert_eq!(error, "no component relay-3 is active; the tracker knows no component");
    }

    #[test]
    fn one_user_is_not_users() {
        assert_eq!([of(0, 1), of(12, 340)], ["0 of 1 user", "12 of 340 users"]);
    }
}
