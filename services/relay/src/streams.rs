//! The streams that carry links: dialled or accepted, then the same on both sides. Reading never waits for writing:
//! answers to the peer are left at the link for the writing half, so two relays that flood each other can't block
//! each other.

use std::{sync::Arc, time::Duration};

use kurir_rpc::{
    ConnectError, connect,
    v1::{Displaced, Frame, LinkHello, frame, relay_client::RelayClient},
};
use kurir_socket::outbox::Fill;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    link::{Link, UnknownBatch},
    links::Links,
    router::Router,
};

/// Frames between the link and the transport; with a full window they wait here and the link fills up, not memory.
const FRAMES: usize = 4;

/// A pause when a receiver's outbox is filling up, as its own relay's senders make one: the next messages then find it
/// written, or closed. The whole link pauses, so it is short.
const EASE: Duration = Duration::from_millis(1);

/// A frame is a batch and at most one value more, and that is as large as the sender's own `relay.max_value_bytes` lets it
/// be; tonic would take 4 MiB and break the stream. Relays trust each other, so the link's own limit is enough.
pub(crate) const FRAME_BYTES: usize = usize::MAX;

/// Who has opened a stream and says nothing is not waited for.
const HELLO: Duration = Duration::from_secs(2);

pub(crate) type Outgoing = mpsc::Sender<Frame>;

pub(crate) trait Incoming: Stream<Item = Result<Frame, Status>> + Send + Unpin {}

impl<S: Stream<Item = Result<Frame, Status>> + Send + Unpin> Incoming for S {}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("nobody knows the relay's address")]
    Unknown,
    #[error("the stream failed")]
    Stream(#[from] Status),
    #[error("the other relay said no hello in time")]
    NoHello,
    #[error("another relay, or another life of it, answers at that address")]
    SomebodyElse,
    #[error(transparent)]
    UnknownBatch(#[from] UnknownBatch),
    #[error("the other relay skipped from batch {0} to {1}")]
    Gap(u64, u64),
    #[error("this relay may not act and the peer is not kept waiting")]
    Fenced,
}

/// The right to carry a link. A later stream of the same link cancels it, and begins when it has been dropped: what the
/// earlier one still delivers can't come after the later one's first batch.
#[derive(Debug)]
pub(crate) struct Turn {
    superseded: CancellationToken,
    _held: tokio::sync::OwnedMutexGuard<()>,
}

impl Turn {
    /// None: a still later stream has come meanwhile, or the link is over.
    pub(crate) async fn take(link: &Arc<Link>) -> Option<Self> {
        let superseded = link.supersede();
        let held = Arc::clone(&link.turn).lock_owned().await;
        (!superseded.is_cancelled()).then_some(Self { superseded, _held: held })
    }
}

/// A channel for what goes out on a stream, with the hello in it.
pub(crate) fn outgoing(hello: LinkHello) -> (Outgoing, ReceiverStream<Frame>) {
    let (tx, rx) = mpsc::channel(FRAMES);
    // It is empty, and its receiver is held here: there is room.
    let _ = tx.try_send(Frame { frame: Some(frame::Frame::Hello(hello)) });
    (tx, ReceiverStream::new(rx))
}

/// The first frame, which has to be a hello.
pub(crate) async fn hello(incoming: &mut impl Incoming) -> Result<LinkHello, StreamError> {
    match timeout(HELLO, incoming.next()).await {
        Ok(Some(Ok(Frame { frame: Some(frame::Frame::Hello(hello)) }))) => Ok(hello),
        Ok(Some(Err(status))) => Err(status.into()),
        _ => Err(StreamError::NoHello),
    }
}

/// R4: dials, and carries the link until the stream is over. Returns how long it has lasted.
pub(crate) async fn dial(links: &Links, link: &Arc<Link>) -> Result<Duration, StreamError> {
    let url = links.address(link).await.ok_or(StreamError::Unknown)?;
    let channel = connect(&url).await?;
    let (tx, rx) = outgoing(links.hello());
    let mut client = RelayClient::new(channel).max_decoding_message_size(FRAME_BYTES);
    let open = timeout(HELLO, client.link(rx)).await.map_err(|_| StreamError::NoHello)?;
    let mut incoming = open?.into_inner();
    let theirs = hello(&mut incoming).await?;
    if theirs.id != link.peer.as_str() || theirs.generation != link.generation.to_string() {
        return Err(StreamError::SomebodyElse);
    }
    match Turn::take(link).await {
        Some(turn) => Ok(links.carry(link, turn, incoming, tx).await),
        None => Ok(Duration::ZERO),
    }
}

/// Moves frames both ways until one of them ends. `Ok` is an end that somebody asked for.
pub(crate) async fn run(
    links: &Links,
    link: &Arc<Link>,
    turn: &Turn,
    incoming: impl Incoming,
    outgoing: Outgoing,
) -> Result<(), StreamError> {
    tokio::select! {
        ended = read(links, link, incoming) => ended,
        () = write(link, outgoing) => Ok(()),
        () = turn.superseded.cancelled() => Ok(()),
    }
}

async fn read(links: &Links, link: &Arc<Link>, mut incoming: impl Incoming) -> Result<(), StreamError> {
    let Links { router, fence, handovers, .. } = links;
    let mut last = 0;
    while let Some(frame) = incoming.next().await {
        let frame = frame?;
        if !fence.may_act() && !fence.until_it_may_act().await {
            return Err(StreamError::Fenced);
        }
        match frame.frame {
            Some(frame::Frame::Batch(batch)) => {
                if batch.number != last + 1 {
                    return Err(StreamError::Gap(last, batch.number));
                }
                last = batch.number;
                let arrived = router.arrived(&batch);
                link.handled(last, arrived.back);
                if arrived.fill == Fill::Heavy {
                    sleep(EASE).await;
                }
            }
            Some(frame::Frame::Acknowledged(number)) => router.settled(link, &link.acknowledged(number)?),
            Some(frame::Frame::Bounces(bounces)) => router.bounced(link, link.bounced(&bounces)?),
            Some(frame::Frame::Displaced(displaced)) => {
                displace(router, &displaced);
                handovers.asked(link, displaced);
            }
            Some(frame::Frame::Parted(parted)) => handovers.parted(link.generation, parted.connection),
            Some(frame::Frame::Sibling(sibling)) => router.sibling(&sibling.user, link, sibling.here),
            // A second hello, or a frame of a newer version: not for us.
            Some(frame::Frame::Hello(_)) | None => {}
        }
    }
    Ok(())
}

async fn write(link: &Link, outgoing: Outgoing) {
    loop {
        let frames = link.take();
        if frames.is_empty() {
            link.ready.notified().await;
        }
        for frame in frames {
            if outgoing.send(frame).await.is_err() {
                return;
            }
        }
    }
}

/// A device that was connected here has said hello elsewhere.
fn displace(router: &Router, displaced: &Displaced) {
    let here = router.here(&displaced.user);
    if let Some(here) = here.iter().find(|here| here.number == displaced.connection) {
        here.displaced(displaced.conflict);
    }
}
