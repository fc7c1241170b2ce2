//! One client connection (M2): what each packet leads to, and what follows its end.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use kurir_directory::{ComponentId, SessionEnd};
use kurir_protocol::{
    Malformed,
    iq::Condition,
    manager::{
        self, AccountRequest, ArchiveRequest, Auth, ExplainRequest, FromClient, PresenceRequest, RelayEntry,
        RosterRequest, ToClient,
    },
    name::UserKey,
    replies,
    session::{Access, AfterFailure, Session as Rules},
};
use kurir_socket::{Flow, Outbox, Pace};
use tokio::net::TcpStream;
use tracing::Instrument;

use crate::{
    accounts::{self, Client, Refusal},
    choice::Chosen,
    manager::{Manager, Temporary},
    online::Online,
    relays::Offer,
};

/// Serves a client from its first byte until it is gone and its contacts know.
pub(crate) async fn serve(manager: Arc<Manager>, stream: TcpStream, address: SocketAddr) {
    let _open = manager.connections.token();
    let outbox = Outbox::new(manager.outbox_bytes);
    let mut connection = Connection {
        outbox: Arc::clone(&outbox),
        // An IPv4 client of an IPv6 listener has the same address at its relay.
        address: address.ip().to_canonical(),
        rules: Rules::new(manager.rules, Instant::now()),
        online: None,
        part_two: false,
        relays: Box::default(),
        manager,
    };
    let manager = Arc::clone(&connection.manager);
    let ended = kurir_socket::run(stream, &mut connection, &outbox, &manager.options, &manager.closing).await;
    tracing::debug!(%address, ?ended, "connection ended");
    manager.metrics.closed.of(ended.label()).inc();
    if let Some(online) = connection.online.take() {
        Box::pin(manager.depart(&online, SessionEnd::Lost)).await;
    }
}

struct Connection {
    manager: Arc<Manager>,
    outbox: Arc<Outbox>,
    address: IpAddr,
    rules: Rules,
    online: Option<Arc<Online>>,
    /// It has used Part II before it logged in.
    part_two: bool,
    relays: Box<KnownRelays>,
}

/// What a connection knows of relays.
#[derive(Default)]
struct KnownRelays {
    /// The one that the user was given last.
    given: Option<Chosen>,
    /// The one that it last failed on, and when.
    failed: Option<(ComponentId, Instant)>,
}

/// Which reply brings a relay.
enum Welcome {
    Created(manager::Session),
    LoggedIn(manager::Session),
    Asked,
}

impl kurir_socket::Session for Connection {
    async fn received(&mut self, value: &str, replies: &mut Vec<u8>) -> Result<Flow, Malformed> {
        let packet = FromClient::parse(value)?;
        // Boxed: the connection's own future stays small while nothing happens.
        Ok(Box::pin(self.handle(packet, replies)).await)
    }

    fn batch_end(&mut self) -> Pace {
        if let Some(online) = &self.online {
            online.release();
        }
        Pace::Go
    }

    fn deadline(&self) -> Option<tokio::time::Instant> {
        self.rules.deadline().map(tokio::time::Instant::from_std)
    }

    fn goodbye(&self) -> String {
        self.online.as_ref().map_or_else(|| replies::goodbye(self.part_two), |online| online.goodbye())
    }

    /// Whoever sees the end may log in elsewhere at once. What is read until the client closes its side is still this user's.
    async fn said_all(&mut self) {
        if let Some(online) = self.online.clone() {
            Box::pin(self.manager.release(&online, SessionEnd::Lost)).await;
        }
    }
}

