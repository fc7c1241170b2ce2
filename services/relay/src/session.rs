//! One client's socket, from its first packet to its end: what each packet does.

use std::{
    mem,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use kurir_delivery::storing::Sender;
use kurir_protocol::{
    Malformed,
    name::{Address, Resource, UserKey},
    relay::{FromClient, Hello, Message, MessageId, Refusal, not_delivered, readdress, refuse, refuse_ack},
    replies,
};
use kurir_socket::{
    Flow, Outbox, Pace, Session,
    outbox::{Closed, Fill},
};
use kurir_trail::Reason;
use tokio::{net::TcpStream, time::Instant};

use crate::{
    admission::Refused, connection::Connection, link::Link, metrics::Way, readers, relay::Relay,
    router::Routed, tracked::quoted,
};

/// Two in a row is a receiver that reconnects; more is one that never reads.
const TRIES: usize = 3;

/// Serves a client until its connection is over.
pub(crate) async fn serve(relay: Arc<Relay>, stream: TcpStream, peer: SocketAddr) {
    let outbox = Outbox::new(relay.settings.outbox_bytes);
    let options = relay.settings.socket;
    let closing = relay.closing.clone();
    let mut client = Client {
        deadline: Some(Instant::now() + relay.settings.hello_deadline),
        address: peer.ip(),
        outbox: Arc::clone(&outbox),
        me: None,
        receiver: None,
        part_two: false,
        others: Vec::new(),
        batch: Batch::default(),
        complaints: Vec::new(),
        relay,
    };
    let ended = kurir_socket::run(stream, &mut client, &outbox, &options, &closing).await;
    tracing::debug!(%peer, ?ended, "connection closed");
    client.relay.metrics.closed.of(ended.label()).inc();
    let at_us = kurir_trail::now_us();
    if let Some(me) = client.me.take() {
        Box::pin(client.relay.dismiss(&me)).await;
        client.relay.note_end(&me, at_us, &ended);
    }
}

struct Client {
    relay: Arc<Relay>,
    outbox: Arc<Outbox>,
    address: IpAddr,
    /// Until there is a hello.
    deadline: Option<Instant>,
    me: Option<Arc<Connection>>,
    /// It has used Part II before its hello.
    part_two: bool,
    /// Who the last message went to, by the name that this client wrote, if connected here.
    receiver: Option<Receiver>,
    /// Whom else this batch went to.
    others: Vec<Woken>,
    batch: Batch,
    complaints: Vec<Complaint>,
}

/// What a client does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Complaint {
    BadId,
    TrackedState,
    Ack,
}

struct Receiver {
    to: Box<str>,
    connection: Arc<Connection>,
    /// Has something of this batch.
    owed: bool,
}

/// A message on its way.
#[derive(Clone, Copy)]
struct Outgoing<'a> {
    me: &'a Arc<Connection>,
    /// As the client wrote it.
    address: &'a str,
    to: Address<'a>,
    message: &'a Message<'a>,
}

impl<'a> Outgoing<'a> {
    fn new(me: &'a Arc<Connection>, address: &'a str, message: &'a Message<'a>) -> Self {
        Self { me, address, to: Address::of(address), message }
    }

    /// As a canonical line.
    fn write(&self, out: &mut Vec<u8>) {
        if self.to.domain.is_none() {
            return self.message.write(&self.me.name, out);
        }
        let mut line = Vec::new();
        self.message.write(&self.me.name, &mut line);
        let stanza = str::from_utf8(line.trim_ascii_end()).unwrap_or_default();
        readdress(stanza, &self.me.name, self.to.name, out);
        out.push(b'\n');
    }

    /// To a connection here, without waking it. Between clients of the original nothing is written but the line.
    fn deliver(&self, to: &Connection) -> Result<Fill, Closed> {
        if !self.me.resource.is_named() && !to.resource.is_named() {
            return to.outbox.push_with(|out| self.write(out));
        }
        let mut line = Vec::new();
        self.write(&mut line);
        to.deliver(line.strip_suffix(b"\n").unwrap_or(&line))
    }
}

enum Woken {
    Receiver(Arc<Connection>),
    Link(Arc<Link>),
}

/// What one read has come to so far.
#[derive(Default)]
struct Batch {
    /// The fence was asked.
    checked: bool,
    heavy: bool,
    here: u32,
    linked: u32,
    waiting: u32,
    refused: u32,
}

