//! `kurir chat`: the terminal client, line mode. Works the same in a pipe: commands from stdin, one a line.
//!
//! - `account`: what the servers know of the account
//! - `command`: what a line means
//! - `contacts`: what an event says, and who is on and off
//! - `own`: what becomes of one's own messages
//! - `reading`: telling others that their messages are read
//! - `start`: who to be, and the way online
//! - `state`: where what outlives the process is kept
//! - `terminal`: asking for a password; text of others that cannot play with the terminal

mod account;
mod command;
mod contacts;
mod own;
mod reading;
mod start;
mod state;
mod terminal;

use std::future::{Future, pending};
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, bail};
use kurir_client::{
    Client, Ended, Event, Events, Message, MessageId, NewMessage, PresenceError, RequestError, Search,
    SendError,
};
use tokio::io::{AsyncBufReadExt, BufReader, Split, Stdin};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use self::command::{Command, HELP};
use self::contacts::Contacts;
use self::own::{Own, Said};
use self::reading::Reading;
use self::terminal::plain;

/// Before logging out, how long is waited for messages to be stored, and for those that waited here to come.
const FINISH_WITHIN: Duration = Duration::from_secs(10);

/// Chat in the terminal, or in a pipe.
///
/// Type to write to whomever /to names; lines that begin with a slash are commands, and /help shows them. In a pipe the
/// same lines come from stdin, and its end logs out.
///
/// Messages are stored for whoever is offline. Each has a number, and what becomes of it is said by that: sent,
/// stored, delivered (the other's client has it), read. What is not stored yet, and how far you have read, is kept in a
/// file for the next start, which sends the rest and shows what has come meanwhile with its time; a new file begins with
/// all there is. A chat that did not end with /quit needs no password the next time.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Where a tracker answers clients (`tracker.listen`). May be given several times: any one that answers will do.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5000")]
    tracker: Vec<String>,
    /// Who to be. Asked for on a terminal if it is not given.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The password. Others on this machine can read it in the list of processes: better leave it out, and it is taken
    /// from the environment variable `KURIR_PASSWORD`, or asked for on a terminal.
    #[arg(long, value_name = "PASSWORD")]
    password: Option<String>,
    /// Create the account instead of logging in.
    #[arg(long)]
    register: bool,
    /// Name this device: an account is online on several at once, and each gets every message. Without it you are where
    /// the original's client would be, of which there is one.
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// Print every packet received as one line of JSON on stdout, and what becomes of one's own messages as objects with
    /// `event`: waiting, queued, sent, stored, delivered, read, refused, expired. What goes wrong is said on stderr.
    #[arg(long)]
    json: bool,
    /// Where to keep what is not stored yet and how far you have read. Default:
    /// `$XDG_STATE_HOME/kurir/TRACKER/USER.jsonl` (`USER@DEVICE.jsonl` with --device), in `~/.local/state` without that
    /// variable.
    #[arg(long, value_name = "FILE", conflicts_with = "no_state")]
    state: Option<PathBuf>,
    /// Keep nothing: a message that is not stored when this ends is lost, and others are not told that you have received
    /// or read theirs.
    #[arg(long)]
    no_state: bool,
}

