//! Whether this relay may act. A relay that was paused past its lease has a new life, in which every connection has to be
//! claimed again before anything is done for any of them (ARCHITECTURE "Tables").

use std::time::Duration;

use kurir_directory::{Generation, Member};
use tokio::{sync::watch, time::timeout};

/// Longer than a lease and everything that follows its loss; who still may not act by then closes.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Fence {
    member: Member,
    /// The life under which every connection is on record; none while they are claimed again.
    claimed: watch::Sender<Option<Generation>>,
}

impl Fence {
    pub(crate) fn new(member: Member) -> Self {
        let generation = member.generation();
        Self { member, claimed: watch::Sender::new(Some(generation)) }
    }

    /// Asked before each batch; cheap.
    pub(crate) fn may_act(&self) -> bool {
        self.member.check().is_ok_and(|generation| self.is_claimed(generation))
    }

    /// Whether connections on record under `generation` may be acted for, as far as claims go.
    pub(crate) fn is_claimed(&self, generation: Generation) -> bool {
        *self.claimed.borrow() == Some(generation)
    }

    /// Waits until this relay may act, 10 s at most. False: it still may not.
    pub(crate) async fn until_it_may_act(&self) -> bool {
        let mut claimed = self.claimed.subscribe();
        let wait = async {
            while !self.may_act() {
                // The sender is part of `self`.
                let _ = claimed.changed().await;
            }
        };
        timeout(PATIENCE, wait).await.is_ok()
    }

    /// The life is over: nobody acts until [`Fence::claimed`].
    pub(crate) fn close(&self) {
        self.claimed.send_replace(None);
    }

    /// Every connection is on record under `generation`.
    pub(crate) fn claimed(&self, generation: Generation) {
        self.claimed.send_replace(Some(generation));
    }
}
