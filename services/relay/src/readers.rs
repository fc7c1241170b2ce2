//! The tasks that read logs and write them to their devices (PROTOCOL Part II: offline messages, `resume`).
//!
//! A connection that is behind has one task until it is not. The task reads a page, writes what fits, waits until the
//! socket has taken that, and goes on: a hundred thousand waiting messages cost no more memory than a few, and what is
//! live passes between them.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
    vec::IntoIter,
};

use kurir_delivery::{
    page::{Place, Step, Writing},
    reading,
};
use kurir_protocol::relay::{Ready, acknowledge, deliver, gap, id, is_to_another, ready};
use kurir_rpc::{
    Channel,
    v1::{
        self, GetHeadsRequest, LogEntry, MoveCursorsRequest, ReadRequest, ReadResponse,
        log_client::LogClient, read_request::From,
    },
};
use kurir_socket::outbox::Fill;
use kurir_trail::Reason;
use tokio::{
    sync::{Notify, Semaphore},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tonic::{Code, Response, Status};

use crate::{connection::Connection, relay::Relay, trail::PageNotes};

/// Entries of one page.
const PAGE: u32 = 64;

/// Pages on their way to this relay at once.
const PAGES: usize = 32;

/// A manager that has not answered by then is not waited for.
const ANSWER: Duration = Duration::from_secs(3);

/// One that has not answered by then is not waited for alone.
const SLOW: Duration = Duration::from_millis(500);

/// Between two attempts at managers that do not answer: the first pause and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Every connection's log is asked for its end once in this time, a part of them at a time, whoever should have told:
/// nothing that is stored waits longer.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// Users asked about at once.
const ASKED: usize = 512;

/// Moved cursors are stored this often.
const STORE_EVERY: Duration = Duration::from_millis(100);

/// What was pushed to a connection that is closed goes out at once, or its client takes nothing.
const TAKES: Duration = Duration::from_millis(300);

/// A connection's end waits so long for its cursor; then it is stored with others.
const LAST: Duration = Duration::from_millis(500);

/// Cursors stored at once.
const CURSORS: usize = 512;

/// Connections whose cursor may have to be stored.
#[derive(Debug)]
pub(crate) struct Readers {
    pages: Semaphore,
    moved: Mutex<HashMap<u64, Arc<Connection>>>,
    some_moved: Notify,
    /// The manager that answered last: one that has lost its database would be waited for again and again.
    answered: Mutex<Option<Arc<str>>>,
}

impl Readers {
    pub(crate) fn new() -> Self {
        Self {
            pages: Semaphore::new(PAGES),
            moved: Mutex::default(),
            some_moved: Notify::new(),
            answered: Mutex::default(),
        }
    }

    /// The cursor of this connection has moved, or will with the next write.
    pub(crate) fn moved(&self, connection: &Arc<Connection>) {
        self.lock().insert(connection.number, Arc::clone(connection));
        self.some_moved.notify_one();
    }

    /// None: nobody has answered yet.
    fn answered(&self) -> Option<Arc<str>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Brings a connection up to date, in a task of its own.
pub(crate) fn begin(relay: &Arc<Relay>, connection: &Arc<Connection>) {
    let (reader, connection) = (Arc::clone(relay), Arc::clone(connection));
    relay.tasks.spawn(async move {
        let over = reader.over.clone();
        let _ = over.run_until_cancelled(read(&reader, &connection)).await;
    });
}

/// A log has grown: whoever reads it here goes on.
pub(crate) fn heard(relay: &Arc<Relay>, user: &str, seq: u64, why: Reason) {
    for here in relay.router.here(user) {
        let behind = here.reading().hear(seq);
        if behind {
            relay.note_heard(&here, seq, why);
            begin(relay, &here);
        }
    }
}

/// Until the device has been sent all there is, or is gone.
async fn read(relay: &Relay, connection: &Arc<Connection>) {
    let mut pause = RETRY.0;
    while !connection.outbox.is_closed() {
        match page(relay, connection).await {
            Ok((from, page)) => {
                let found = !page.entries.is_empty();
                let mut notes = PageNotes::new(relay, connection, from);
                let more = write(relay, connection, page, &mut notes).await;
                notes.note();
                if !more {
                    return;
                }
                if found {
                    pause = RETRY.0;
                    continue;
                }
            }
            // An account that was removed while its user was here.
            Err(status) if status.code() == Code::NotFound => return,
            Err(status) => {
                tracing::debug!(
                    user = &*connection.user,
                    error = kurir_rpc::chain(&status),
                    "log not read yet"
                );
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
    }
}

/// A part of the log, and the manager that it was read at.
async fn page(relay: &Relay, connection: &Connection) -> Result<(Arc<str>, ReadResponse), Status> {
    let from = match connection.reading().from() {
        reading::From::After(seq) => From::After(seq),
        reading::From::Cursor => From::CursorOf(connection.resource.to_string()),
    };
    let request = ReadRequest { user: connection.user.to_string(), from: Some(from), most: PAGE };
    // Never closed.
    let _page = relay.readers.pages.acquire().await;
    call_one(relay, request, |mut client, request| async move { client.read(request).await }).await
}

/// True: there is more to read.
async fn write(
    relay: &Relay,
    connection: &Arc<Connection>,
    page: ReadResponse,
    notes: &mut PageNotes<'_>,
) -> bool {
    if !relay.fence.may_act() && !relay.fence.until_it_may_act().await {
        return true;
    }
    let plain = connection.reading().is_plain();
    let place = |entry: &LogEntry| Place { seq: entry.seq, hidden: is_hidden(connection, entry, plain) };
    let places = page.entries.iter().map(place).collect();
    let mut writing = Writing::new(&page.log, page.after, (page.first, page.last), places);
    loop {
        let step = writing.next(&mut connection.reading());
        let entry = page.entries.get(writing.index());
        if let Some(entry) = entry {
            notes.step(entry, &step);
        }
        let pushed = match step {
            Step::Ready { reset } => {
                let mut line = Vec::new();
                let first = (page.first > 1).then_some(page.first);
                ready(&mut line, &Ready { seq: page.last, log: &page.log, first, reset });
                let _ = connection.outbox.push(&line);
                if reset {
                    tracing::info!(
                        user = &*connection.user,
                        "a device resumes in another log or beyond its end"
                    );
                    return true;
                }
                continue;
            }
            Step::Gap { after, first } => {
                let device = &connection.resource;
                tracing::info!(user = &*connection.user, %device, after, first, "what a device had not read is gone");
                // Whoever has a name knows Part II.
                if !plain || connection.resource.is_named() {
                    let mut line = Vec::new();
                    gap(&mut line, after, first);
                    let _ = connection.outbox.push(&line);
                }
                continue;
            }
            Step::Acks(acks) => {
                let _ = connection.outbox.push(&acks);
                continue;
            }
            Step::Skip(_) => Ok(Fill::Light),
            Step::Acknowledge(ack) => connection.outbox.push_quietly(&ack),
            Step::Tell(index) => {
                let Some(entry) = page.entries.get(index) else { return false };
                connection.outbox.push_with(|out| tell(out, entry))
            }
            Step::Show(index) => {
                let Some(entry) = page.entries.get(index) else { return false };
                connection.outbox.push_with(|out| append(out, connection, entry, plain))
            }
            Step::Done { more } => {
                notes.note();
                connection.outbox.wake();
                relay.readers.moved(connection);
                if more {
                    connection.outbox.taken().await;
                }
                return more;
            }
        };
        let Ok(fill) = pushed else { return false };
        if let Some(entry) = entry {
            notes.done(entry);
        }
        writing.pushed(&mut connection.reading());
        if fill == Fill::Heavy {
            notes.note();
            connection.outbox.wake();
            connection.outbox.taken().await;
        }
    }
}

/// Its own message is not shown to a device again, and what another device has sent to others not to a client of the
/// original.
fn is_hidden(connection: &Connection, entry: &LogEntry, plain: bool) -> bool {
    let own = entry.sent_by.as_deref() == Some(connection.resource.as_str());
    own || plain && !connection.resource.is_named() && is_copy(connection, entry)
}

/// What another device of the account has sent to somebody else.
fn is_copy(connection: &Connection, entry: &LogEntry) -> bool {
    entry.sent_by.is_some() && is_to_another(&entry.stanza, &connection.user)
}

/// What the device has sent is stored.
fn tell(out: &mut Vec<u8>, entry: &LogEntry) {
    if let Some(id) = id(&entry.stanza) {
        acknowledge(out, &id, &entry.stanza_id, Some(entry.seq));
    }
}

fn append(out: &mut Vec<u8>, connection: &Connection, entry: &LogEntry, plain: bool) {
    let to = (!is_copy(connection, entry)).then_some(&*connection.name);
    if plain {
        connection.render(&entry.stanza, to, out);
        out.push(b'\n');
        return;
    }
    let mut stanza = Vec::new();
    connection.render(&entry.stanza, to, &mut stanza);
    // Rendered text is text.
    deliver(out, str::from_utf8(&stanza).unwrap_or_default(), entry.seq, &entry.stanza_id, entry.ts_ms);
}

/// Asks where everybody's log ends, for as long as it is polled.
pub(crate) async fn keep_asking(relay: &Arc<Relay>) {
    let shards = relay.router.table.connections().count();
    let mut turns = interval(ASK_EVERY / u32::try_from(shards.max(1)).unwrap_or(1));
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        for connections in relay.router.table.connections() {
            turns.tick().await;
            for asked in connections.chunks(ASKED) {
                ask(relay, asked).await;
            }
        }
    }
}

async fn ask(relay: &Arc<Relay>, connections: &[Arc<Connection>]) {
    // Those of one user are neighbours.
    let mut users: Vec<_> = connections.iter().map(|connection| connection.user.to_string()).collect();
    users.dedup();
    let request = GetHeadsRequest { users };
    // No answer: the next time is soon.
    let heads = call(relay, request, |mut client, request| async move { client.get_heads(request).await });
    if let Ok(heads) = heads.await {
        for v1::Head { user, seq } in heads.heads {
            heard(relay, &user, seq, Reason::Question);
        }
    }
}

/// Stores the cursors that have moved, for as long as it is polled.
pub(crate) async fn store_cursors(relay: &Relay) {
    loop {
        relay.readers.some_moved.notified().await;
        while !relay.readers.lock().is_empty() {
            sleep(STORE_EVERY).await;
            if !store_moved(relay).await {
                sleep(RETRY.1).await;
            }
        }
    }
}

/// Stores the cursors that have moved by now. False: no manager has stored them.
pub(crate) async fn store_moved(relay: &Relay) -> bool {
    // Taken out first: what moves meanwhile puts its connection in again.
    let moved: Vec<_> = std::mem::take(&mut *relay.readers.lock()).into_values().collect();
    let mut stored = true;
    for some in moved.chunks(CURSORS) {
        stored &= store_some(relay, some).await;
    }
    stored
}

/// Stores the cursor of a connection that is over, at once: its device may be on the way to another relay.
pub(crate) async fn store_last(relay: &Relay, connection: &Arc<Connection>) {
    if connection.outbox.is_closed() {
        // What its socket is just taking would be sent again.
        let _ = timeout(TAKES, connection.outbox.flushed()).await;
    }
    relay.readers.moved(connection);
    let _ = timeout(LAST, store_some(relay, std::slice::from_ref(connection))).await;
}

async fn store_some(relay: &Relay, moved: &[Arc<Connection>]) -> bool {
    let mut cursors = Vec::new();
    for connection in moved {
        let read = connection.reading().seq();
        let written = connection.note_written();
        if let Some(seq) = read
            && written
        {
            relay.note_written(connection, seq);
        }
        let cursor = connection.reading().cursor();
        if let Some(seq) = cursor {
            let (user, device) = (connection.user.to_string(), connection.resource.to_string());
            cursors.push((connection, v1::Cursor { user, device, seq }));
        }
        // What is still to be written is looked at again, unless there is nobody to write it to.
        if !written && !connection.outbox.is_closed() {
            relay.readers.moved(connection);
        }
    }
    if cursors.is_empty() {
        return true;
    }
    let request = MoveCursorsRequest { cursors: cursors.iter().map(|(_, cursor)| cursor.clone()).collect() };
    let moving =
        call(relay, request, |mut client, request| async move { client.move_cursors(request).await }).await;
    for (connection, cursor) in cursors {
        match &moving {
            Ok(_) => connection.reading().cursor_is_stored(cursor.seq),
            Err(_) => relay.readers.moved(connection),
        }
    }
    if let Err(status) = &moving {
        tracing::debug!(error = kurir_rpc::chain(status), "cursors not stored yet");
    }
    moving.is_ok()
}

async fn call<R: Clone, T, F: Future<Output = Result<Response<T>, Status>>>(
    relay: &Relay,
    request: R,
    call: impl Fn(LogClient<Channel>, R) -> F,
) -> Result<T, Status> {
    call_one(relay, request, call).await.map(|(_, answer)| answer)
}

/// Calls one manager after the other until one answers: which, and what.
async fn call_one<R: Clone, T, F: Future<Output = Result<Response<T>, Status>>>(
    relay: &Relay,
    request: R,
    call: impl Fn(LogClient<Channel>, R) -> F,
) -> Result<(Arc<str>, T), Status> {
    let before = relay.readers.answered();
    let managers = relay.managers.all(before.as_deref());
    let (id, answer) = first_answer(managers.into_iter(), &request, &call).await?;
    if before.as_deref() != Some(&*id) {
        *relay.readers.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&id));
    }
    Ok((id, answer))
}

/// The first answer of these managers. One that is slow is not waited for alone: the next one is asked too.
async fn first_answer<R: Clone, T, F: Future<Output = Result<Response<T>, Status>>>(
    mut managers: IntoIter<(Arc<str>, LogClient<Channel>)>,
    request: &R,
    call: &impl Fn(LogClient<Channel>, R) -> F,
) -> Result<(Arc<str>, T), Status> {
    let Some((id, client)) = managers.next() else {
        return Err(Status::unavailable("no manager is attached"));
    };
    let one = async {
        match timeout(ANSWER, call(client, request.clone())).await {
            Ok(answer) => answer.map(|response| (id, response.into_inner())),
            Err(_) => Err(Status::deadline_exceeded("no answer")),
        }
    };
    // What one manager says is so at all of them.
    let final_word = |status: &Status| status.code() == Code::NotFound || managers.as_slice().is_empty();
    let mut one = pin!(one);
    match timeout(SLOW, &mut one).await {
        Ok(Err(status)) if !final_word(&status) => {}
        Ok(answer) => return answer,
        Err(_) if managers.as_slice().is_empty() => return one.await,
        Err(_) => {
            let mut others = Box::pin(first_answer(managers, request, call));
            return tokio::select! {
                answer = &mut one => match answer {
                    Err(status) if status.code() != Code::NotFound => others.await,
                    answer => answer,
                },
                answer = &mut others => match answer {
                    Err(status) if status.code() != Code::NotFound => one.await,
                    answer => answer,
                },
            };
        }
    }
    Box::pin(first_answer(managers, request, call)).await
}