impl Session for Client {
    async fn received(&mut self, value: &str, replies: &mut Vec<u8>) -> Result<Flow, Malformed> {
        if !self.batch.checked {
            if !self.relay.fence.may_act() && !Box::pin(self.relay.fence.until_it_may_act()).await {
                replies::push(replies, replies::TEMPORARY_FAILURE);
                return Ok(Flow::Close);
            }
            // It may have lost its device meanwhile: what it had sent by then is nobody's to say any more. Of one that parts
            // it is what it sent before it knew.
            if self.me.is_some() && self.outbox.is_closed() && !self.outbox.has_parted() {
                return Ok(Flow::Close);
            }
            self.batch.checked = true;
        }
        let hello = match FromClient::parse(value)? {
            FromClient::Message(message) => {
                self.message(&message, replies);
                return Ok(Flow::Continue);
            }
            FromClient::Iq(request) => {
                if let Some(me) = &self.me {
                    me.used_part_two();
                    request.answer(replies);
                } else {
                    self.part_two = true;
                    request.answer_before_login(replies);
                }
                return Ok(Flow::Continue);
            }
            FromClient::Ack(seq) => {
                self.acknowledged(seq, replies);
                return Ok(Flow::Continue);
            }
            FromClient::Hello(hello) => hello,
            FromClient::Ignored => return Ok(Flow::Continue),
        };
        // A second hello on one connection fits no row.
        if self.me.is_some() {
            return Ok(Flow::Continue);
        }
        Ok(Box::pin(self.hello(hello, replies)).await)
    }

    fn batch_end(&mut self) -> Pace {
        let batch = mem::take(&mut self.batch);
        let mut heavy = batch.heavy;
        if let Some(receiver) = self.receiver.as_mut().filter(|receiver| receiver.owed) {
            receiver.owed = false;
            receiver.connection.outbox.wake();
        }
        for other in mem::take(&mut self.others) {
            match other {
                Woken::Receiver(receiver) => receiver.outbox.wake(),
                Woken::Link(link) => {
                    link.wake();
                    heavy |= link.is_heavy();
                }
            }
        }
        self.count(&batch);
        // Whoever asks for ever more names must not use up everybody's look-ups.
        heavy |= batch.waiting > 0 && self.relay.router.lookups.is_busy();
        if heavy { Pace::Ease } else { Pace::Go }
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn is_owed(&self) -> bool {
        self.me.as_ref().is_some_and(|me| me.is_owed())
    }

    fn goodbye(&self) -> String {
        self.me.as_ref().map_or_else(|| replies::goodbye(self.part_two), |me| me.goodbye())
    }
}

impl Client {
    async fn hello(&mut self, hello: Hello, replies: &mut Vec<u8>) -> Flow {
        match self.relay.admit(hello, self.address, &self.outbox).await {
            Ok(connection) => {
                readers::begin(&self.relay, &connection);
                self.me = Some(connection);
                self.deadline = None;
                Flow::Continue
            }
            Err(Refused::Unauthorized(_)) => {
                replies::push(replies, replies::UNAUTHORIZED);
                Flow::Close
            }
            Err(Refused::Directory(_) | Refused::Fenced) => {
                replies::push(replies, replies::TEMPORARY_FAILURE);
                Flow::Close
            }
        }
    }

    /// R13 to R16. Before the hello a message fits no row.
    fn message(&mut self, message: &Message<'_>, replies: &mut Vec<u8>) {
        let Some(me) = self.me.clone() else { return };
        match message.id() {
            MessageId::None => {}
            MessageId::Tracked(id) => {
                me.used_part_two();
                return self.track(&me, id, message, replies);
            }
            MessageId::Bad(id) => {
                self.complain(&me, Complaint::BadId, "sent a message with an id that is none");
                return refuse(replies, &me.name, id, Refusal::BadId);
            }
        }
        let sent = message.to().is_some_and(|to| self.send(&Outgoing::new(&me, to, message)));
        if !sent {
            self.batch.refused += 1;
            if message.is_bounced() {
                me.write_not_delivered(replies);
            }
        }
    }

    /// What a client has done wrong, once for each connection and kind.
    fn complain(&mut self, me: &Connection, complaint: Complaint, what: &'static str) {
        if !self.complaints.contains(&complaint) {
            self.complaints.push(complaint);
            tracing::info!(user = &*me.user, device = %me.resource, address = %self.address, "a client {what}");
        }
    }

