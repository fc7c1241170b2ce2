//! The managers' ticket keys, and what a ticket is worth.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use kurir_protocol::ticket::Claims;
use kurir_rpc::v1::TicketKey;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

/// A ticket of a manager that has just started may come before its key does.
const KEY_UNDER_WAY: Duration = Duration::from_secs(1);

/// Clocks of two machines differ.
const LEEWAY_SECONDS: u64 = 5;

/// No ticket of ours comes near it; what does is not worth a signature check.
const TOKEN_BYTES: usize = 4096;

#[derive(Debug)]
pub(crate) struct Tickets {
    keys: Mutex<HashMap<String, Key>>,
    learned: Notify,
    /// How long a key outlasts the last stream of its manager.
    keep: Duration,
}

struct Key {
    public: DecodingKey,
    /// Streams of its manager that are open; with none, when it was last attached.
    attached: usize,
    since: Instant,
}

/// A manager's stream: its key is in use for as long as this lives, however the stream ends.
#[derive(Debug)]
pub(crate) struct Attached<'a> {
    tickets: &'a Tickets,
    pub(crate) key_id: String,
}

/// A ticket that was signed by a manager of ours and has not ended.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) claims: Claims,
    /// Names the key, and with it one life of the manager.
    pub(crate) key_id: String,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum BadTicket {
    #[error("not a ticket")]
    Form,
    #[error("no manager has this key")]
    UnknownKey,
    #[error("not valid")]
    Invalid(#[source] jsonwebtoken::errors::Error),
}

/// A manager's key that is no Ed25519 public key.
#[derive(Debug, thiserror::Error)]
#[error("the manager's ticket key has {0} bytes, not 32")]
pub(crate) struct BadKey(usize);

impl Tickets {
    pub(crate) fn new(keep: Duration) -> Self {
        Self { keys: Mutex::default(), learned: Notify::new(), keep }
    }

    /// A manager has attached: its tickets count from now on, and after its stream until they end.
    pub(crate) fn attached(&self, key: TicketKey) -> Result<Attached<'_>, BadKey> {
        if key.public_key.len() != 32 {
            return Err(BadKey(key.public_key.len()));
        }
        let mut keys = self.lock();
        // Each start of a manager brings a new one.
        keys.retain(|_, key| key.attached > 0 || key.since.elapsed() < self.keep);
        let known = keys.entry(key.key_id.clone()).or_insert_with(|| Key {
            public: DecodingKey::from_ed_der(&key.public_key),
            attached: 0,
            since: Instant::now(),
        });
        known.attached += 1;
        drop(keys);
        self.learned.notify_waiters();
        Ok(Attached { tickets: self, key_id: key.key_id })
    }

    /// What `token` says, if a manager of ours has signed it and it has not ended.
    pub(crate) async fn verify(&self, token: &str) -> Result<Ticket, BadTicket> {
        if token.len() > TOKEN_BYTES {
            return Err(BadTicket::Form);
        }
        let header = decode_header(token).map_err(|_| BadTicket::Form)?;
        let key_id = header.kid.ok_or(BadTicket::Form)?;
        let key = timeout(KEY_UNDER_WAY, self.key(&key_id)).await.map_err(|_| BadTicket::UnknownKey)?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.leeway = LEEWAY_SECONDS;
        validation.set_required_spec_claims(&["exp"]);
        let token = decode::<Claims>(token, &key, &validation).map_err(BadTicket::Invalid)?;
        Ok(Ticket { claims: token.claims, key_id })
    }

    async fn key(&self, key_id: &str) -> DecodingKey {
        loop {
            let learned = self.learned.notified();
            if let Some(key) = self.lock().get(key_id).filter(|key| key.is_kept(self.keep)) {
                return key.public.clone();
            }
            learned.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Key>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.tickets.lock().get_mut(&self.key_id) {
            key.attached = key.attached.saturating_sub(1);
            key.since = Instant::now();
        }
    }
}

impl Key {
    fn is_kept(&self, keep: Duration) -> bool {
        self.attached > 0 || self.since.elapsed() < keep
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("attached", &self.attached).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn key(key_id: &str) -> TicketKey {
        TicketKey { key_id: key_id.to_owned(), public_key: vec![0; 32], ..TicketKey::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_outlasts_its_managers_stream_by_its_time_and_no_longer() {
        let tickets = Tickets::new(Duration::from_mins(1));
        let over = CancellationToken::new();
        let stream = over.run_until_cancelled(async {
            let _attached = tickets.attached(key("one")).unwrap();
            tokio::time::advance(Duration::from_mins(2)).await;
            assert!(tickets.lock()["one"].is_kept(tickets.keep), "as long as the stream lasts");
            over.cancel();
            std::future::pending::<()>().await;
        });
        let _: Option<()> = stream.await;
        assert!(tickets.lock()["one"].is_kept(tickets.keep));
        tokio::time::advance(Duration::from_mins(1)).await;
        assert!(!tickets.lock()["one"].is_kept(tickets.keep));
        let _two = tickets.attached(key("two")).unwrap();
        assert_eq!(tickets.lock().len(), 1);
    }
}
