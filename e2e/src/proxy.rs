//! A TCP proxy that is the network between two parts: what passes can be stalled, delayed or cut, each way, at any time.
//!
//! It is as close to a network as connections that end at the proxy allow: while a direction stalls, neither bytes nor the
//! connection's end pass it, so a part that died behind it seems to be there (half-open). What a stall has held back
//! goes on when it is over, as after a network's outage. What it can't do is to leave a new connection without an answer.

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

#[derive(Clone, Debug)]
struct Ways {
    everybody: Way,
    /// Stronger than what holds for everybody.
    by_dialler: BTreeMap<String, Way>,
}

/// What holds for one connection.
#[derive(Debug)]
struct Rules {
    dialler: Option<String>,
    ways: watch::Receiver<Ways>,
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
        let ways = watch::Sender::new(Ways { everybody: Way::CLEAR, by_dialler: BTreeMap::new() });
        let rules = ways.subscribe();
        // Ends with the proxy, and its connections with it.
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                // Out of files, or a connection that is gone already: the next one.
                let Ok((client, from)) = listener.accept().await else { continue };
                let (ways, diallers) = (rules.clone(), Arc::clone(&diallers));
                connections.spawn(async move {
                    // It reads files.
                    let dialler = spawn_blocking(move || diallers(from)).await.ok().flatten();
                    serve(client, to, &Rules { dialler, ways }).await;
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
    };
    if broken {
        for stream in [Some(&client), server.as_ref()].into_iter().flatten() {
            // Then it is closed already.
            let _ = stream.set_zero_linger();
        }
    }
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

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::deadline::{PATIENCE, within};
    use crate::ports::{Ports, local};

    /// Long enough for what passes to have come, on a machine with nothing else to do or with much.
    const A_WHILE: Duration = Duration::from_millis(300);

    /// Somebody who is connected to somebody else through a proxy.
    struct Pair {
        proxy: Proxy,
        ports: Ports,
        listener: TcpListener,
        near: TcpStream,
        far: TcpStream,
    }

    impl Pair {
        async fn connected() -> Pair {
            let ports = Ports::find();
            let listener = TcpListener::bind(local(ports.base())).await.unwrap();
            let diallers: Diallers = Arc::new(|_| Some("near".into()));
            let proxy = Proxy::start(local(ports.spare()), local(ports.base()), diallers).await;
            let near = TcpStream::connect(local(ports.spare())).await.unwrap();
            let (far, _) = within(PATIENCE, "a connection", listener.accept()).await.unwrap();
            let mut pair = Pair { proxy, ports, listener, near, far };
            // The kernel connects sooner than the proxy knows.
            says(&mut pair.near, "ping").await;
            hears(&mut pair.far, "ping").await;
            pair
        }
    }

    async fn says(from: &mut TcpStream, text: &str) {
        from.write_all(text.as_bytes()).await.unwrap();
    }

    async fn hears(at: &mut TcpStream, text: &str) {
        let mut heard = vec![0; text.len()];
        within(PATIENCE, text, at.read_exact(&mut heard)).await.unwrap();
        assert_eq!(heard, text.as_bytes());
    }

    async fn hears_nothing(at: &mut TcpStream) {
        let mut heard = [0];
        let read = timeout(A_WHILE, at.read(&mut heard)).await;
        assert!(read.is_err(), "heard {read:?}");
    }

    async fn is_reset(at: &mut TcpStream) {
        let mut heard = [0];
        let read = within(PATIENCE, "a reset", at.read(&mut heard)).await;
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    const STALLED_FORTH: Way = Way::Open { forth: Flow::Stall, back: Flow::Pass };
    const STALLED: Way = Way::Open { forth: Flow::Stall, back: Flow::Stall };

    #[tokio::test]
    async fn everything_passes_and_so_does_the_end_of_either_side() {
        let mut pair = Pair::connected().await;
        says(&mut pair.near, "halo").await;
        hears(&mut pair.far, "halo").await;
        pair.near.shutdown().await.unwrap();
        assert_eq!(within(PATIENCE, "the end", pair.far.read(&mut [0])).await.unwrap(), 0);
        // The other half goes on.
        says(&mut pair.far, "masih di sini").await;
        hears(&mut pair.near, "masih di sini").await;
        drop(pair.far);
        assert_eq!(within(PATIENCE, "the end", pair.near.read(&mut [0])).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn much_more_than_the_buffers_hold_arrives_whole() {
        let pair = Pair::connected().await;
        let sent: Vec<u8> =
            (0..8_000_000_u32).map(|number| number.to_le_bytes()[number as usize % 3]).collect();
        let (mut near, mut far) = (pair.near, pair.far);
        let sending = async {
            near.write_all(&sent).await.unwrap();
            near.shutdown().await.unwrap();
        };
        let mut heard = Vec::new();
        let ((), read) =
            within(PATIENCE, "all of it", async { tokio::join!(sending, far.read_to_end(&mut heard)) }).await;
        read.unwrap();
        assert!(heard == sent);
    }

    #[tokio::test]
    async fn a_stall_holds_one_direction_back_and_not_the_other() {
        let mut pair = Pair::connected().await;
        pair.proxy.set(STALLED_FORTH);
        says(&mut pair.near, "halo").await;
        hears_nothing(&mut pair.far).await;
        says(&mut pair.far, "hai").await;
        hears(&mut pair.near, "hai").await;
        pair.proxy.clear();
        hears(&mut pair.far, "halo").await;
    }

    #[tokio::test]
    async fn a_death_behind_a_stall_is_not_noticed_before_its_end() {
        let mut pair = Pair::connected().await;
        pair.proxy.set(STALLED);
        pair.far.set_zero_linger().unwrap();
        drop(pair.far);
        hears_nothing(&mut pair.near).await;
        // What is written to the dead seems to be taken.
        says(&mut pair.near, "halo?").await;
        hears_nothing(&mut pair.near).await;
        pair.proxy.clear();
        is_reset(&mut pair.near).await;
    }

    #[tokio::test]
    async fn a_delay_is_kept_and_keeps_the_order() {
        const DELAY: Duration = Duration::from_millis(400);
        let mut pair = Pair::connected().await;
        pair.proxy.set(Way::Open { forth: Flow::Delay(DELAY), back: Flow::Pass });
        let began = Instant::now();
        says(&mut pair.near, "satu ").await;
        says(&mut pair.near, "dua").await;
        hears(&mut pair.far, "satu dua").await;
        assert!(began.elapsed() >= DELAY, "after {:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_closed_way_resets_what_is_there_and_what_comes() {
        let mut pair = Pair::connected().await;
        pair.proxy.set(Way::Closed);
        is_reset(&mut pair.near).await;
        is_reset(&mut pair.far).await;
        let mut again = TcpStream::connect(local(pair.ports.spare())).await.unwrap();
        is_reset(&mut again).await;
        pair.proxy.clear();
        let mut again = TcpStream::connect(local(pair.ports.spare())).await.unwrap();
        let (mut far, _) = within(PATIENCE, "a connection", pair.listener.accept()).await.unwrap();
        says(&mut again, "lagi").await;
        hears(&mut far, "lagi").await;
    }

    #[tokio::test]
    async fn a_connection_to_nobody_is_reset() {
        let pair = Pair::connected().await;
        drop(pair.listener);
        let mut again = TcpStream::connect(local(pair.ports.spare())).await.unwrap();
        is_reset(&mut again).await;
    }

    #[tokio::test]
    async fn what_is_set_for_a_dialler_holds_for_no_other() {
        let mut pair = Pair::connected().await;
        pair.proxy.set_for("somebody else", Way::Closed);
        says(&mut pair.near, "halo").await;
        hears(&mut pair.far, "halo").await;
        pair.proxy.set_for("near", STALLED_FORTH);
        says(&mut pair.near, "hai").await;
        hears_nothing(&mut pair.far).await;
    }
}