impl Connection {
    async fn handle(&mut self, packet: FromClient, replies: &mut Vec<u8>) -> Flow {
        match self.rules.access(&packet) {
            Access::Granted => {}
            Access::Ignored => return Flow::Continue,
            Access::NotAuthorized => {
                refuse_before_login(&packet, replies);
                return Flow::Continue;
            }
        }
        match packet {
            FromClient::Hello | FromClient::Ignored => Flow::Continue,
            FromClient::Auth(auth) => {
                // What is no name is only the client's word, and as long as it likes.
                let user = auth.username.as_deref().filter(|name| UserKey::of(name).is_ok());
                let span = kurir_trace::span!("login", user, result = tracing::field::Empty);
                self.authenticate(&auth, replies).instrument(span).await
            }
            FromClient::Iq(request) => {
                if let Some(online) = &self.online {
                    online.used_part_two();
                    request.answer(replies);
                } else {
                    self.part_two = true;
                    request.answer_before_login(replies);
                }
                Flow::Continue
            }
            FromClient::Account(request) => match self.online.clone() {
                Some(online) => self.serve_account(&online, &request, replies).await,
                None => Flow::Continue,
            },
            FromClient::Archive(request) => {
                if let Some(online) = self.online.clone() {
                    self.serve_archive(&online, &request, replies).await;
                }
                Flow::Continue
            }
            FromClient::Explain(request) => {
                if let Some(online) = &self.online {
                    self.serve_explain(online, &request, replies).await;
                }
                Flow::Continue
            }
            packet => match self.online.clone() {
                Some(online) => self.serve_user(&online, packet, replies).await,
                None => Flow::Continue,
            },
        }
    }

    async fn authenticate(&mut self, auth: &Auth, replies: &mut Vec<u8>) -> Flow {
        let client = Client { address: self.address, outbox: Arc::clone(&self.outbox) };
        match self.manager.authenticate(auth, client).await {
            Ok(accounts::Welcome { online, session }) => {
                self.rules.logged_in();
                let welcome =
                    if auth.register { Welcome::Created(session) } else { Welcome::LoggedIn(session) };
                self.offer_relay(&online, &welcome, replies);
                if auth.session.is_some() {
                    online.used_part_two();
                }
                self.online = Some(online);
                Flow::Continue
            }
            Err(refusal) => {
                replies::push(replies, refusal.reply());
                if let Refusal::Temporary(error) = refusal {
                    self.temporary(&error);
                    return Flow::Continue;
                }
                match self.rules.auth_failed() {
                    AfterFailure::TryAgain => Flow::Continue,
                    AfterFailure::Close => Flow::Close,
                }
            }
        }
    }

    /// Requests of a user who is logged in.
    async fn serve_user(&mut self, online: &Online, packet: FromClient, replies: &mut Vec<u8>) -> Flow {
        let manager = Arc::clone(&self.manager);
        if matches!(packet, FromClient::Presence(PresenceRequest::Logout)) {
            // Fenced or not: ending a session cannot be wrong.
            manager.depart(online, SessionEnd::Ended).await;
            self.online = None;
            return Flow::Close;
        }
        let may_act = manager.may_act(online).await;
        let done = match (packet, may_act) {
            (FromClient::Roster(request), may_act) => {
                self.serve_roster(online, &request, may_act, replies).await;
                Ok(())
            }
            (_, Err(error)) => Err(error),
            (FromClient::Presence(request), Ok(())) => manager.presence(online, request, replies).await,
            (FromClient::GetRelay, Ok(())) => {
                self.offer_relay(online, &Welcome::Asked, replies);
                Ok(())
            }
            // Served before.
            (_, Ok(())) => Ok(()),
        };
        if let Err(error) = done {
            replies::push(replies, replies::TEMPORARY_FAILURE);
            self.temporary(&error);
        }
        Flow::Continue
    }

    async fn serve_account(
        &self,
        online: &Arc<Online>,
        request: &AccountRequest,
        replies: &mut Vec<u8>,
    ) -> Flow {
        online.used_part_two();
        let Err(error) = self.manager.may_act(online).await else {
            return self.manager.account(online, request, replies).await;
        };
        let answer = request.answer(Some(online.reader().to));
        answer.refused(replies, Condition::Temporary);
        self.temporary(&error);
        Flow::Continue
    }

