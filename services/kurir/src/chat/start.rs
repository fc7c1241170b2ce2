//! Who to be, and the way online.

use std::time::Duration;

use anyhow::{Context, anyhow};
use kurir_client::{Client, ConnectError, Events, Options, Refusal, StateError};
use tokio::signal::unix::Signal;

use super::{Args, state, terminal};

/// Somebody is waiting in front of the terminal.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Somebody who is online.
pub(super) struct Connected {
    pub(super) client: Client,
    pub(super) events: Events,
    pub(super) username: String,
    /// There is a state file.
    pub(super) keeps: bool,
}

/// Logs in, or registers. None: interrupted.
pub(super) async fn connect(args: &Args, interrupt: &mut Signal) -> anyhow::Result<Option<Connected>> {
    let mut options = options(args, interrupt).await?;
    let (username, keeps) = (options.username.clone(), options.state.is_some());
    loop {
        let connected = tokio::select! {
            connected = Client::connect(options.clone()) => connected,
            _ = interrupt.recv() => return Ok(None),
        };
        match connected {
            Ok((client, events)) => return Ok(Some(Connected { client, events, username, keeps })),
            // None was needed as long as there was hope.
            Err(ConnectError::Refused(Refusal::SessionOver)) => {
                options.password = password(args, interrupt).await?;
            }
            Err(error) => return Err(explain(error, args.register)),
        }
    }
}

async fn options(args: &Args, interrupt: &mut Signal) -> anyhow::Result<Options> {
    let username = match &args.user {
        Some(user) => user.clone(),
        None => terminal::ask("User: ", interrupt).await?.context("who are you? Give --user NAME")?,
    };
    let state = match (&args.state, args.no_state) {
        (_, true) => None,
        (Some(path), _) => Some(path.clone()),
        (None, _) => {
            let tracker = args.tracker.first().map_or("", String::as_str);
            let path = state::default_path(tracker, &username, args.device.as_deref());
            Some(path.context("where to keep messages? Set HOME, or give --state FILE or --no-state")?)
        }
    };
    // A session that is kept goes first.
    let password = match &state {
        Some(_) if !args.register => given_password(args).unwrap_or_default(),
        _ => password(args, interrupt).await?,
    };
    let mut options = Options::new(args.tracker.iter().cloned(), username, password);
    options.register = args.register;
    options.resource.clone_from(&args.device);
    options.packets = args.json;
    options.state = state;
    options.timing.connect = CONNECT_WITHIN;
    Ok(options)
}

fn given_password(args: &Args) -> Option<String> {
    args.password.clone().or_else(|| std::env::var("KURIR_PASSWORD").ok()).filter(|given| !given.is_empty())
}

async fn password(args: &Args, interrupt: &mut Signal) -> anyhow::Result<String> {
    if let Some(password) = given_password(args) {
        return Ok(password);
    }
    let asked = terminal::ask_secretly("Password: ", interrupt).await?;
    asked.context("no password: set KURIR_PASSWORD, or give --password")
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
            "log out there first, or give this device a name with --device; a connection that was cut counts for up to \
             half a minute"
        }
        ConnectError::State(StateError::InUse { .. }) => {
            "the user chats in another terminal, or give another --state FILE"
        }
        ConnectError::State(StateError::NotAFile { .. }) => "give another --state FILE, or --no-state",
        ConnectError::State(_) => "move it away, or give another --state FILE; messages may be in it",
        ConnectError::TimedOut(_) => "is the system running, and is --tracker its tracker?",
        _ => return error.into(),
    };
    anyhow!("{:#}; {advice}", anyhow::Error::from(error))
}
