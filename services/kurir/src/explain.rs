//! `kurir explain`: what became of a tracked message.

#[cfg(test)]
mod tests;

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use chrono::{DateTime, Local};
use kurir_protocol::name::{BadName, UserKey};
use kurir_rpc::v1::TrailEvent;
use kurir_rpc::v1::status_response::Row;
use kurir_trail::{Answers, Asked, Asker, Reason, SentAs, Silent, Step};
use serde::Serialize;
use tokio::time::timeout;
use uuid::Uuid;

use crate::status;

/// The tracker answers from memory.
const TRACKER_ANSWERS: Duration = Duration::from_secs(3);

/// A component answers from memory, or after one look into its database.
const COMPONENT_ANSWERS: Duration = Duration::from_secs(4);

/// What became of a message: who accepted it, when it was stored, which devices have it.
///
/// Asks every relay and every manager that the tracker knows, and puts together what they remember, by time. They
/// remember messages with an `id`, for an hour unless `relay.explain_seconds`, `relay.explain_events` and the manager's
/// say otherwise, and longer where `manager.explain_sql_hours` is set. The times are those of the machines: where their
/// clocks differ, lines may stand in the wrong order.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// The message, by the `stanza_id` of its acknowledgement or delivery.
    #[arg(value_name = "STANZA_ID", required_unless_present = "from", conflicts_with_all = ["from", "id"])]
    stanza_id: Option<Uuid>,
    /// The message's sender. With --id also finds what was refused and never got a `stanza_id`.
    #[arg(long, value_name = "USER", requires = "id", value_parser = user)]
    from: Option<UserKey>,
    /// The `id` that the sender gave it.
    #[arg(long, value_name = "ID", requires = "from")]
    id: Option<String>,
    /// The tracker's gRPC address, `tracker.grpc_listen`: not the one that `kurir chat` takes. With `kurir up` it is the
    /// port base + 100.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5100")]
    tracker: String,
    /// Print one JSON object: `events`; `waiting`, the receiver if no device of theirs is known to have been connected since; `silent`, who did not
    /// answer or not with all; `off`, who remembers nothing.
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
Steps, in a message's order:
  accepted   the sender's relay has it from the client
  refused    not stored, and the sender knows; REASON says why
  committed  a manager has it on disk, in the sender's and in the receiver's log
  announced  that manager has told its relays
  stored     the sender's relay knows that it is on disk
  confirmed  and has acknowledged it to the sender
  connected  the device came only then
  heard      the device's relay knows that there is something to read
  read       it has read it from the log, for that device
  skipped    it is not for that device
  written    the device's socket has taken it
  acked      the device says that it has it
  lost       the connection ended before its socket had taken all of it; the next one reads it again

Exit code 1: nobody knows the message, and why that may be is said.

  $ kurir explain 0194a7e5-22c1-7d02-9d0c-0242ac120002
  $ kurir explain --from esa --id 0193a7e4-91d0-7f3e-8a55-5ab1f2a4c0de";

fn user(name: &str) -> Result<UserKey, BadName> {
    UserKey::of(name)
}

/// Asks everybody and prints what they say.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let tracker = &args.tracker;
    let rows = timeout(TRACKER_ANSWERS, status::ask(tracker)).await.context("no answer in time");
    let rows = rows.and_then(|rows| rows).map_err(|error| status::unanswered(tracker, &error))?;
    let asked = args.asked();
    let (asker, gone) = whom_to_ask(&rows);
    if asker.components.is_empty() {
        bail!("the tracker knows no relay and no manager that runs");
    }
    let mut answers = asker.ask(&asked).await;
    answers.silent.extend(gone);
    for Silent { component, error } in &answers.silent {
        eprintln!("kurir: what {component} knows is missing: {error}");
    }
    if args.json {
        print(&serde_json::to_string(&Shown::from(&answers))?)?;
    }
    if answers.events.is_empty() {
        bail!(nobody_knows(&args, &answers));
    }
    if args.json {
        return Ok(());
    }
    print(&table(&answers.events))?;
    if let Some(user) = waiting(&answers) {
        let user = user.escape_debug();
        print(&format!(
            "no device of {user} is known to have been connected since: it waits in {user}'s log"
        ))?;
    }
    Ok(())
}

