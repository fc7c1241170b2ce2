//! `kurir chat`: the terminal client, line mode. Works the same in a pipe: commands from stdin, one a line.
//!
//! - `account`: what the servers know of the account
//! - `command`: what a line means
//! - `contacts`: what an event says, and who is on and off
//! - `lines`: what is typed, as far as it could be sent
//! - `obey`: doing what a line says
//! - `own`: what becomes of one's own messages
//! - `reading`: telling others that their messages are read
//! - `sending`: messages on their way into the queue
//! - `start`: who to be, and the way online
//! - `state`: where what outlives the process is kept
//! - `terminal`: asking for a password; text of others that cannot play with the terminal

mod account;
mod command;
mod contacts;
mod lines;
mod obey;
mod own;
mod reading;
mod sending;
mod start;
mod state;
mod terminal;

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, bail};
use kurir_client::{Client, Ended, Event, Events, MessageId, NewMessage, SendError, same_user};
use tokio::io::{BufReader, Stdin};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use self::command::HELP;
use self::contacts::{Answer, Contacts};
use self::lines::{Line, Lines};
use self::own::{Own, Said};
use self::reading::Reading;
use self::sending::Sending;

/// Before logging out, how long is waited for messages to be stored, and for those that waited here to come.
const FINISH_WITHIN: Duration = Duration::from_secs(10);

/// Questions that wait for an answer: beyond that no line is read before there is one.
const MOST_ASKED: usize = 64;

/// Chat in the terminal, or in a pipe.
///
/// Type to write to whomever /to names; lines that begin with a slash are commands, and /help shows them. In a pipe the
/// same lines come from stdin, and its end logs out.
///
/// Messages are stored for whoever is offline. Each has a number, and what becomes of it is said by that: sent,
/// stored, delivered (the other's client has it), read. What is not stored yet, and how far you have read, is kept in a
/// file for the next start, which sends the rest and shows what has come meanwhile with its time; a new file begins with
/// all there is. A chat that did not end with /quit needs no password the next time.
///
/// It ends with 0 if every message was stored or is left for the next start, and with 1 if one was refused, lost or not sent.
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
    /// `event`: waiting, queued, sent, stored, delivered, read, refused (without number and id: not even queued; with a
    /// `body` of null: a line longer than any message), expired.
    /// What else goes wrong is said on stderr.
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
        sending: Sending::default(),
        reading: Reading::default(),
        up_to_date: !keeps,
        keeps,
        under_way: None,
        asked: VecDeque::new(),
        interrupt,
    };
    let ended = chat.talk(Lines::new(BufReader::new(tokio::io::stdin()))).await;
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

type Doing<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Something for the queue of messages: it is written to the file at most.
type UnderWay = Doing<Done>;

/// A question to the manager.
type Asked = Doing<Answer>;

/// How a change of the queue ended.
enum Done {
    /// With something to say, or not.
    Said(Option<String>),
    /// A message is in the queue.
    Queued(MessageId, NewMessage),
    /// A message is not.
    NotQueued(NewMessage, SendError),
    /// The queue is full of these.
    NoRoom(NewMessage, Vec<MessageId>),
    /// The queue is full: a sender is to be told later that this message is read.
    NotTold(String, String),
}

struct Chat {
    client: Client,
    events: Events,
    contacts: Contacts,
    own: Own,
    sending: Sending,
    reading: Reading,
    /// Who a line without a slash goes to.
    to: Option<String>,
    json: bool,
    /// There is a state file.
    keeps: bool,
    /// What waited here has been shown.
    up_to_date: bool,
    /// The message that was typed last, until it is in the queue: they are sent in order.
    under_way: Option<UnderWay>,
    /// What the manager is asked, one after the other: what is typed meanwhile does not wait for that.
    asked: VecDeque<Asked>,
    interrupt: Signal,
}

enum Happened {
    Event(Option<Event>),
    Line(Option<Line>),
    Done(Done),
    Answered(Answer),
    Interrupted,
    /// Nothing more to come after the end of the input.
    Quiet,
}

