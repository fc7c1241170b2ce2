//! What passes a proxy, and what does not.

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
    let sent: Vec<u8> = (0..8_000_000_u32).map(|number| number.to_le_bytes()[number as usize % 3]).collect();
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
async fn a_forgotten_connection_is_not_heard_of_again_and_a_new_one_is() {
    let mut pair = Pair::connected().await;
    pair.proxy.set_for("near", STALLED);
    pair.proxy.forget("near");
    // All is taken, more than any buffer holds, and none of it comes, also when everything passes again.
    within(PATIENCE, "room", pair.near.write_all(&vec![b'x'; 8_000_000])).await.unwrap();
    says(&mut pair.far, "hai").await;
    pair.proxy.clear();
    hears_nothing(&mut pair.far).await;
    hears_nothing(&mut pair.near).await;
    let mut again = TcpStream::connect(local(pair.ports.spare())).await.unwrap();
    let (mut far, _) = within(PATIENCE, "a connection", pair.listener.accept()).await.unwrap();
    says(&mut again, "lagi").await;
    hears(&mut far, "lagi").await;
    // Its end on the one side is nothing on the other, before the network is there again.
    pair.proxy.set_for("near", STALLED);
    drop(pair.near);
    hears_nothing(&mut pair.far).await;
    pair.proxy.clear();
    is_reset(&mut pair.far).await;
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
