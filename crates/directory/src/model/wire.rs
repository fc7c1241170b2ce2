//! A store behind a network that the test moves by hand: requests of one process arrive in order, whenever it says so,
//! also while the process that sent them is paused or has given up waiting.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use kurir_protocol::name::UserKey;

use crate::backend::memory::Memory;
use crate::backend::{Acquired, Answer, Backend, Bid, Epoch, Fields, Owned, Renewal, Standing, Swap};
use crate::{Component, ComponentId, DirectoryError, Generation};

type Request = Box<dyn FnOnce(&Memory) + Send>;

/// One process's connection to the store.
pub(super) struct Wire {
    memory: Arc<Memory>,
    clock_ms: Arc<AtomicU64>,
    timeout: Duration,
    requests: Mutex<VecDeque<Request>>,
    /// The next request to arrive is carried out twice, as one is that is sent again over a new connection.
    repeat: Arc<AtomicBool>,
}

impl Wire {
    pub(super) fn new(memory: Arc<Memory>, clock_ms: Arc<AtomicU64>, timeout: Duration) -> Arc<Self> {
        Arc::new(Self { memory, clock_ms, timeout, requests: Mutex::default(), repeat: Arc::default() })
    }

    /// Lets the oldest request arrive; false: there is none.
    pub(super) fn deliver(&self) -> bool {
        let request = self.requests.lock().unwrap().pop_front();
        request.map(|request| request(&self.memory)).is_some()
    }

    /// Carries out the next request twice; the second answer counts.
    pub(super) fn repeat_next(&self) {
        self.repeat.store(true, Ordering::SeqCst);
    }

    /// Loses every request that has not arrived.
    pub(super) fn reset(&self) {
        self.requests.lock().unwrap().clear();
    }

    fn send<T: Send + 'static>(
        &self,
        request: impl Fn(&Memory) -> Result<T, DirectoryError> + Send + 'static,
    ) -> Answer<'_, T> {
        Box::pin(async move {
            let slot = Arc::new(Mutex::new(None));
            let (answer, repeat) = (Arc::clone(&slot), Arc::clone(&self.repeat));
            let deliver: Request = Box::new(move |memory| {
                if repeat.swap(false, Ordering::SeqCst) {
                    drop(request(memory));
                }
                *answer.lock().unwrap() = Some(request(memory));
            });
            self.requests.lock().unwrap().push_back(deliver);
            let sent = self.clock_ms.load(Ordering::SeqCst);
            std::future::poll_fn(move |_| {
                let waited = Duration::from_millis(self.clock_ms.load(Ordering::SeqCst) - sent);
                match slot.lock().unwrap().take() {
                    Some(answer) => Poll::Ready(answer),
                    None if waited >= self.timeout => Poll::Ready(Err(DirectoryError::Away {
                        url: "wire".to_owned(),
                        source: "no answer".into(),
                    })),
                    None => Poll::Pending,
                }
            })
            .await
        })
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wire")
    }
}

/// What a future that never waits is worth.
pub(super) fn now<T>(mut future: Answer<'_, T>) -> Result<T, DirectoryError> {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => unreachable!("tables in memory answer at once"),
    }
}

impl Backend for Wire {
    fn ping(&self) -> Answer<'_, ()> {
        self.send(|memory| now(memory.ping()))
    }

    fn look<'a>(&'a self, me: &'a ComponentId, user: &'a UserKey) -> Answer<'a, (Fields, Standing)> {
        let (me, user) = (me.clone(), user.clone());
        self.send(move |memory| now(memory.look(&me, &user)))
    }

    fn users<'a>(&'a self, users: &'a [UserKey]) -> Answer<'a, (Vec<Fields>, Standing)> {
        let users = users.to_vec();
        self.send(move |memory| now(memory.users(&users)))
    }

    fn swap<'a>(&'a self, me: &'a ComponentId, swaps: &'a [Swap]) -> Answer<'a, (Vec<bool>, Standing)> {
        let (me, swaps) = (me.clone(), swaps.to_vec());
        self.send(move |memory| now(memory.swap(&me, &swaps)))
    }

    fn leases<'a>(
        &'a self,
        me: Option<&'a ComponentId>,
        ids: &'a [ComponentId],
    ) -> Answer<'a, (Vec<Option<Generation>>, Standing)> {
        let (me, ids) = (me.cloned(), ids.to_vec());
        self.send(move |memory| now(memory.leases(me.as_ref(), &ids)))
    }

    fn suspect<'a>(
        &'a self,
        me: &'a ComponentId,
        id: &'a ComponentId,
        epoch: &'a Epoch,
    ) -> Answer<'a, (Option<Generation>, Standing)> {
        let (me, id, epoch) = (me.clone(), id.clone(), epoch.clone());
        self.send(move |memory| now(memory.suspect(&me, &id, &epoch)))
    }

    fn confirm_dead<'a>(
        &'a self,
        id: &'a ComponentId,
        generation: Generation,
        epoch: &'a Epoch,
    ) -> Answer<'a, bool> {
        let (id, epoch) = (id.clone(), epoch.clone());
        self.send(move |memory| now(memory.confirm_dead(&id, generation, &epoch)))
    }

    fn acquire<'a>(&'a self, bid: &'a Bid) -> Answer<'a, (Acquired, Standing)> {
        let bid = bid.clone();
        self.send(move |memory| now(memory.acquire(&bid)))
    }

    fn renew<'a>(&'a self, bid: &'a Bid) -> Answer<'a, (Renewal, Standing)> {
        let bid = bid.clone();
        self.send(move |memory| now(memory.renew(&bid)))
    }

    fn begin_epoch<'a>(&'a self, me: &'a ComponentId) -> Answer<'a, Standing> {
        let me = me.clone();
        self.send(move |memory| now(memory.begin_epoch(&me)))
    }

    fn registered(&self) -> Answer<'_, Vec<Component>> {
        self.send(|memory| now(memory.registered()))
    }

    fn owned<'a>(
        &'a self,
        id: &'a ComponentId,
        generation: Generation,
        limit: usize,
    ) -> Answer<'a, Vec<Owned>> {
        let id = id.clone();
        self.send(move |memory| now(memory.owned(&id, generation, limit)))
    }

    fn disown<'a>(
        &'a self,
        id: &'a ComponentId,
        generation: Generation,
        owned: &'a [Owned],
    ) -> Answer<'a, ()> {
        let (id, owned) = (id.clone(), owned.to_vec());
        self.send(move |memory| now(memory.disown(&id, generation, &owned)))
    }

    fn forget<'a>(&'a self, id: &'a ComponentId, generation: Generation) -> Answer<'a, ()> {
        let id = id.clone();
        self.send(move |memory| now(memory.forget(&id, generation)))
    }

    fn resign<'a>(&'a self, id: &'a ComponentId, generation: Generation) -> Answer<'a, ()> {
        let id = id.clone();
        self.send(move |memory| now(memory.resign(&id, generation)))
    }
}
