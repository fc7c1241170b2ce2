//! The ceiling for a relay on this machine: a forwarder that parses nothing, built on the same runtime with the same
//! batching. Whatever the relay costs above it is the price of JSON, routing and safety.

use std::{
    collections::HashMap,
    io::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
};

const READ_BYTES: usize = 16 * 1024;

/// `kurir bench forwarder`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:5999", value_name = "H:P")]
    listen: SocketAddr,
}

type Targets = Arc<Mutex<HashMap<Vec<u8>, Arc<Queue>>>>;

/// Lines waiting for one client.
#[derive(Debug, Default)]
struct Queue {
    lines: Mutex<Vec<u8>>,
    filled: Notify,
}

impl Queue {
    fn push(&self, line: &[u8]) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(line);
    }
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    writeln!(std::io::stdout(), "forwarder is ready on {}", listener.local_addr()?)?;
    let targets = Targets::default();
    loop {
        let (stream, _) = listener.accept().await?;
        // A connection's tasks end with its socket, and the process with the benchmark.
        tokio::spawn(serve(stream, Arc::clone(&targets)));
    }
}

async fn serve(stream: TcpStream, targets: Targets) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    let queue = Arc::new(Queue::default());
    let write = tokio::spawn(write(writer, Arc::clone(&queue)));
    let read = read(reader, queue, targets).await;
    write.abort();
    read
}

async fn write(mut writer: OwnedWriteHalf, queue: Arc<Queue>) -> std::io::Result<()> {
    let mut taken = Vec::new();
    loop {
        std::mem::swap(&mut *queue.lines.lock().unwrap_or_else(PoisonError::into_inner), &mut taken);
        if taken.is_empty() {
            queue.filled.notified().await;
            continue;
        }
        writer.write_all(&taken).await?;
        taken.clear();
    }
}

async fn read(mut reader: OwnedReadHalf, queue: Arc<Queue>, targets: Targets) -> std::io::Result<()> {
    let mut input = Vec::with_capacity(READ_BYTES);
    let mut named = false;
    let mut last: Option<(Vec<u8>, Arc<Queue>)> = None;
    while reader.read_buf(&mut input).await? != 0 {
        let mut rest = input.as_slice();
        while let Some((line, after)) = split_line(rest) {
            rest = after;
            if !named {
                named = true;
                let name = line.strip_suffix(b"\n").unwrap_or(line).to_vec();
                targets.lock().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::clone(&queue));
                continue;
            }
            let Some(space) = memchr::memchr(b' ', line) else { continue };
            let (target, payload) = line.split_at(space);
            let known = matches!(&last, Some((name, _)) if name == target);
            if !known {
                let queue = targets.lock().unwrap_or_else(PoisonError::into_inner).get(target).cloned();
                if let Some((_, queue)) = last.take() {
                    queue.filled.notify_one();
                }
                last = queue.map(|queue| (target.to_vec(), queue));
            }
            if let Some((_, queue)) = &last {
                queue.push(payload.get(1..).unwrap_or_default());
            }
        }
        if let Some((_, queue)) = &last {
            queue.filled.notify_one();
        }
        let consumed = input.len() - rest.len();
        input.drain(..consumed);
        input.reserve(READ_BYTES);
    }
    Ok(())
}

/// One line, its LF included, and what follows it.
fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\n', bytes)? + 1;
    bytes.split_at_checked(end)
}
