//! Questions to the directory: where is a user? Asked in pipelined batches, a bounded number open at once.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use kurir_directory::UserEntries;
use kurir_protocol::name::UserKey;
use tokio::{sync::Notify, time::sleep};

use crate::{connection::Connection, link::Link, links::Links, relay::Relay};

/// Users asked for with one pipelined request.
const BATCH: usize = 256;

/// Questions that one connection may have open while there are many: the others' first messages need the rest.
const SHARE: u32 = 64;

/// Before a question is asked again whose answer is not on record yet.
const AGAIN: Duration = Duration::from_millis(100);

/// Where one user is.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) number: u64,
    pub(crate) user: Box<str>,
    /// Whose message asks.
    pub(crate) asker: Arc<Connection>,
}

#[derive(Debug)]
pub(crate) enum Answer {
    /// At another relay.
    Link(Arc<Link>),
    /// At this relay, says the directory.
    Here,
    /// At none that lives.
    Nobody,
    /// The directory is away.
    Failed,
}

/// The questions that are open.
#[derive(Debug)]
pub(crate) struct LookUps {
    waiting: Mutex<VecDeque<Question>>,
    ready: Notify,
    open: AtomicUsize,
    next: AtomicU64,
    limit: usize,
}

impl LookUps {
    /// At most `limit` open at once.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            ready: Notify::new(),
            open: AtomicUsize::new(0),
            next: AtomicU64::new(1),
            limit,
        }
    }

    /// Asks for `user`; the answer carries the number returned. None: too many are open.
    pub(crate) fn ask(&self, user: &str, asker: &Arc<Connection>) -> Option<u64> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.limit {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        asker.lookups.fetch_add(1, Ordering::Relaxed);
        let question = Question { number, user: user.into(), asker: Arc::clone(asker) };
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(question);
        self.ready.notify_one();
        Some(number)
    }

    /// Whether so many are open that whoever asks more should wait a moment.
    pub(crate) fn is_busy(&self) -> bool {
        self.open.load(Ordering::Relaxed) > self.limit / 4
    }

    /// Whether that one has its share of them already.
    pub(crate) fn is_enough_for(&self, asker: &Connection) -> bool {
        self.is_busy() && asker.lookups.load(Ordering::Relaxed) >= SHARE
    }

    pub(crate) fn answered(&self, question: &Question) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        question.asker.lookups.fetch_sub(1, Ordering::Relaxed);
    }

    /// Up to `count` questions that nobody has taken yet.
    pub(crate) fn take(&self, count: usize) -> Vec<Question> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = count.min(waiting.len());
        let taken = waiting.drain(..count).collect();
        let more = !waiting.is_empty();
        drop(waiting);
        if more {
            // Several tasks take; one notification may have been for many questions.
            self.ready.notify_one();
        }
        taken
    }

    /// Questions that have no answer yet.
    fn put_back(&self, questions: Vec<Question>) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).extend(questions);
        self.ready.notify_one();
    }

    async fn some(&self) -> Vec<Question> {
        loop {
            let questions = self.take(BATCH);
            if !questions.is_empty() {
                return questions;
            }
            self.ready.notified().await;
        }
    }
}

/// Answers questions for as long as it is polled. Several may run at once: one slow answer then delays no other batch.
pub(crate) async fn answer(relay: &Relay) {
    let Relay { router, directory, links, metrics, fence, .. } = relay;
    loop {
        let questions = router.lookups.some().await;
        let users: Result<Vec<UserKey>, _> =
            questions.iter().map(|question| UserKey::of(&question.user)).collect();
        let entries = match users {
            Ok(users) => directory.users(&users).await.map_err(|error| {
                tracing::debug!(error = kurir_rpc::chain(&error), "look-up failed");
            }),
            Err(_) => Err(()),
        };
        // What waited for the answer is delivered with it.
        let may_act = fence.may_act() || fence.until_it_may_act().await;
        let entries = if may_act { entries } else { Err(()) };
        let mut open = Vec::new();
        for (index, question) in questions.into_iter().enumerate() {
            let answer = match &entries {
                Ok(entries) => entries.get(index).map_or(Some(Answer::Failed), |entries| of(entries, links)),
                Err(()) => Some(Answer::Failed),
            };
            let Some(answer) = answer else {
                open.push(question);
                continue;
            };
            metrics.looked_up(&answer);
            router.found(&question, &answer);
        }
        if !open.is_empty() {
            // Nobody is told that somebody is not there before that is known; their messages wait in line.
            router.lookups.put_back(open);
            sleep(AGAIN).await;
        }
    }
}

/// None: not on record yet, for the tables were lost and are being written again.
fn of(entries: &UserEntries, links: &Arc<Links>) -> Option<Answer> {
    // One of the user's relays will do: it passes on to the others.
    let elsewhere = entries.routes.iter().filter(|(_, route)| !links.is_me(&route.relay));
    let mut linked = elsewhere.filter_map(|(_, route)| links.get(&route.relay, route.generation));
    match linked.next() {
        Some(link) => Some(Answer::Link(link)),
        None if entries.routes.iter().any(|(_, route)| links.is_me(&route.relay)) => Some(Answer::Here),
        None if entries.routes.is_empty() => entries.complete.then_some(Answer::Nobody),
        None => Some(Answer::Nobody),
    }
}
