//! Attached to one life of a manager (R2, R3): this relay's load goes there, its ticket key and its ended sessions come
//! from there.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use kurir_protocol::name::LoginId;
use kurir_rpc::{
    ConnectError, Peer, connect,
    v1::{
        AttachRequest, AttachResponse, Component, RelayHello, attach_request, attach_response,
        manager_client::ManagerClient,
    },
};
use kurir_trail::Reason;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    readers,
    relay::Relay,
    tickets::{Attached, BadKey},
};

/// A manager counts a relay as silent after 4 s.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Changes are reported at most this often: a burst of hellos is a few reports, not one each.
const REPORT_CHANGES_EVERY: Duration = Duration::from_millis(100);

/// Reports on their way. When there are as many the manager is slow; the next one says it all.
const REQUESTS: usize = 4;

/// Between two attempts: the first pause and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

const ANSWER: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
enum AttachError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("no answer in time")]
    Silent,
    #[error("the stream failed")]
    Stream(#[from] Status),
    #[error(transparent)]
    Key(#[from] BadKey),
    #[error("the manager closed the stream")]
    Closed,
}

/// Keeps attached to `manager` until `over`. This relay speaks as `me`.
pub(crate) async fn keep(relay: Arc<Relay>, manager: Component, me: RelayHello, over: CancellationToken) {
    let attached = async {
        let _wanted = relay.metrics.streams.wanted(Peer::Manager);
        let mut pause = RETRY.0;
        loop {
            let mut attached = None;
            let ended = session(&relay, &manager, &me, &mut attached).await;
            if attached.is_some() {
                tracing::warn!(
                    peer = manager.id,
                    error = ended.err().map(|error| kurir_rpc::chain(&error)),
                    "manager is away"
                );
                pause = RETRY.0;
            } else {
                tracing::debug!(
                    peer = manager.id,
                    error = ended.err().map(|error| kurir_rpc::chain(&error)),
                    "no manager"
                );
            }
            sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
    };
    let _: Option<()> = over.run_until_cancelled(attached).await;
}

/// One stream. `attached` is set once the manager has said its key.
async fn session<'a>(
    relay: &'a Arc<Relay>,
    manager: &Component,
    me: &RelayHello,
    attached: &mut Option<Attached<'a>>,
) -> Result<(), AttachError> {
    let channel = connect(&manager.grpc_url).await?;
    let mut client = ManagerClient::new(channel.clone());
    let (requests, outgoing) = mpsc::channel(REQUESTS);
    // It is empty, and its receiver is held here: there is room.
    let _ = requests.try_send(request(attach_request::Message::Hello(me.clone())));
    let opening = timeout(ANSWER, client.attach(ReceiverStream::new(outgoing))).await;
    let mut incoming = opening.map_err(|_| AttachError::Silent)??.into_inner();
    let _open = relay.metrics.streams.open(Peer::Manager);
    let _place = relay.managers.add(&manager.id, channel);
    let mut changes = relay.load.changes();
    let mut every = interval(REPORT_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut soon = interval(REPORT_CHANGES_EVERY);
    soon.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let due = async {
            tokio::select! {
                _ = every.tick() => {}
                _ = async { soon.tick().await; changes.changed().await } => {}
            }
        };
        tokio::select! {
            message = incoming.next() => {
                heard(relay, message.ok_or(AttachError::Closed)??, manager, attached)?;
            }
            () = due, if attached.is_some() => {
                let report = relay.load.report(attached.as_ref().map(|attached| &*attached.key_id));
                let _ = requests.try_send(request(attach_request::Message::Report(report)));
            }
        }
    }
}

fn heard<'a>(
    relay: &'a Arc<Relay>,
    message: AttachResponse,
    manager: &Component,
    attached: &mut Option<Attached<'a>>,
) -> Result<(), AttachError> {
    match message.message {
        Some(attach_response::Message::Key(key)) => {
            let domain = relay.domain.get_or_init(|| key.domain.as_str().into());
            if **domain != *key.domain {
                tracing::warn!(peer = manager.id, domain = key.domain, expected = %domain, "manager.domain is not the same everywhere");
            }
            if key.keeps_trail {
                relay.trail_is_kept.store(true, Ordering::Relaxed);
            }
            *attached = Some(relay.tickets.attached(key)?);
            tracing::info!(peer = manager.id, "attached to manager");
        }
        Some(attach_response::Message::EndSession(end)) => {
            relay.end_session(&end.user, &end.resource, LoginId(end.login), end.conflict);
        }
        Some(attach_response::Message::Heads(heads)) => {
            let heads = heads.heads.iter();
            heads.for_each(|head| readers::heard(relay, &head.user, head.seq, Reason::Announcement));
        }
        None => {}
    }
    Ok(())
}

fn request(message: attach_request::Message) -> AttachRequest {
    AttachRequest { message: Some(message) }
}
