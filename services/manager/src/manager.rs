//! What the parts of this manager share.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kurir_directory::{DirectoryError, Member};
use kurir_protocol::{name::UserKey, session::Rules};
use kurir_rpc::drain::Draining;
use kurir_socket::Options;
use kurir_trail::Trail;
use tokio::{sync::Notify, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    accounts::Registering,
    differences::Differences,
    explaining::Explaining,
    log::Log,
    metrics::Metrics,
    online::Online,
    password::{PasswordError, Passwords},
    peers::Peers,
    relays::Relays,
    sessions::Sessions,
    store::{Store, StoreError},
};

/// How long a request waits for its session to be claimed again after this manager was paused. Beyond it the client is
/// answered 503.
const FENCE_WAIT: Duration = Duration::from_secs(2);

/// One manager. Its rules are methods in the module of their subject: accounts, roster, presence and so on.
#[derive(Debug)]
pub(crate) struct Manager {
    /// What addresses have after their `@`.
    pub(crate) domain: Arc<str>,
    pub(crate) rules: Rules,
    pub(crate) options: Options,
    pub(crate) outbox_bytes: usize,
    /// For so long a user who asks for another relay is not given the one that failed.
    pub(crate) relay_failed: Duration,
    pub(crate) store: Store,
    /// How long a session's token is good.
    pub(crate) session_life_ms: i64,
    /// How many named devices an account may have; none: any number.
    pub(crate) max_devices: Option<u32>,
    pub(crate) passwords: Passwords,
    pub(crate) registering: Registering,
    pub(crate) member: Member,
    pub(crate) sessions: Sessions,
    pub(crate) relays: Arc<Relays>,
    pub(crate) peers: Peers,
    pub(crate) differences: Differences,
    pub(crate) log: Log,
    pub(crate) trail: Arc<Trail>,
    /// How long trails are kept in the database.
    pub(crate) trail_life: Option<Duration>,
    /// Of users who ask what became of a message.
    pub(crate) explaining: Explaining,
    pub(crate) metrics: Metrics,
    /// Open client connections: each holds a token.
    pub(crate) connections: TaskTracker,
    /// How far the drain is.
    pub(crate) draining: Draining,
    /// Closes the client connections that are left.
    pub(crate) closing: CancellationToken,
    /// Somebody's session was claimed again.
    pub(crate) reclaimed: Notify,
    /// See [`Manager::locate`].
    #[cfg(test)]
    pub(crate) blind: std::sync::atomic::AtomicBool,
}

/// Nobody's fault, and over soon: answered with 503 and never with anything that blames the user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Temporary {
    #[error("the database gave no answer")]
    Store(#[from] StoreError),
    #[error("the directory gave no answer")]
    Directory(#[from] DirectoryError),
    #[error("a password was not checked")]
    Password(#[from] PasswordError),
    #[error("this manager was paused past its lease")]
    Fenced,
    #[error("whether a user is online could not be found out")]
    NotFound,
    #[error("another session of the user is beginning or ending")]
    Unsettled,
    #[error("the client did not wait for the answer")]
    Abandoned,
    #[error("what became of a message could not be found out in time")]
    Unexplained,
}

impl Manager {
    /// The sessions of a user who is connected here, those that may be acted for: see [`Member::check`].
    pub(crate) fn acting(&self, user: &UserKey) -> Vec<Arc<Online>> {
        let mut sessions = self.sessions.of(user);
        sessions.retain(|online| self.member.check() == Ok(online.generation()));
        sessions
    }

    /// Waits until this session may be acted for: see [`Member::check`].
    pub(crate) async fn may_act(&self, online: &Online) -> Result<(), Temporary> {
        let acting = async {
            loop {
                let reclaimed = self.reclaimed.notified();
                if self.member.check() == Ok(online.generation()) {
                    return Ok(());
                }
                if online.is_closed() {
                    return Err(Temporary::Fenced);
                }
                reclaimed.await;
            }
        };
        // The usual case costs no timer.
        if self.member.check() == Ok(online.generation()) {
            return Ok(());
        }
        timeout(FENCE_WAIT, acting).await.unwrap_or(Err(Temporary::Fenced))
    }
}

/// Milliseconds since the Unix epoch, as everything that clients are shown is dated.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
