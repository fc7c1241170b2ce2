//! Doing what a line says.

use kurir_client::{NewMessage, PresenceError};

use super::command::{self, Command, HELP};
use super::contacts::Answer;
use super::terminal::plain;
use super::{Asked, Chat, Done, account, contacts};

impl Chat {
    /// Does what the line says. False: that was the last one.
    pub(super) fn obey(&mut self, line: &str) -> anyhow::Result<bool> {
        let client = self.client.clone();
        let asked: Asked = match command::parse(line) {
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
                let to = self.to.clone().unwrap_or_default();
                let message = NewMessage::text(to, text).ask_receipt().markable();
                if self.to.is_none() {
                    self.not_sent(&message, "who to? /to NAME says it")?;
                } else {
                    self.send(message);
                }
                return Ok(true);
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
            Ok(Command::Roster) => Box::pin(async move {
                match client.roster().await {
                    Ok(items) => Answer::Roster(items),
                    Err(error) => Answer::Said(Some(format!("! {error}"))),
                }
            }),
            Ok(Command::Bio(bio)) => said(async move {
                Some(client.bio(&bio).await.map_or_else(|error| format!("! {error}"), |()| "* done".into()))
            }),
            Ok(Command::History(count)) => {
                let Some(with) = self.to.clone() else {
                    self.complain("with whom? /to NAME says it")?;
                    return Ok(true);
                };
                said(async move {
                    match account::history(&client, with, count).await {
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
        self.asked.push_back(asked);
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
        self.asked.push_back(said(async move {
            match client.explain(&stanza_id).await {
                Ok(explanation) => Some(account::explained(number, &explanation)),
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
                Err(error) => Done::Said(Some(format!("! [{number}] not done: {error}"))),
            }
        }));
        Ok(true)
    }
}

/// A question whose answer is a line, or nothing.
fn said(line: impl Future<Output = Option<String>> + Send + 'static) -> Asked {
    Box::pin(async move { Answer::Said(line.await) })
}