    async fn serve_archive(&self, online: &Online, request: &ArchiveRequest, replies: &mut Vec<u8>) {
        online.used_part_two();
        let Err(error) = self.manager.may_act(online).await else {
            return self.manager.archive(online, request, replies).await;
        };
        let answer = request.answer(Some(online.reader().to));
        answer.refused(replies, Condition::Temporary);
        self.temporary(&error);
    }

    async fn serve_explain(&self, online: &Online, request: &ExplainRequest, replies: &mut Vec<u8>) {
        online.used_part_two();
        if let Err(error) = self.manager.explain_own(online, request, replies).await {
            let answer = request.answer(Some(online.reader().to));
            answer.refused(replies, Condition::Temporary);
            self.temporary(&error);
        }
    }

    async fn serve_roster(
        &self,
        online: &Online,
        request: &RosterRequest,
        may_act: Result<(), Temporary>,
        replies: &mut Vec<u8>,
    ) {
        if request.id.is_some() {
            online.used_part_two();
        }
        let Err(error) = may_act else { return self.manager.roster(online, request, replies).await };
        let (condition, id) = (Condition::Temporary, request.id.as_ref());
        ToClient::RosterError { condition, to: Some(online.reader().to), id }.write(replies);
        self.temporary(&error);
    }

    /// M13, M14: whoever asks again has failed on the relay given before.
    fn offer_relay(&mut self, online: &Online, welcome: &Welcome, replies: &mut Vec<u8>) {
        let now = Instant::now();
        let failed = self.relays.given.take();
        if let Some(failed) = &failed {
            self.relays.failed = Some((failed.id.clone(), now));
        }
        let lately = |at: Instant| now.duration_since(at) < self.manager.relay_failed;
        let avoid = self.relays.failed.as_ref().filter(|(_, at)| lately(*at)).map(|(relay, _)| relay);
        let offer = self.manager.relays.offer(online, failed.as_ref(), avoid);
        let relay = offer.as_ref().map(entry);
        match welcome {
            Welcome::Created(session) => ToClient::AccountCreated { relay, jid: online.jid(), session },
            Welcome::LoggedIn(session) => ToClient::LoggedIn { relay, jid: online.jid(), session },
            Welcome::Asked => ToClient::RelayLessConnection { relay },
        }
        .write(replies);
        self.relays.given = offer.map(|offer| offer.relay);
    }

    fn temporary(&self, error: &Temporary) {
        if matches!(error, Temporary::Abandoned) {
            return tracing::debug!(error = error as &dyn std::error::Error, "a request is not done");
        }
        self.manager.metrics.temporary_failure();
        tracing::warn!(error = error as &dyn std::error::Error, "a request was answered with 503");
    }
}

fn entry(offer: &Offer) -> RelayEntry<'_> {
    RelayEntry {
        id: offer.relay.id.as_str(),
        host: &offer.relay.address.host,
        port: offer.relay.address.port,
        connections: offer.relay.connections,
        token: Some(&offer.token),
    }
}

fn refuse_before_login(packet: &FromClient, replies: &mut Vec<u8>) {
    match packet {
        FromClient::Roster(request) => {
            let (condition, id) = (Condition::NotLoggedIn, request.id.as_ref());
            ToClient::RosterError { condition, to: None, id }.write(replies);
        }
        FromClient::Account(request) => {
            request.answer(None).refused(replies, Condition::NotLoggedIn);
        }
        FromClient::Archive(request) => {
            request.answer(None).refused(replies, Condition::NotLoggedIn);
        }
        FromClient::Explain(request) => {
            request.answer(None).refused(replies, Condition::NotLoggedIn);
        }
        FromClient::Iq(request) => request.answer_before_login(replies),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// With the session (about 300 bytes), its outbox, its entry in the map and tokio's task, within 3 KiB.
    #[test]
    fn an_idle_connection_is_small() {
        let size = size_of_future(serve);
        assert!(size <= 1536, "{size}");
        assert!(size_of::<Online>() <= 320, "{}", size_of::<Online>());
    }
}
