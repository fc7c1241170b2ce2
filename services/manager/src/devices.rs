//! The devices of an account: listing and removing them for their owner, and forgetting those that nobody has seen for long
//! (Part II `account`).

use std::{sync::Arc, time::Duration};

use kurir_directory::{SessionEnd, UserEntries};
use kurir_protocol::{
    iq::Condition,
    manager::{AccountAction, AccountRequest, ListedDevice},
    name::{LoginId, Resource, UserKey},
};
use kurir_socket::Flow;
use rand::RngExt;

use crate::{
    manager::{Manager, Temporary, now_ms},
    online::Online,
    sessions::Over,
};

/// Old devices are looked for this often, first after a part of it: managers begin at different moments.
const FORGET_EVERY: Duration = Duration::from_hours(1);

/// Devices that are noted as seen with one statement.
const SEEN_AT_ONCE: usize = 256;

impl Manager {
    /// Answers a request about the asker's own account.
    pub(crate) async fn account(
        &self,
        online: &Arc<Online>,
        request: &AccountRequest,
        replies: &mut Vec<u8>,
    ) -> Flow {
        let answer = request.answer(Some(online.reader().to));
        let done = match &request.action {
            AccountAction::Bad => {
                answer.refused(replies, Condition::BadRequest);
                return Flow::Continue;
            }
            AccountAction::Devices => {
                self.list(online).await.map(|devices| answer.devices(replies, &devices))
            }
            AccountAction::Remove(device) => match self.remove_device(online, device).await {
                Ok(true) => {
                    answer.removed(replies);
                    // Its own end: nothing more is to be said to it.
                    return if *device == online.device { Flow::Close } else { Flow::Continue };
                }
                Ok(false) => {
                    answer.refused(replies, Condition::ItemNotFound);
                    Ok(())
                }
                Err(error) => Err(error),
            },
        };
        if let Err(error) = done {
            self.metrics.temporary_failure();
            tracing::warn!(user = %online.user, error = &error as &dyn std::error::Error, "account request failed");
            answer.refused(replies, Condition::Temporary);
        }
        Flow::Continue
    }

    async fn list(&self, online: &Online) -> Result<Vec<ListedDevice>, Temporary> {
        let entries = self.entries_of(&online.user).await?;
        let is_online = |device: &Resource| entries.sessions.iter().any(|(known, _)| known == device);
        let devices = self.store.devices(online.account).await?.into_iter();
        let listed = |device: crate::store::device::Device| ListedDevice {
            online: is_online(&device.resource),
            seen_at_ms: device.seen_ms,
            resource: device.resource.into(),
        };
        Ok(devices.map(listed).collect())
    }

    /// Forgets a device, and ends its session wherever that is. False: there is none of that name.
    async fn remove_device(&self, online: &Online, device: &Resource) -> Result<bool, Temporary> {
        let user = &online.user;
        // First: whoever cannot be found could not be told of the end.
        let known = self.entries_of(user).await?;
        let removed = self.store.remove_device(online.account, device).await?;
        // A removal that was broken off here is done to its end when it is asked for again.
        let is_there = known.sessions.iter().any(|(known, _)| known == device)
            || known.routes.iter().any(|(known, _)| known == device);
        if !removed && !is_there {
            return Ok(false);
        }
        let newest = self.account_of(online).await?.login;
        self.end_device((user, device), newest, known, Some(online)).await;
        Ok(true)
    }

    /// Ends a device's logins up to this one wherever they are, also those that are under way; its tokens are worthless by now.
    /// `known`: what was on record, for when that cannot be read again.
    pub(crate) async fn end_device(
        &self,
        (user, device): (&UserKey, &Resource),
        newest: LoginId,
        known: UserEntries,
        asker: Option<&Online>,
    ) {
        // Whoever is not on record after that does not come onto it any more: no login, and no ticket at a relay.
        if let Err(error) = self.member.end_logins(user, device, newest).await {
            // The member goes on trying by itself.
            tracing::debug!(%user, error = &error as &dyn std::error::Error, "end of a device not on record yet");
        }
        let entries = self.entries_of(user).await.unwrap_or(known);
        let sessions = entries.sessions.iter().filter(|(known, _)| known == device);
        for (_, session) in sessions.filter(|(_, session)| session.login <= newest) {
            if let Some(asker) = asker.filter(|asker| asker.login == session.login) {
                // The asker's own connection is closed by its answer.
                Box::pin(self.depart(asker, SessionEnd::Ended)).await;
            } else if session.manager == *self.member.id() {
                Box::pin(self.session_over(user, device, session.login, Over::Removed)).await;
            } else {
                self.peers.removed(session.generation, user, device, session.login);
            }
        }
        let routes = entries.routes.iter().filter(|(known, _)| known == device);
        for (_, route) in routes.filter(|(_, route)| route.login <= newest) {
            self.relays.end_session(Some(&route.relay), user, device, route.login, false);
        }
    }

    /// Forgets devices that were not seen for `life`, for as long as it is polled.
    pub(crate) async fn forget_devices(&self, life: Duration) {
        let mut wait = FORGET_EVERY.mul_f64(rand::rng().random_range(0.02..0.2));
        loop {
            tokio::time::sleep(wait).await;
            wait = FORGET_EVERY;
            match self.forget_unseen(life).await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "devices forgotten that were not seen for long"),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "old devices not forgotten yet");
                }
            }
        }
    }

    async fn forget_unseen(&self, life: Duration) -> Result<u64, Temporary> {
        let here: Vec<_> =
            self.sessions.all().iter().map(|online| (online.account, online.device.clone())).collect();
        for some in here.chunks(SEEN_AT_ONCE) {
            self.store.devices_seen(some, now_ms()).await?;
        }
        let before = now_ms().saturating_sub(i64::try_from(life.as_millis()).unwrap_or(i64::MAX));
        let mut forgotten = 0;
        loop {
            match self.store.forget_devices(before).await? {
                0 => return Ok(forgotten),
                count => forgotten += count,
            }
        }
    }
}
