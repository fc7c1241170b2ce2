//! What relays and other managers are offered (`kurir.v1.Manager`; [`log`]: `kurir.v1.Log`; [`explain`]: `kurir.v1.Explain`
//! and `Trail`): decode, call, encode.

pub(crate) mod explain;
pub(crate) mod log;

use std::{str::FromStr, sync::Arc, time::Duration};

use kurir_directory::{ComponentId, Generation};
use kurir_protocol::{
    manager::{Item, Presence, Subscription},
    name::{LoginId, Resource, UserKey, Username},
};
use kurir_rpc::v1::{self, attach_request, manager_server, notice, notify_request};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    choice::{ClientAddress, Report},
    manager::Manager,
    news::{News, Place, Version, What},
    online::Online,
    relays::{self, Attached},
    sessions::Over,
};

/// A stream that has not said hello by then is refused.
const HELLO_WAIT: Duration = Duration::from_secs(5);

/// Acknowledgements waiting for one manager's stream. Full: no more of its notices are taken until it reads.
const ACKNOWLEDGEMENTS: usize = 64;

/// The gRPC service of a manager.
pub(crate) struct Service {
    pub(crate) manager: Arc<Manager>,
    /// The tasks that read the streams.
    pub(crate) tasks: TaskTracker,
    /// Ends them.
    pub(crate) stop: CancellationToken,
}