impl Chat {
    async fn talk(&mut self, mut lines: Lines<BufReader<Stdin>>) -> anyhow::Result<()> {
        let mut reading = true;
        let mut finish_by: Option<Instant> = None;
        let mut leaving: Option<UnderWay> = None;
        if !self.json && io::stdin().is_terminal() {
            self.say("/to NAME says who you write to, /help the rest.")?;
        }
        loop {
            if self.under_way.is_none() && !self.sending.must_wait() {
                self.try_waiting();
            }
            let idle = self.under_way.is_none() && leaving.is_none() && !self.sending.holds();
            let read = reading && idle && self.asked.len() < MOST_ASKED;
            let finished = self.own.unsettled() == 0 && self.up_to_date && self.asked.is_empty();
            let finish = if finished { None } else { finish_by };
            let happened = tokio::select! {
                // What has come is shown before the next command.
                biased;
                event = self.events.next() => Happened::Event(event),
                done = or_pending(self.under_way.as_mut()) => Happened::Done(done),
                done = or_pending(leaving.as_mut()) => Happened::Done(done),
                answer = or_pending(self.asked.front_mut()) => Happened::Answered(answer),
                _ = self.interrupt.recv() => Happened::Interrupted,
                line = lines.next(), if read => Happened::Line(line.context("stdin")?),
                () = sleep_until(finish.unwrap_or_else(Instant::now)), if !reading && idle => Happened::Quiet,
            };
            match happened {
                Happened::Event(Some(Event::Ended(Ended::LoggedOut)) | None) => return self.finish().await,
                Happened::Event(Some(Event::Ended(ended))) => {
                    return match self.finish().await {
                        Err(error) if is_broken_pipe(&error) => Err(error),
                        _ => bail!("the session is over: {ended}"),
                    };
                }
                Happened::Event(Some(event)) => self.show(&event)?,
                Happened::Done(done) => {
                    self.under_way = None;
                    self.done(done)?;
                }
                Happened::Answered(answer) => {
                    self.asked.pop_front();
                    self.say_all(self.contacts.shown(answer).as_deref())?;
                }
                Happened::Line(line) => {
                    reading = match line {
                        Some(Line::Text(line)) => self.obey(&line)?,
                        Some(Line::TooLong(limit)) => self.too_long(limit)?,
                        None => false,
                    };
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
                self.sending.found_room();
                let said = self.own.sent(id, &message);
                self.say_of_own(&said)?;
                match self.own.number(id) {
                    Some(number) if !self.contacts.messages_go_out() => {
                        self.say(&format!("[{number}] waits for a connection"))
                    }
                    _ => Ok(()),
                }
            }
            Done::NotQueued(message, error) => {
                self.own.nothing_sent();
                self.not_sent(&message, &explain(&error))
            }
            Done::NoRoom(message, waiting) => {
                self.own.nothing_sent();
                self.sending.found_no_room();
                if self.sending.must_wait() && !waiting.is_empty() && self.own.are_for_the_user(&waiting) {
                    return self.not_sent(&message, &SendError::QueueFull.to_string());
                }
                if self.sending.hold(message) {
                    self.say("* too many messages wait to be sent: what comes next waits for room")?;
                }
                Ok(())
            }
            Done::NotTold(from, stanza_id) => {
                self.own.nothing_sent();
                self.sending.found_no_room();
                self.reading.not_told(from, stanza_id);
                Ok(())
            }
        }
    }

    /// The line that is held comes first, then what others are to be told.
    fn try_waiting(&mut self) {
        if let Some(message) = self.sending.take() {
            self.send(message);
        } else if self.up_to_date {
            self.under_way = self.reading.tell(&self.client);
            self.sending.tries();
        }
    }

    fn send(&mut self, message: NewMessage) {
        self.sending.tries();
        let client = self.client.clone();
        self.under_way = Some(Box::pin(async move {
            match client.send(message.clone()).await {
                Ok(id) => Done::Queued(id, message),
                Err(SendError::QueueFull) => {
                    let waiting = client.waiting().await;
                    Done::NoRoom(message, waiting.iter().map(|waiting| waiting.id).collect())
                }
                Err(error) => Done::NotQueued(message, error),
            }
        }));
    }

    fn not_sent(&mut self, message: &NewMessage, why: &str) -> anyhow::Result<()> {
        let said = self.own.not_sent(message, why);
        self.say_of_own(&[said])
    }

    /// Nothing is left of the line, but that it was there. The next one is read all the same.
    fn too_long(&mut self, limit: usize) -> anyhow::Result<bool> {
        let to = self.to.clone().unwrap_or_default();
        let message = NewMessage { body: None, ..NewMessage::text(to, "") };
        self.not_sent(&message, &explain(&SendError::TooLarge { limit }))?;
        Ok(true)
    }

    /// The session is over: what was not sent, and is not kept, makes it a failure.
    async fn finish(&mut self) -> anyhow::Result<()> {
        // It ends with the session. A message may be in it.
        if let Some(done) = self.under_way.take() {
            let done = done.await;
            self.done(done)?;
        }
        if let Some(message) = self.sending.take() {
            self.not_sent(&message, &SendError::QueueFull.to_string())?;
        }
        while let Some(asked) = self.asked.pop_front() {
            let answer = asked.await;
            self.say_all(self.contacts.shown(answer).as_deref())?;
        }
        self.say_left()?;
        let lost = if self.keeps { 0 } else { self.own.unsettled() };
        match self.own.refused() + lost {
            0 => Ok(()),
            count => bail!("not sent: {}", messages(count)),
        }
    }

    fn show(&mut self, event: &Event) -> anyhow::Result<()> {
        match event {
            Event::Packet { value, .. } => return print(&terminal::one_line(value)),
            Event::UpToDate => self.up_to_date = true,
            // A program that reads packets has not read them for anybody.
            Event::Message(message) if !self.json => self.reading.shown(message),
            Event::Read { by, stanza_id, .. } if same_user(by, self.client.username()) => {
                self.reading.read_elsewhere(stanza_id);
            }
            _ => {}
        }
        self.sending.hear(event);
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

/// What to do about it, where there is something.
fn explain(error: &SendError) -> String {
    match error {
        SendError::TooLarge { .. } => format!("{error}; send it in several lines"),
        _ => error.to_string(),
    }
}

fn messages(count: usize) -> String {
    if count == 1 { "1 message".into() } else { format!("{count} messages") }
}

async fn or_pending<T>(future: Option<&mut Doing<T>>) -> T {
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
