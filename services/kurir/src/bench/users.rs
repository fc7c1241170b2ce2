//! Accounts, logins and relay connections for the load, over plain sockets in lines framing.

use std::{future::Future, io::Write as _, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};

/// How many users are logging in at once.
const AT_ONCE: usize = 64;

/// A reply that has not come by then never does.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

const PASSWORD: &str = "benchmark";

/// Where a user may connect, from the login's reply.
#[derive(Debug, Clone)]
pub(super) struct Ticket {
    pub(super) addr: String,
    token: String,
    /// The relay's name, to count how evenly users spread.
    pub(super) relay: String,
}

/// A user online at a manager.
#[derive(Debug)]
pub(super) struct User {
    pub(super) manager: TcpStream,
    pub(super) ticket: Ticket,
}

/// The manager's address of a server started with this first port.
pub(super) fn manager_addr(port_base: u16) -> String {
    format!("127.0.0.1:{}", port_base + 1)
}

/// The address of one of several managers, in turn.
pub(super) fn manager_in_turn(port_base: u16, managers: u16, index: usize) -> String {
    let turn = u16::try_from(index % usize::from(managers)).unwrap_or_default();
    manager_addr(port_base + turn)
}

/// Registers or logs in; the connection stays open, so the user stays online.
pub(super) async fn login(manager: &str, name: &str, register: bool) -> anyhow::Result<User> {
    let mut stream = TcpStream::connect(manager).await.context("cannot connect to the manager")?;
    stream.set_nodelay(true)?;
    let mut auth = json!({"type": "auth", "username": name, "password": PASSWORD});
    if register && let Some(auth) = auth.as_object_mut() {
        auth.insert("register".into(), true.into());
    }
    let mut reply = ask(&mut stream, &auth).await?;
    ensure!(reply.get("error") == Some(&Value::Bool(false)), "login of {name} was refused: {reply}");
    // A relay reports to the manager within a second of its start.
    let mut patience = 50;
    loop {
        if let Some(relay) = reply.pointer("/component/0") {
            let text = |key: &str| relay.get(key).and_then(Value::as_str).map(str::to_owned);
            let host = text("ip_local").context("no relay address in the reply")?;
            let port = relay.get("port").and_then(Value::as_u64).context("no relay port in the reply")?;
            let token = text("token").context("no ticket in the reply")?;
            let relay = text("username").context("no relay name in the reply")?;
            return Ok(User {
                manager: stream,
                ticket: Ticket { addr: format!("{host}:{port}"), token, relay },
            });
        }
        ensure!(patience > 0, "no relay is alive");
        patience -= 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let answer = ask(&mut stream, &json!({"type": "get_relay_less_connection"})).await?;
        reply = answer.get(0).cloned().context("an empty answer to get_relay_less_connection")?;
    }
}

/// Connects to the relay; when it returns the user is reachable.
pub(super) async fn hello(name: &str, ticket: &Ticket) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(&ticket.addr).await.context("cannot connect to the relay")?;
    stream.set_nodelay(true)?;
    let hello = json!({"username": name, "message": "hello!", "token": ticket.token});
    stream.write_all(format!("{hello}\n").as_bytes()).await?;
    // A hello has no reply; the answer to a ping after it says that it has been handled.
    let pong = ask(&mut stream, &json!({"stanza":"iq","namespace":"ping","type":"get","id":"hello"})).await?;
    ensure!(
        pong.get("type").and_then(Value::as_str) == Some("result"),
        "hello of {name} was refused: {pong}"
    );
    Ok(stream)
}

/// Connects to the relay as a device that goes by places in its log and has none of it; when it returns the log's place
/// is known. For a log that is empty: what follows that answer at once would be lost.
pub(super) async fn resume(name: &str, ticket: &Ticket) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(&ticket.addr).await.context("cannot connect to the relay")?;
    stream.set_nodelay(true)?;
    let ready = ask(&mut stream, &resuming(name, ticket)).await?;
    ensure!(
        ready.get("type").and_then(Value::as_str) == Some("ready"),
        "hello of {name} was refused: {ready}"
    );
    Ok(stream)
}

/// The hello of a device that is to get its whole log.
pub(super) fn resuming(name: &str, ticket: &Ticket) -> Value {
    json!({"username": name, "message": "hello!", "token": ticket.token, "resume": 0})
}

/// Sends the logout; [`until_closed`] waits for its end.
pub(super) async fn logout(mut user: User, name: &str) -> anyhow::Result<TcpStream> {
    let unavailable = json!({"stanza": "presence", "from": name, "type": "unavailable"});
    user.manager.write_all(format!("{unavailable}\n").as_bytes()).await?;
    Ok(user.manager)
}

/// Reads until the server has closed.
pub(super) async fn until_closed(mut stream: TcpStream) -> anyhow::Result<()> {
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest)).await.context("the server did not close")??;
    Ok(())
}

/// Sends one request and reads one line.
async fn ask(stream: &mut TcpStream, request: &Value) -> anyhow::Result<Value> {
    stream.write_all(format!("{request}\n").as_bytes()).await?;
    let mut line = Vec::new();
    let read = async {
        // A byte past the line would belong to the next stanza: the benchmark's users have none outstanding.
        while line.last() != Some(&b'\n') {
            ensure!(stream.read_buf(&mut line).await? > 0, "the server closed the connection");
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, read).await.context("no reply")??;
    Ok(serde_json::from_slice(&line)?)
}

/// Runs `make(0..count)` with a bounded number at once and shows progress; results in order of the index.
pub(super) async fn many<T, F>(what: &str, count: usize, make: impl Fn(usize) -> F) -> anyhow::Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = anyhow::Result<T>> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for index in 0..count {
        let permits = Arc::clone(&permits);
        let task = make(index);
        tasks.spawn(async move {
            let _permit = permits.acquire_owned().await?;
            anyhow::Ok((index, task.await?))
        });
    }
    let mut done = Vec::with_capacity(count);
    while let Some(result) = tasks.join_next().await {
        done.push(result??);
        if done.len() % 100 == 0 || done.len() == count {
            progress(&format!("{what} {}/{count}", done.len()));
        }
    }
    end_progress();
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, value)| value).collect())
}

/// Overwrites the line of progress on stderr.
pub(super) fn progress(text: &str) {
    let _ = write!(std::io::stderr(), "\r\x1b[K{text}");
}

/// Ends the line of progress.
pub(super) fn end_progress() {
    let _ = writeln!(std::io::stderr());
}
