//! A TCP proxy that is the network between two parts: what passes can be stalled, delayed or cut, each way, at any time.
//!
//! It is as close to a network as connections that end at the proxy allow: while a direction stalls, neither bytes nor the
//! connection's end pass it, so a part that died behind it seems to be there (half-open). What a stall has held back
//! goes on when it is over, as after a network's outage. Connections can be forgotten, too, as by a firewall that was
//! started again: they are never heard of any more, and new ones are served. What it can't do is to leave a new connection without an answer.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio::time::{Instant, timeout_at};

/// The largest piece that is read at once, and how many may be on their way: what a network holds in its buffers.
const PIECE_BYTES: usize = 16 * 1024;
const PIECES: usize = 64;

/// What one direction does with what comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flow {
    /// Passes it on.
    #[default]
    Pass,
    /// Holds everything back, for now.
    Stall,
    /// Passes it on so much later.
    Delay(Duration),
}

/// What happens to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// They are there; `forth` is from who connects, `back` is to them.
    Open {
        /// From who has connected.
        forth: Flow,
        /// To who has connected.
        back: Flow,
    },
    /// They are reset, and so is every new one.
    Closed,
}

impl Default for Way {
    fn default() -> Way {
        Way::CLEAR
    }
}

impl Way {
    /// As if the proxy were not there.
    pub const CLEAR: Way = Way::Open { forth: Flow::Pass, back: Flow::Pass };

    fn flow(self, direction: Direction) -> Flow {
        match (self, direction) {
            (Way::Open { forth, .. }, Direction::Forth) => forth,
            (Way::Open { back, .. }, Direction::Back) => back,
            (Way::Closed, _) => Flow::Stall,
        }
    }

    fn stalls(self) -> bool {
        [Direction::Forth, Direction::Back].into_iter().any(|direction| self.flow(direction) == Flow::Stall)
    }
}

/// Says who has opened a connection, by the address that it comes from.
pub type Diallers = Arc<dyn Fn(SocketAddr) -> Option<String> + Send + Sync>;

/// Passes connections on from one address to another. Dropping it resets them.
#[derive(Debug)]
pub struct Proxy {
    ways: watch::Sender<Ways>,
    accepting: JoinHandle<()>,
}

#[derive(Clone, Debug, Default)]
struct Ways {
    everybody: Way,
    /// Stronger than what holds for everybody.
    by_dialler: BTreeMap<String, Way>,
    /// How often the connections of a dialler were forgotten.
    forgotten: BTreeMap<String, usize>,
}

/// What holds for one connection.
#[derive(Debug)]
struct Rules {
    dialler: Option<String>,
    ways: watch::Receiver<Ways>,
    /// How often connections of the same dialler had been forgotten when this one came.
    forgotten_before: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Forth,
    Back,
}