impl Args {
    fn asked(&self) -> Asked {
        let sent_as = self.from.as_ref().zip(self.id.as_ref()).map(|(user, id)| SentAs {
            user: user.to_string(),
            device: None,
            id: id.clone(),
        });
        Asked { stanza_id: self.stanza_id, sent_as }
    }
}

/// The components that run, and those that do not and may have known something.
fn whom_to_ask(rows: &[Row]) -> (Asker, Vec<Silent>) {
    const LATELY_MS: u64 = 24 * 60 * 60 * 1000;
    let component = |row: &Row| row.component.clone().unwrap_or_default();
    let running: Vec<(String, String)> =
        rows.iter().filter(|row| row.active).map(component).map(|of| (of.id, of.grpc_url)).collect();
    let runs = |id: &str| running.iter().any(|(known, _)| known == id);
    let gone = rows.iter().filter(|row| !row.active && row.since_ms < LATELY_MS);
    let mut silent: Vec<Silent> = Vec::new();
    for row in gone {
        let id = component(row).id;
        if !runs(&id) && silent.iter().all(|known| known.component != id) {
            let since = status::ago(Duration::from_millis(row.since_ms));
            silent.push(Silent { component: id, error: format!("it is gone, for {since}") });
        }
    }
    (Asker { components: running, patience: COMPONENT_ANSWERS }, silent)
}

/// Why that may be.
fn nobody_knows(args: &Args, answers: &Answers) -> String {
    let what = match (args.stanza_id, &args.from, &args.id) {
        (Some(id), ..) => format!("message {id}"),
        (None, Some(user), Some(id)) => format!("a message {} of {user}", id.escape_debug()),
        _ => "it".to_owned(),
    };
    let nobody = format!("nobody knows {what}");
    if !answers.silent.is_empty() && answers.since_us.is_some() {
        return format!("{nobody} of those who answered: ask again when all of them do");
    }
    let Some(since_us) = answers.since_us else {
        return if answers.off.is_empty() {
            format!("{nobody}: no relay and no manager has answered")
        } else {
            format!("{nobody}: explain is off; relay.explain_events and manager.explain_events turn it on")
        };
    };
    let since = time(since_us).format("%F %T").to_string();
    match args.stanza_id.map(|id| id.get_timestamp().map(kurir_trail::resolve::millis)) {
        Some(None) => format!("{nobody}: the id is none of Kurir's"),
        Some(Some(made_ms)) if made_ms < since_us / 1000 => format!(
            "{nobody}: it is of {}, and what was before {since} is forgotten at one of those asked \
             (explain_seconds, explain_events; explain_sql_hours keeps trails longer)",
            time(made_ms * 1000).format("%F %T")
        ),
        Some(Some(_)) => format!(
            "{nobody}, and all since {since} is remembered: is it the stanza_id of an acknowledgement or a delivery?"
        ),
        None => format!(
            "{nobody}; what was before {since} may be forgotten, and what has no id is not remembered"
        ),
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    events: Vec<ShownEvent<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<&'a str>,
    silent: Vec<ShownSilent<'a>>,
    off: &'a [String],
}

#[derive(Debug, Serialize)]
struct ShownEvent<'a> {
    at_us: i64,
    component: &'a str,
    step: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    stanza_id: &'a str,
    user: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    device: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    connection: u64,
    #[serde(skip_serializing_if = "is_zero")]
    seq: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    message_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    peer: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    took_us: u64,
}

#[derive(Debug, Serialize)]
struct ShownSilent<'a> {
    component: &'a str,
    error: &'a str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl<'a> From<&'a Answers> for Shown<'a> {
    fn from(answers: &'a Answers) -> Self {
        let event = |event: &'a TrailEvent| ShownEvent {
            at_us: event.at_us,
            component: &event.component,
            step: &event.step,
            reason: &event.reason,
            stanza_id: &event.stanza_id,
            user: &event.user,
            device: &event.device,
            connection: event.connection,
            seq: event.seq,
            message_id: &event.message_id,
            peer: &event.peer,
            count: event.count.into(),
            took_us: event.took_us.into(),
        };
        let silent = |silent: &'a Silent| ShownSilent { component: &silent.component, error: &silent.error };
        Self {
            events: answers.events.iter().map(event).collect(),
            waiting: waiting(answers),
            silent: answers.silent.iter().map(silent).collect(),
            off: &answers.off,
        }
    }
}