    /// Part II: stored first, and then acknowledged.
    fn track(&mut self, me: &Arc<Connection>, id: &str, message: &Message<'_>, replies: &mut Vec<u8>) {
        if message.is_state() {
            self.complain(me, Complaint::TrackedState, "wanted a chat state stored");
            me.order().settle(id);
            return refuse(replies, &me.name, &quoted(id), Refusal::State);
        }
        let address = message.to().filter(|to| self.is_ours(Address::of(to)));
        let to = address.and_then(|to| UserKey::of(Address::of(to).name).ok());
        let (Some(address), Some(to)) = (address, to) else {
            self.relay.note_refused(me, id, Reason::NoAccount);
            me.order().settle(id);
            return not_delivered(replies, &me.name, id);
        };
        let mut line = Vec::new();
        Outgoing::new(me, address, message).write(&mut line);
        // A canonical line is text, and a stanza has no LF.
        let stanza = String::from_utf8(line).unwrap_or_default();
        if let Err(reason) = self.relay.tracked.send(me, id, &to, stanza.trim_ascii_end().to_owned()) {
            refuse(replies, &me.name, &quoted(id), Refusal::Wait);
            self.relay.note_refused(me, id, reason);
        }
        self.batch.heavy |= self.relay.tracked.is_heavy();
    }

    /// Part II: the device has everything up to `seq`.
    fn acknowledged(&mut self, seq: u64, replies: &mut Vec<u8>) {
        let Some(me) = self.me.clone() else { return };
        if me.reading().acknowledged(seq) {
            self.relay.note_acked(&me, seq);
            self.relay.readers.moved(&me);
        } else {
            self.complain(&me, Complaint::Ack, "acknowledged what it was not sent");
            refuse_ack(replies, seq);
        }
    }

    /// Whether an address is one of this system's.
    fn is_ours(&self, to: Address<'_>) -> bool {
        to.domain.is_none() || self.relay.domain.get().is_some_and(|domain| to.is_at(domain))
    }

    /// False: nowhere, now.
    fn send(&mut self, outgoing: &Outgoing<'_>) -> bool {
        let Outgoing { me, address: to, .. } = *outgoing;
        if let Some(receiver) = self.receiver.as_mut().filter(|receiver| *receiver.to == *to)
            && receiver.connection.is_alone()
            && let Ok(fill) = outgoing.deliver(&receiver.connection)
        {
            receiver.owed = true;
            self.batch.here += 1;
            self.batch.heavy |= fill == Fill::Heavy;
            return true;
        }
        let Some(user) = UserKey::map(outgoing.to.name).filter(|_| self.is_ours(outgoing.to)) else {
            return false;
        };
        // What is no name of a device is nobody's.
        let Ok(device) = outgoing.to.resource.map(Resource::addressed).transpose() else { return false };
        for _ in 0..TRIES {
            let receiver = (&*user, device.as_ref().map(Resource::as_str));
            match self.relay.router.route(receiver, me, |out| outgoing.write(out)) {
                Routed::Here(connection) => {
                    // Closed since it was found: look again.
                    let Ok(fill) = outgoing.deliver(&connection) else { continue };
                    self.batch.here += 1;
                    self.batch.heavy |= fill == Fill::Heavy;
                    self.follow(to, connection);
                    return true;
                }
                Routed::Spread(fill) => {
                    self.batch.here += 1;
                    self.batch.heavy |= fill == Fill::Heavy;
                    return true;
                }
                Routed::Linked(link) => {
                    self.batch.linked += 1;
                    let woken =
                        |other: &Woken| matches!(other, Woken::Link(known) if Arc::ptr_eq(known, &link));
                    if !self.others.last().is_some_and(woken) {
                        self.others.push(Woken::Link(link));
                    }
                    return true;
                }
                Routed::Waiting => {
                    self.batch.waiting += 1;
                    return true;
                }
                Routed::NotDelivered => return false,
            }
        }
        false
    }

    /// The next message is likely to go there too.
    fn follow(&mut self, to: &str, connection: Arc<Connection>) {
        let next = Receiver { to: to.into(), connection, owed: true };
        if let Some(before) = self.receiver.replace(next).filter(|before| before.owed) {
            self.others.push(Woken::Receiver(before.connection));
        }
    }

    fn count(&self, batch: &Batch) {
        let metrics = &self.relay.metrics;
        let counts = [
            (Way::Here, batch.here),
            (Way::Linked, batch.linked),
            (Way::Waiting, batch.waiting),
            (Way::Refused, batch.refused),
        ];
        for (way, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            metrics.sent(way, count);
        }
    }
}