impl Proxy {
    /// Listens at `at`; whoever connects is connected to `to`.
    pub async fn start(at: SocketAddr, to: SocketAddr, diallers: Diallers) -> Proxy {
        let listener = TcpListener::bind(at)
            .await
            .unwrap_or_else(|error| panic!("a proxy can't listen at {at}: {error}"));
        let ways = watch::Sender::new(Ways::default());
        let rules = ways.subscribe();
        // Ends with the proxy, and its connections with it.
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                // Out of files, or a connection that is gone already: the next one.
                let Ok((client, from)) = listener.accept().await else { continue };
                let (ways, diallers) = (rules.clone(), Arc::clone(&diallers));
                let forgotten = ways.borrow().forgotten.clone();
                connections.spawn(async move {
                    // It reads files.
                    let dialler = spawn_blocking(move || diallers(from)).await.ok().flatten();
                    let before = dialler.as_ref().and_then(|dialler| forgotten.get(dialler));
                    let forgotten_before = before.copied().unwrap_or_default();
                    serve(client, to, &Rules { dialler, ways, forgotten_before }).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Proxy { ways, accepting }
    }

    /// From now on for everybody for whom nothing of their own is set.
    pub fn set(&self, way: Way) {
        self.ways.send_modify(|ways| ways.everybody = way);
    }

    /// From now on for what this dialler has connected and connects.
    pub fn set_for(&self, dialler: &str, way: Way) {
        self.ways.send_modify(|ways| {
            ways.by_dialler.insert(dialler.to_string(), way);
        });
    }

    /// What this dialler has connected is never heard of again by either side: what is written is taken and lost, and no end is
    /// told. What it connects from now on is another matter.
    pub fn forget(&self, dialler: &str) {
        self.ways.send_modify(|ways| *ways.forgotten.entry(dialler.to_string()).or_default() += 1);
    }

    /// Everything passes again.
    pub fn clear(&self) {
        self.ways.send_modify(|ways| {
            ways.everybody = Way::CLEAR;
            ways.by_dialler.clear();
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Ways {
    fn of(&self, dialler: Option<&str>) -> Way {
        dialler.and_then(|dialler| self.by_dialler.get(dialler)).copied().unwrap_or(self.everybody)
    }

    fn forgotten(&self, dialler: Option<&str>) -> usize {
        dialler.and_then(|dialler| self.forgotten.get(dialler)).copied().unwrap_or_default()
    }
}

impl Rules {
    fn way(&self) -> Way {
        self.ways.borrow().of(self.dialler.as_deref())
    }

    /// Until the way is as `wanted`. Without the proxy there is nothing to wait for.
    async fn until(&self, wanted: impl Fn(Way) -> bool) {
        let mut ways = self.ways.clone();
        let _ = ways.wait_for(|ways| wanted(ways.of(self.dialler.as_deref()))).await;
    }

    /// Until this connection is forgotten.
    async fn until_forgotten(&self) {
        let mut ways = self.ways.clone();
        let forgotten = |ways: &Ways| ways.forgotten(self.dialler.as_deref()) > self.forgotten_before;
        let _ = ways.wait_for(forgotten).await;
    }

    /// Until what came then may go on.
    async fn until_due(&self, direction: Direction, came: Instant) {
        loop {
            let flow = self.way().flow(direction);
            match flow {
                Flow::Pass => return,
                Flow::Stall => self.until(|way| way.flow(direction) != Flow::Stall).await,
                Flow::Delay(delay) => {
                    let changed = self.until(|way| way.flow(direction) != flow);
                    if timeout_at(came + delay, changed).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

async fn serve(mut client: TcpStream, to: SocketAddr, rules: &Rules) {
    let mut server = None;
    let broken = tokio::select! {
        () = rules.until(|way| way == Way::Closed) => true,
        carried = carry(&mut client, &mut server, to, rules) => carried.is_err(),
        () = rules.until_forgotten() => return swallow(client, server, rules).await,
    };
    if broken {
        for stream in [Some(&client), server.as_ref()].into_iter().flatten() {
            // Then it is closed already.
            let _ = stream.set_zero_linger();
        }
    }
}

/// Takes what either side writes until who has connected gives up. Only when the network is there again the other side's keepalives
/// would find that out: before, it holds what it holds, and to the end of time it would take up room there.
async fn swallow(mut client: TcpStream, mut server: Option<TcpStream>, rules: &Rules) {
    let of_the_server = async {
        if let Some(server) = &mut server {
            ends(server).await;
        }
        std::future::pending::<()>().await;
    };
    let gives_up = async {
        ends(&mut client).await;
        rules.until(|way| !way.stalls()).await;
    };
    tokio::select! {
        () = gives_up => {}
        () = of_the_server => {}
    }
    if let Some(server) = server {
        // Then it is closed already.
        let _ = server.set_zero_linger();
    }
}

/// Until this side has ended.
async fn ends(side: &mut TcpStream) {
    let mut lost = vec![0; PIECE_BYTES];
    while side.read(&mut lost).await.is_ok_and(|read| read > 0) {}
}

/// Until both sides have ended, or it is broken.
async fn carry(
    client: &mut TcpStream,
    server: &mut Option<TcpStream>,
    to: SocketAddr,
    rules: &Rules,
) -> io::Result<()> {
    rules.until(|way| !way.stalls()).await;
    let carried = async {
        let server = server.insert(TcpStream::connect(to).await?);
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let forth = pump(from_client, to_server, rules, Direction::Forth);
        let back = pump(from_server, to_client, rules, Direction::Back);
        tokio::try_join!(forth, back).map(|_| ())
    };
    let carried = carried.await;
    if carried.is_err() {
        // That one side is gone is news to the other, and news does not pass a stall.
        rules.until(|way| !way.stalls()).await;
    }
    carried
}

/// Carries one direction to its end.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    rules: &Rules,
    direction: Direction,
) -> io::Result<()> {
    let (pieces, mut on_their_way) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let reading = async move {
        loop {
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            let read = from.read_buf(&mut piece).await?;
            // The other half ends only after this one, or with everything.
            let _ = pieces.send((Instant::now(), piece)).await;
            if read == 0 {
                return Ok(());
            }
        }
    };
    let writing = async {
        while let Some((came, piece)) = on_their_way.recv().await {
            rules.until_due(direction, came).await;
            to.write_all(&piece).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(reading, writing).map(|_: ((), ())| ())
}
