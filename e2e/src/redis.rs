//! A real Redis.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::containers::Containers;
use crate::deadline::{PATIENCE, until, within};
use crate::process::{Launch, Process};

/// A redis-server that keeps nothing on disk unless it is asked to.
#[derive(Debug)]
pub struct Redis {
    at: SocketAddr,
    pub(crate) process: Process,
}

impl Redis {
    /// Starts it and waits until it answers.
    pub async fn start(at: SocketAddr, dir: &Path, containers: Option<&Containers>) -> Redis {
        let (ip, port) = (at.ip().to_string(), at.port().to_string());
        let data = dir.join("redis");
        std::fs::create_dir_all(&data).expect("a directory for Redis");
        let args =
            ["--port", &port, "--bind", &ip, "--protected-mode", "no", "--save", "", "--appendonly", "no"]
                .into_iter()
                .chain(["--dir", data.to_str().expect("a path in UTF-8"), "--daemonize", "no"])
                .map(String::from)
                .collect();
        let launch = Launch {
            name: "redis".into(),
            program: "redis-server".into(),
            args,
            env: Vec::new(),
            user: None,
            logs: dir.to_path_buf(),
        };
        let launch = containers.map_or(launch.clone(), |containers| containers.holding(launch, at.ip()));
        let redis = Redis { at, process: launch.start() };
        redis.answers().await;
        redis
    }

    /// As the configuration key `directory.url` takes it.
    pub fn url(&self) -> String {
        format!("redis://{}", self.at)
    }

    /// As a Redis in which components have been before: at the very first start nobody trusts its tables for one lease's time,
    /// which a scenario that is not about that need not wait for.
    pub async fn has_been_used(&self) {
        let info = self.answer("INFO server").await.expect("what server it is");
        let server = info.lines().find_map(|line| line.strip_prefix("run_id:")).expect("the server's life");
        let set = self.says(&format!("SET kurir:{{epoch}} before@{server}")).await;
        assert_eq!(set.as_deref(), Some("+OK"), "Redis did not take an epoch");
    }

    /// Empties it.
    pub async fn flush_all(&self) {
        assert_eq!(self.says("FLUSHALL").await.as_deref(), Some("+OK"), "Redis did not empty itself");
    }

    /// Ends it and loses what was in it.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Ends it with its data on disk, where the next start finds it.
    pub async fn shut_down_saving(&mut self) {
        self.says("SHUTDOWN SAVE").await;
        self.process.end(PATIENCE).await;
    }

    /// Starts it again on the same port.
    pub async fn start_again(&mut self) {
        self.process.start_again();
        self.answers().await;
    }

    /// SIGSTOP: connections stay open and nothing answers.
    pub fn pause(&self) {
        self.process.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.process.signal(Signal::CONT);
    }

    async fn answers(&self) {
        until(PATIENCE, "Redis", async || self.says("PING").await.filter(|line| line == "+PONG")).await;
    }

    /// One inline command, and the first line of the answer.
    async fn says(&self, command: &str) -> Option<String> {
        self.answer(command).await?.lines().next().map(String::from)
    }

    /// The same, and the beginning of the answer.
    async fn answer(&self, command: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.at).await.ok()?;
        stream.write_all(format!("{command}\r\n").as_bytes()).await.ok()?;
        let mut answer = vec![0; 4096];
        let read = within(Duration::from_secs(10), "Redis' answer", stream.read(&mut answer)).await.ok()?;
        Some(String::from_utf8_lossy(&answer[..read]).into_owned())
    }
}
