//! `kurir chat`: the terminal client, line mode. Works the same in a pipe: commands from stdin, one a line.
//!
//! - `command`: what a line means
//! - `contacts`: what an event says, and who is on and off
//! - `terminal`: asking for a password; text of others that cannot play with the terminal

mod command;
mod contacts;
mod terminal;

use std::future::{Future, pending};
use std::io::{self, IsTerminal, Write};
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use kurir_client::{Client, ConnectError, Ended, Event, Events, Options, PresenceError, Refusal};
use tokio::io::{AsyncBufReadExt, BufReader, Split, Stdin};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use self::command::{Command, HELP};
use self::contacts::Contacts;
use self::terminal::plain;

/// Somebody is waiting in front of the terminal.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// After the last message of a pipe, how long "reached nobody" is waited for before logging out.
const BOUNCE_WAIT: Duration = Duration::from_secs(1);

/// Chat in the terminal, or in a pipe.
///
/// Type to write to whomever /to names; lines that begin with a slash are commands, and /help shows them. In a pipe the
/// same lines come from stdin, and its end logs out.
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
    /// Print every packet received as one line of JSON, and nothing else, on stdout. What goes wrong is said on stderr.
    #[arg(long)]
    json: bool,
}

/// Runs until `/quit`, the end of stdin, or Ctrl-C.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let options = options(&args, &mut interrupt).await?;
    let (username, register) = (options.username.clone(), options.register);
    let connecting = Client::connect(options);
    let (client, events) = tokio::select! {
        connected = connecting => connected.map_err(|error| explain(error, register))?,
        _ = interrupt.recv() => return Ok(()),
    };
    let mut chat = Chat {
        client,
        events,
        contacts: Contacts::new(username),
        to: None,
        json: args.json,
        under_way: None,
        sent: None,
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

async fn options(args: &Args, interrupt: &mut Signal) -> anyhow::Result<Options> {
    let username = match &args.user {
        Some(user) => user.clone(),
        None => terminal::ask("User: ", interrupt).await?.context("who are you? Give --user NAME")?,
    };
    let from_environment = || std::env::var("KURIR_PASSWORD").ok();
    let password = match args.password.clone().or_else(from_environment) {
        Some(password) => password,
        None => terminal::ask_secretly("Password: ", interrupt)
            .await?
            .context("no password: set KURIR_PASSWORD, or give --password")?,
    };
    let mut options = Options::new(args.tracker.iter().cloned(), username, password);
    options.register = args.register;
    options.packets = args.json;
    options.timing.connect = CONNECT_WITHIN;
    Ok(options)
}

/// What to do about it, where there is something.
fn explain(error: ConnectError, register: bool) -> anyhow::Error {
    let advice = match &error {
        ConnectError::Refused(Refusal::UserNotFound) => "create the account with --register",
        ConnectError::Refused(Refusal::UsernameUsed) => {
            "choose another name, or leave --register out if the account is yours"
        }
        ConnectError::Refused(Refusal::BadCredentials) if register => {
            "a username has no spaces and none of \" & ' / : < > @, a password no spaces"
        }
        ConnectError::Refused(Refusal::AlreadyLoggedIn) => {
            "log out there first; a connection that was cut counts for up to half a minute"
        }
        ConnectError::TimedOut(_) => "is the system running, and is --tracker its tracker?",
        _ => return error.into(),
    };
    anyhow!("{:#}; {advice}", anyhow::Error::from(error))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

type UnderWay = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

struct Chat {
    client: Client,
    events: Events,
    contacts: Contacts,
    /// Who a line without a slash goes to.
    to: Option<String>,
    json: bool,
    /// The command that was typed last, until it is answered: a pipe's commands are done in order.
    under_way: Option<UnderWay>,
    /// When the last message went out.
    sent: Option<Instant>,
    interrupt: Signal,
}

enum Happened {
    Event(Option<Event>),
    Line(Option<String>),
    Done(Option<String>),
    Interrupted,
    /// Nothing more to come after the end of the input.
    Quiet,
}

impl Chat {
    async fn talk(&mut self, mut lines: Split<BufReader<Stdin>>) -> anyhow::Result<()> {
        let mut reading = true;
        let mut leaving: Option<UnderWay> = None;
        if !self.json && io::stdin().is_terminal() {
            self.say("/to NAME says who you write to, /help the rest.")?;
        }
        loop {
            let idle = self.under_way.is_none() && leaving.is_none();
            let bounced = self.sent.map_or_else(Instant::now, |sent| sent + BOUNCE_WAIT);
            let happened = tokio::select! {
                // What has come is shown before the next command.
                biased;
                event = self.events.next() => Happened::Event(event),
                line = or_pending(self.under_way.as_mut()) => Happened::Done(line),
                line = or_pending(leaving.as_mut()) => Happened::Done(line),
                _ = self.interrupt.recv() => Happened::Interrupted,
                line = lines.next_segment(), if reading && idle => {
                    Happened::Line(line.context("stdin")?.as_deref().map(text))
                }
                () = sleep_until(bounced), if !reading && idle => Happened::Quiet,
            };
            match happened {
                Happened::Event(Some(Event::Ended(Ended::LoggedOut)) | None) => return Ok(()),
                Happened::Event(Some(Event::Ended(ended))) => bail!("the session is over: {ended}"),
                Happened::Event(Some(event)) => self.show(&event)?,
                Happened::Done(line) => {
                    self.under_way = None;
                    self.say_all(line.as_deref())?;
                }
                Happened::Line(Some(line)) => reading = self.obey(&line)?,
                Happened::Line(None) => reading = false,
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
                self.sent = Some(Instant::now());
                Box::pin(async move { failed(client.send_untracked(&to, &text).await) })
            }
            Ok(Command::Add { jid, name }) => Box::pin(async move {
                match client.add(&jid, name.as_deref()).await {
                    // The event that came before has said it.
                    Ok(_) => None,
                    Err(error) => Some(format!("! {}: {error}", plain(&jid))),
                }
            }),
            Ok(Command::Remove(jid)) => Box::pin(async move {
                match client.remove(&jid).await {
                    Ok(()) => Some(format!("* {} is no contact any more", plain(&jid))),
                    Err(error) => Some(format!("! {}: {error}", plain(&jid))),
                }
            }),
            Ok(Command::Roster) => {
                let online = self.contacts.online();
                Box::pin(async move {
                    match client.roster().await {
                        Ok(items) => Some(contacts::roster(&items, &online)),
                        Err(error) => Some(format!("! {error}")),
                    }
                })
            }
            Ok(Command::Bio(bio)) => Box::pin(async move {
                Some(client.bio(&bio).await.map_or_else(|error| format!("! {error}"), |()| "* done".into()))
            }),
            Ok(Command::Who(name)) => Box::pin(async move {
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

    fn show(&mut self, event: &Event) -> anyhow::Result<()> {
        if let Event::Packet { value, .. } = event {
            return print(&terminal::one_line(value));
        }
        let line = self.contacts.learn(event);
        self.say_all(line.as_deref())
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

fn failed<E: std::fmt::Display>(result: Result<(), E>) -> Option<String> {
    result.err().map(|error| format!("! not sent: {error}"))
}

async fn or_pending(future: Option<&mut UnderWay>) -> Option<String> {
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