#[tonic::async_trait]
impl manager_server::Manager for Service {
    type AttachStream = ReceiverStream<Result<v1::AttachResponse, Status>>;
    type NotifyStream = ReceiverStream<Result<v1::NotifyResponse, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut requests = request.into_inner();
        let Some(attach_request::Message::Hello(hello)) = first(&mut requests).await?.message else {
            return Err(Status::invalid_argument("hello comes first"));
        };
        let (messages, responses) = mpsc::channel(relays::STREAM);
        let attached = self.manager.attach(&hello, messages, self.stop.child_token())?;
        let manager = Arc::clone(&self.manager);
        self.tasks.spawn(async move {
            attached.stop.run_until_cancelled(manager.read_reports(&attached, requests)).await;
            manager.relays.detach(&attached);
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    async fn notify(
        &self,
        request: Request<Streaming<v1::NotifyRequest>>,
    ) -> Result<Response<Self::NotifyStream>, Status> {
        let mut requests = request.into_inner();
        let Some(notify_request::Message::Hello(hello)) = first(&mut requests).await?.message else {
            return Err(Status::invalid_argument("hello comes first"));
        };
        let generation = generation(&hello.generation)?;
        let stop = self.manager.peers.incoming_from(generation);
        if hello.missed {
            self.manager.differences.everything();
        }
        let (acknowledgements, responses) = mpsc::channel(ACKNOWLEDGEMENTS);
        let manager = Arc::clone(&self.manager);
        self.tasks.spawn(async move {
            stop.run_until_cancelled(manager.read_notices(generation, requests, acknowledgements)).await;
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}

impl Manager {
    fn attach(
        &self,
        hello: &v1::RelayHello,
        messages: mpsc::Sender<Result<v1::AttachResponse, Status>>,
        stop: CancellationToken,
    ) -> Result<Attached, Status> {
        let id =
            ComponentId::from_str(&hello.id).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let port = u16::try_from(hello.client_port).map_err(|_| Status::invalid_argument("not a port"))?;
        let address = ClientAddress { host: hello.client_host.clone(), port };
        tracing::info!(relay = %id, "relay attached");
        Ok(self.relays.attach(id, generation(&hello.generation)?, address, messages, stop))
    }

    async fn read_reports(&self, attached: &Attached, mut requests: Streaming<v1::AttachRequest>) {
        while let Some(Ok(request)) = requests.next().await {
            if let Some(attach_request::Message::Report(report)) = request.message {
                self.relays.report(attached, decode_report(report));
            }
        }
    }

    async fn read_notices(
        &self,
        generation: Generation,
        mut requests: Streaming<v1::NotifyRequest>,
        acknowledgements: mpsc::Sender<Result<v1::NotifyResponse, Status>>,
    ) {
        let mut handled = 0;
        while let Some(Ok(request)) = requests.next().await {
            // Not acknowledged, so it is sent again when this manager may act again.
            if self.member.check().is_err() {
                return;
            }
            match request.message {
                Some(notify_request::Message::Notice(notice)) => {
                    self.metrics.notice_received();
                    if !self.hear(generation, notice).await {
                        return;
                    }
                }
                Some(notify_request::Message::Over(over)) => {
                    if let Some((user, device)) = decode_over(&over) {
                        let why = if over.removed { Over::Removed } else { Over::Displaced };
                        self.session_over(&user, &device, LoginId(over.login), why).await;
                    }
                }
                Some(notify_request::Message::Hello(_)) | None => continue,
            }
            handled += 1;
            if acknowledgements.send(Ok(v1::NotifyResponse { handled })).await.is_err() {
                return;
            }
        }
    }

    /// Tells users here what another manager says. False: not now.
    async fn hear(&self, generation: Generation, notice: v1::Notice) -> bool {
        let to = notice.to.iter().filter_map(|to| UserKey::try_from(to.clone()).ok());
        let to: Vec<Arc<Online>> = to.flat_map(|to| self.sessions.of(&to)).collect();
        for online in &to {
            // Another manager may have the session by now. Sent again, as it is not acknowledged.
            if self.may_act(online).await.is_err() && !online.is_closed() {
                return false;
            }
        }
        let Some(news) = decode_notice(notice) else {
            // Of a later version: what it cannot say to us, nobody here is waiting for.
            tracing::debug!(peer = %generation, "a notice that says nothing");
            return true;
        };
        for online in to {
            let acting = self.current(&online).filter(|of| self.member.check() == Ok(of.generation()));
            if let Some(online) = acting {
                online.hear(&news, Place::At(generation));
            }
        }
        true
    }
}

/// The first message of a stream.
async fn first<T>(requests: &mut Streaming<T>) -> Result<T, Status> {
    match timeout(HELLO_WAIT, requests.message()).await {
        Ok(Ok(Some(message))) => Ok(message),
        Ok(Ok(None)) => Err(Status::invalid_argument("hello comes first")),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Status::deadline_exceeded("no hello")),
    }
}

fn generation(text: &str) -> Result<Generation, Status> {
    Generation::from_str(text).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn decode_report(report: v1::LoadReport) -> Report {
    Report {
        connections: report.connections,
        redeemed: report.redeemed,
        loop_delay: Duration::from_micros(report.loop_delay_us),
        draining: report.draining,
    }
}

/// A notice as it is sent to another manager.
pub(crate) fn notice(to: &[UserKey], news: &News) -> v1::Notice {
    let presence = |presence: &Presence, directed: bool| {
        notice::What::Presence(v1::PresenceState {
            bio: presence.bio.clone(),
            online: presence.online,
            updated_at_ms: presence.updated_at_ms,
            directed,
        })
    };
    let what = match &news.what {
        What::Presence(state) => presence(state, false),
        What::Directed(state) => presence(state, true),
        What::Unavailable { last } => notice::What::Unavailable(v1::Unavailable { last: *last }),
        What::Subscribed(item) => notice::What::Subscribed(v1::RosterItem {
            jid: item.jid.clone(),
            name: item.name.clone(),
            subscription: item.subscription.to_string(),
        }),
    };
    v1::Notice {
        to: to.iter().map(UserKey::to_string).collect(),
        from: news.from.to_string(),
        resource: news.device.to_string(),
        version: Some(v1::PresenceVersion { login: news.version.login.0, counter: news.version.counter }),
        what: Some(what),
    }
}

/// None: it lacks something, or is of a later version.
fn decode_notice(notice: v1::Notice) -> Option<News> {
    let version = notice.version?;
    let about = UserKey::of(&notice.from).ok()?;
    let what = match notice.what? {
        notice::What::Presence(state) => {
            let presence = Presence {
                username: notice.from.clone(),
                bio: state.bio,
                online: state.online,
                updated_at_ms: state.updated_at_ms,
            };
            if state.directed { What::Directed(presence) } else { What::Presence(presence) }
        }
        notice::What::Unavailable(v1::Unavailable { last }) => What::Unavailable { last },
        notice::What::Subscribed(item) => What::Subscribed(Item {
            jid: item.jid,
            name: item.name,
            subscription: Subscription::from_str(&item.subscription).ok()?,
        }),
    };
    let version = Version { login: LoginId(version.login), counter: version.counter };
    let device = Resource::try_from(notice.resource).ok()?;
    Some(News { about, from: Username::stored(notice.from), device, version, what })
}

/// None: of a later version.
fn decode_over(over: &v1::SessionOver) -> Option<(UserKey, Resource)> {
    let user = UserKey::try_from(over.user.as_str()).ok()?;
    Some((user, Resource::try_from(over.resource.as_str()).ok()?))
}