/// Runs until `/quit`, the end of stdin, or Ctrl-C.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let Some(start::Connected { client, events, username, keeps }) =
        start::connect(&args, &mut interrupt).await?
    else {
        return Ok(());
    };
    let mut chat = Chat {
        client,
        events,
        contacts: Contacts::new(username),
        to: None,
        json: args.json,
        own: Own::default(),
        reading: Reading::default(),
        up_to_date: !keeps,
        keeps,
        under_way: None,
        interrupt,
    };
    let ended = chat.talk(BufReader::new(tokio::io::stdin()).split(b'\n')).await;
    match ended {
        // Whoever read our output has gone, `head` for example.
        Err(error) if is_broken_pipe(&error) => {
            chat.client.logout().await;
            Ok(())
        }
        ended => ended,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

type UnderWay = Pin<Box<dyn Future<Output = Done> + Send>>;

/// How a command ended.
enum Done {
    /// With something to say, or not.
    Said(Option<String>),
    /// A message is in the queue.
    Queued(MessageId, NewMessage),
    /// A message is not.
    NotQueued(SendError),
}

struct Chat {
    client: Client,
    events: Events,
    contacts: Contacts,
    own: Own,
    reading: Reading,
    /// Who a line without a slash goes to.
    to: Option<String>,
    json: bool,
    /// There is a state file.
    keeps: bool,
    /// What waited here has been shown.
    up_to_date: bool,
    /// The command that was typed last, until it is answered: a pipe's commands are done in order.
    under_way: Option<UnderWay>,
    interrupt: Signal,
}

enum Happened {
    Event(Option<Event>),
    Line(Option<String>),
    Done(Done),
    Interrupted,
    /// Nothing more to come after the end of the input.
    Quiet,
}

impl Chat {
    async fn talk(&mut self, mut lines: Split<BufReader<Stdin>>) -> anyhow::Result<()> {
        let mut reading = true;
        let mut finish_by: Option<Instant> = None;
        let mut leaving: Option<UnderWay> = None;
        if !self.json && io::stdin().is_terminal() {
            self.say("/to NAME says who you write to, /help the rest.")?;
        }
        loop {
            if self.up_to_date && self.under_way.is_none() {
                self.under_way = self.reading.tell(&self.client);
            }
            let idle = self.under_way.is_none() && leaving.is_none();
            let finished = self.own.unsettled() == 0 && self.up_to_date;
            let finish = if finished { None } else { finish_by };
            let happened = tokio::select! {
                // What has come is shown before the next command.
                biased;
                event = self.events.next() => Happened::Event(event),
                done = or_pending(self.under_way.as_mut()) => Happened::Done(done),
                done = or_pending(leaving.as_mut()) => Happened::Done(done),
                _ = self.interrupt.recv() => Happened::Interrupted,
                line = lines.next_segment(), if reading && idle => {
                    Happened::Line(line.context("stdin")?.as_deref().map(text))
                }
                () = sleep_until(finish.unwrap_or_else(Instant::now)), if !reading && idle => Happened::Quiet,
            };
            match happened {
                Happened::Event(Some(Event::Ended(Ended::LoggedOut)) | None) => return self.say_left(),
                Happened::Event(Some(Event::Ended(ended))) => bail!("the session is over: {ended}"),
                Happened::Event(Some(event)) => self.show(&event)?,
                Happened::Done(done) => {
                    self.under_way = None;
                    self.done(done)?;
                }
                Happened::Line(line) => {
                    reading = line.map_or(Ok(false), |line| self.obey(&line))?;
                    if !reading {
                        finish_by = Some(Instant::now() + FINISH_WITHIN);
                        self.say_waiting()?;
                    }
                }
                Happened::Interrupted | Happened::Quiet => {
                    reading = false;
                    let client = self.client.clone();
                    leaving.get_or_insert_with(|| {
                        Box::pin(async move {
                            client.logout().await;
                            pending().await
                        })
                    });
                }
            }
        }
    }

    fn done(&mut self, done: Done) -> anyhow::Result<()> {
        match done {
            Done::Said(line) => {
                self.own.nothing_sent();
                self.say_all(line.as_deref())
            }
            Done::Queued(id, message) => {
                let said = self.own.sent(id, &message);
                self.say_of_own(&said)?;
                match self.own.number(id) {
                    Some(number) if !self.contacts.messages_go_out() => {
                        self.say(&format!("[{number}] waits for a connection"))
                    }
                    _ => Ok(()),
                }
            }
            Done::NotQueued(error) => {
                self.own.nothing_sent();
                self.complain(&format!("not sent: {error}"))
            }
        }
    }

    /// Does what the line says. False: that was the last one.
    fn obey(&mut self, line: &str) -> anyhow::Result<bool> {
        let client = self.client.clone();
        let under_way: UnderWay = match command::parse(line) {
            Ok(Command::Nothing) => return Ok(true),
            Ok(Command::Quit) => return Ok(false),
            Ok(Command::Help) => {
                self.say(HELP)?;
                return Ok(true);
            }
            Ok(Command::To(name)) => {
                self.say(&format!("* you write to {}", plain(&name)))?;
                self.to = Some(name);
                return Ok(true);
            }
            Ok(Command::Everybody) => {
                let text = self.contacts.describe();
                self.say(&text)?;
                return Ok(true);
            }
            Err(wrong) => {
                self.complain(&wrong)?;
                return Ok(true);
            }
            Ok(Command::Say(text)) => {
                let Some(to) = self.to.clone() else {
                    self.complain("who to? /to NAME says it")?;
                    return Ok(true);
                };
                let message = NewMessage::text(to, text).ask_receipt().markable();
                Box::pin(async move {
                    match client.send(message.clone()).await {
                        Ok(id) => Done::Queued(id, message),
                        Err(error) => Done::NotQueued(error),
                    }
                })
            }
            Ok(Command::Again(number)) => return self.decide(number, true),
            Ok(Command::Drop(number)) => return self.decide(number, false),
            Ok(Command::Add { jid, name }) => said(async move {
                match client.add(&jid, name.as_deref()).await {
                    // The event that came before has said it.
                    Ok(_) => None,
                    Err(error) => Some(format!("! {}: {error}", plain(&jid))),
                }
            }),
            Ok(Command::Remove(jid)) => said(async move {
                match client.remove(&jid).await {
                    Ok(()) => Some(format!("* {} is no contact any more", plain(&jid))),
                    Err(error) => Some(format!("! {}: {error}", plain(&jid))),
                }
            }),
            Ok(Command::Roster) => {
                let online = self.contacts.online();
                said(async move {
                    match client.roster().await {
                        Ok(items) => Some(contacts::roster(&items, &online)),
                        Err(error) => Some(format!("! {error}")),
                    }
                })
            }
            Ok(Command::Bio(bio)) => said(async move {
                Some(client.bio(&bio).await.map_or_else(|error| format!("! {error}"), |()| "* done".into()))
            }),
            Ok(Command::History(count)) => {
                let Some(with) = self.to.clone() else {
                    self.complain("with whom? /to NAME says it")?;
                    return Ok(true);
                };
                said(async move {
                    match history(&client, with, count).await {
                        Ok(messages) => Some(contacts::history(&messages)),
                        Err(error) => Some(format!("! {error}")),
                    }
                })
            }
            Ok(Command::Explain(number)) => return self.explain(number),
            Ok(Command::Devices) => said(async move {
                match client.devices().await {
                    Ok(devices) => Some(account::devices(&devices)),
                    Err(error) => Some(format!("! {error}")),
                }
            }),
            Ok(Command::Forget(device)) => said(async move {
                match client.remove_device(&device).await {
                    Ok(()) => Some(format!("* {} is logged out", plain(&device))),
                    Err(error) => Some(format!("! {}: {error}", plain(&device))),
                }
            }),
            Ok(Command::Who(name)) => said(async move {
                match client.presence(&name).await {
                    Ok(presence) => Some(format!("* {}", contacts::presence(&presence))),
                    Err(PresenceError::UserNotFound) => Some(format!("! nobody is called {}", plain(&name))),
                    Err(error) => Some(format!("! {error}")),
                }
            }),
        };
        self.under_way = Some(under_way);
        Ok(true)
    }

    fn explain(&mut self, number: u32) -> anyhow::Result<bool> {
        let Some(stanza_id) = self.own.stanza_id(number) else {
            let known = self.own.get(number).is_some();
            let why = if known { "is not stored" } else { "is no message of this start" };
            self.complain(&format!("[{number}] {why}"))?;
            return Ok(true);
        };
        let client = self.client.clone();
        self.under_way = Some(said(async move {
            match client.explain(&stanza_id).await {
                Ok(steps) => Some(account::explained(number, &steps)),
                Err(error) => Some(format!("! [{number}] {error}")),
            }
        }));
        Ok(true)
    }

    /// What is to become of a message that waited for too long.
    fn decide(&mut self, number: u32, again: bool) -> anyhow::Result<bool> {
        let Some((id, message)) = self.own.get(number) else {
            self.complain(&format!("there is no message {number}"))?;
            return Ok(true);
        };
        let client = self.client.clone();
        self.under_way = Some(Box::pin(async move {
            let decided =
                if again { client.send_again(id).await } else { client.discard(id).await.map(|()| id) };
            match decided {
                Ok(new) if again => Done::Queued(new, message),
                Ok(_) => Done::Said(Some(format!("* [{number}] is given up"))),
                Err(error) => Done::NotQueued(error),
            }
        }));
        Ok(true)
    }

    fn show(&mut self, event: &Event) -> anyhow::Result<()> {
        match event {
            Event::Packet { value, .. } => return print(&terminal::one_line(value)),
            Event::UpToDate => self.up_to_date = true,
            // A program that reads packets has not read them for anybody.
            Event::Message(message) if !self.json => self.reading.shown(message),
            Event::Read { stanza_id, .. } => self.reading.read_elsewhere(stanza_id),
            _ => {}
        }
        let said = self.own.hear(event, self.under_way.is_some());
        self.say_of_own(&said)?;
        let line = self.contacts.learn(event);
        self.say_all(line.as_deref())
    }

    fn say_of_own(&self, said: &[Said]) -> anyhow::Result<()> {
        for Said { line, object } in said {
            if self.json {
                print(&terminal::one_line(&object.to_string()))?;
            } else {
                self.say_all(line.as_deref())?;
            }
        }
        Ok(())
    }

    /// Why the end takes a moment.
    fn say_waiting(&self) -> anyhow::Result<()> {
        match self.own.unsettled() {
            0 => Ok(()),
            _ if self.keeps => {
                self.say("* waiting for messages to be stored; Ctrl-C leaves them for the next start")
            }
            _ => self.say("* waiting for messages to be stored; with Ctrl-C they are lost"),
        }
    }

    /// What is left undone at the end.
    fn say_left(&self) -> anyhow::Result<()> {
        match (self.own.unsettled(), self.keeps) {
            (0, _) => Ok(()),
            (count, true) => self.complain(&format!("left for the next start: {}", messages(count))),
            (count, false) => self.complain(&format!("not stored, and lost: {}", messages(count))),
        }
    }

    /// Lines that begin with `!` are complaints.
    fn say_all(&self, text: Option<&str>) -> anyhow::Result<()> {
        match text.map(|text| text.strip_prefix("! ").ok_or(text)) {
            None => Ok(()),
            Some(Ok(complaint)) => self.complain(complaint),
            Some(Err(text)) => self.say(text),
        }
    }

    fn say(&self, text: &str) -> anyhow::Result<()> {
        if self.json { Ok(()) } else { print(text) }
    }

    fn complain(&self, text: &str) -> anyhow::Result<()> {
        if self.json {
            // Nobody may be there to read it.
            let _ = writeln!(io::stderr(), "kurir: {text}");
            return Ok(());
        }
        print(&format!("! {text}"))
    }
}

/// A line as it was typed; what is not UTF-8 in it becomes U+FFFD.
fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
}

fn messages(count: usize) -> String {
    if count == 1 { "1 message".into() } else { format!("{count} messages") }
}

/// The last so many texts of a conversation, the oldest first. What lies between them says nothing to a reader.
async fn history(client: &Client, with: String, count: u64) -> Result<Vec<Message>, RequestError> {
    let mut texts = Vec::new();
    let mut search = Search { limit: Search::MOST, ..Search::with(with) };
    while (texts.len() as u64) < count {
        let page = client.archive(&search).await?;
        let first = page.messages.first().and_then(|message| message.entry.as_ref()).map(|entry| entry.seq);
        let newest_first = page.messages.into_iter().rev().filter(|message| message.body.is_some());
        texts.extend(newest_first.take(usize::try_from(count).unwrap_or(usize::MAX) - texts.len()));
        if page.complete || first.is_none() {
            break;
        }
        search.before = first;
    }
    texts.reverse();
    Ok(texts)
}

fn said(doing: impl Future<Output = Option<String>> + Send + 'static) -> UnderWay {
    Box::pin(async { Done::Said(doing.await) })
}

async fn or_pending(future: Option<&mut UnderWay>) -> Done {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}
