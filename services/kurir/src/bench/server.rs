//! The process under test and what `/proc` says of it.

use std::{fs, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use super::{Common, Stores};

/// How long a server may take to say that it is ready.
const START: Duration = Duration::from_secs(30);

/// A server of this same binary, started for one benchmark and stopped with it.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    pid: u32,
    _data: Option<Scratch>,
}

/// Processor time and memory of a server at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// User and system time so far, in seconds.
    pub(super) cpu_seconds: f64,
    /// Resident memory in bytes, the kernel's socket buffers not among it.
    pub(super) rss_bytes: u64,
}

/// A directory that goes with its owner.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Server {
    /// `kurir up` with an empty database and passwords at the least cost: the load needs thousands of accounts, and
    /// none of these benchmarks measures argon2 (`bench login --password-cost default` does).
    pub(super) async fn up(common: &Common, password_cost: PasswordCost) -> anyhow::Result<Server> {
        Server::up_with(common, &Stores::default(), password_cost).await
    }

    /// The same with these managers and this database, which is used as it is.
    pub(super) async fn up_with(
        common: &Common,
        stores: &Stores,
        password_cost: PasswordCost,
    ) -> anyhow::Result<Server> {
        let data = std::env::temp_dir().join(format!("kurir-bench-{}", std::process::id()));
        fs::create_dir_all(&data).context("cannot make a directory for the server's data")?;
        let scratch = Scratch(data.clone());
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["up", "--relays", &common.relays.to_string()])
            .args(["--managers", &stores.managers.to_string()])
            .args(["--port-base", &common.port_base.to_string()])
            .arg("--data")
            .arg(&data)
            .env("KURIR__LOG__LEVEL", "warn");
        if let Some(database) = &stores.database {
            command.args(["--database", database]);
        }
        if password_cost == PasswordCost::Least {
            command
                .env("KURIR__MANAGER__ARGON2_MEMORY_KIB", "8")
                .env("KURIR__MANAGER__ARGON2_ITERATIONS", "1");
        }
        Server::start(command, "kurir is ready", Some(scratch)).await
    }

    /// `kurir bench forwarder` on `port`.
    pub(super) async fn forwarder(port: u16) -> anyhow::Result<Server> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", "forwarder", "--listen", &format!("127.0.0.1:{port}")]);
        Server::start(command, "forwarder is ready", None).await
    }

    async fn start(mut command: Command, ready: &str, data: Option<Scratch>) -> anyhow::Result<Server> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the server under test")?;
        let pid = child.id().context("the server under test ended at once")?;
        let stdout = child.stdout.take().context("the server under test has no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let wait = async {
            while let Some(line) = lines.next_line().await? {
                if line.contains(ready) {
                    return Ok(());
                }
            }
            bail!("the server under test stopped before it was ready; its log is above");
        };
        timeout(START, wait).await.context("the server under test did not become ready")??;
        Ok(Server { child, pid, _data: data })
    }

    /// What `/proc` says now.
    pub(super) fn usage(&self) -> anyhow::Result<Usage> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).context("the server is gone")?;
        // The name in parentheses may hold spaces; the fields after it are numbered from 3.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let field = |number: usize| -> anyhow::Result<u64> {
            Ok(fields.get(number - 3).context("short /proc/PID/stat")?.parse()?)
        };
        let ticks = u32::try_from(field(14)? + field(15)?)?;
        let pages = field(24)?;
        let ticks_per_second = u32::try_from(rustix::param::clock_ticks_per_second())?;
        let page_bytes = u64::try_from(rustix::param::page_size())?;
        Ok(Usage {
            cpu_seconds: f64::from(ticks) / f64::from(ticks_per_second),
            rss_bytes: pages * page_bytes,
        })
    }

    /// Stops the server and waits for its end.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        ensure!(self.child.try_wait()?.is_none(), "the server under test died during the benchmark");
        self.child.kill().await.context("cannot stop the server under test")
    }
}

/// What a password costs on the server under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum PasswordCost {
    /// As little as argon2 allows: other things are measured.
    Least,
    /// The server's default.
    Default,
}