fn table(events: &[TrailEvent]) -> String {
    let mut lines =
        vec![["TIME", "AFTER", "COMPONENT", "STEP", "WHOSE", "REASON", "DETAILS"].map(str::to_owned)];
    let mut before: Option<i64> = None;
    for event in events {
        let after = before.map_or_else(String::new, |before| format!("+{}", took(event.at_us - before)));
        before = Some(event.at_us);
        let whose = if event.device.is_empty() {
            event.user.clone()
        } else {
            format!("{}/{}", event.user, event.device)
        };
        lines.push([
            time(event.at_us).format("%H:%M:%S%.3f").to_string(),
            after,
            event.component.clone(),
            event.step.clone(),
            whose.escape_debug().to_string(),
            event.reason.clone(),
            details(event),
        ]);
    }
    let day = events.first().map(|event| time(event.at_us).format("%F, ").to_string()).unwrap_or_default();
    let named = events.iter().find(|event| !event.stanza_id.is_empty());
    let message = named.map_or("never stored", |event| &event.stanza_id);
    format!("{day}message {message}\n{}", status::aligned(&lines).trim_end())
}

/// Whose log has it, where everybody has answered and remembers that time, and nothing is known of any device of theirs.
fn waiting(Answers { events, silent, off, since_us }: &Answers) -> Option<&str> {
    let received = events.iter().find(|event| Step::of(&event.step) == Some(Step::Announced))?;
    let all_remember = off.is_empty() && since_us.is_some_and(|since| since <= received.at_us);
    if !silent.is_empty() || !all_remember {
        return None;
    }
    let at_device =
        |event: &TrailEvent| event.user == received.user && Step::of(&event.step) >= Some(Step::Connected);
    (!events.iter().any(at_device)).then_some(&received.user)
}

fn details(event: &TrailEvent) -> String {
    let TrailEvent { seq, count, peer, .. } = event;
    let (many, took) = (|what: &str| plural(*count, what), took(event.took_us.into()));
    let Some(step) = Step::of(&event.step) else { return String::new() };
    match step {
        Step::Refused if Reason::of(&event.reason) == Some(Reason::NoAnswer) => {
            format!("{} asked, after {took}", many("manager"))
        }
        Step::Accepted | Step::Refused => format!("id {}", event.message_id.escape_debug()),
        Step::Committed => format!("{} log at {seq}; {} at once, {took}", of(&event.user), many("message")),
        Step::Announced => format!("{} log at {seq}; {} told", of(&event.user), many("relay")),
        Step::Stored if *count > 1 => format!("at {peer}, attempt {count}, {took}"),
        Step::Stored => format!("at {peer}, {took}"),
        Step::Read | Step::Skipped => format!("log at {seq}, read at {peer}"),
        Step::Heard => "the log has grown".to_owned(),
        Step::Lost => "perhaps not written".to_owned(),
        Step::Confirmed | Step::Connected | Step::Written | Step::Acked => String::new(),
    }
}

fn of(user: &str) -> String {
    format!("{}'s", user.escape_debug())
}

fn plural(count: u32, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Three digits are as exact as clocks are.
fn took(us: i64) -> String {
    match us {
        ..1_000_000 => format!("{}.{} ms", us / 1000, us / 100 % 10),
        1_000_000..60_000_000 => format!("{}.{} s", us / 1_000_000, us / 100_000 % 10),
        _ => status::ago(Duration::from_micros(us.unsigned_abs())),
    }
}

fn time(us: i64) -> DateTime<Local> {
    DateTime::from_timestamp_micros(us).unwrap_or_default().into()
}

fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        // Whoever read our output has gone, `head` for example.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| anyhow!(error)),
    }
}
