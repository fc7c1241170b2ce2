//! One process: its log, signals, memory.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::containers::Containers;
use crate::deadline::until;

/// How much of a log's end is printed when a scenario fails.
const TAIL_BYTES: u64 = 12 * 1024;

/// What the kernel is to do with a process when the thread that started it dies: a test that is killed leaves nothing.
/// `setpriv` (util-linux) sets it and becomes the program, so the pid is the program's.
const SETPRIV: [&str; 2] = ["setpriv", "--pdeathsig=KILL"];

/// How a process is started, and started again.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Shown with its log.
    pub name: String,
    /// The file to run.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Added to this process' own environment, from which every `KURIR__…` is taken out.
    pub env: Vec<(String, String)>,
    /// The system user to run as, where it must not be root.
    pub user: Option<&'static str>,
    /// Where `<name>.log` (standard error) and `<name>.out` (standard output) are written.
    pub logs: PathBuf,
}

impl Launch {
    /// The command line with everything but its input and output.
    pub fn command(&self) -> Command {
        let mut command = Command::new(SETPRIV[0]);
        command.arg(SETPRIV[1]);
        if let Some(user) = self.user {
            command.arg(format!("--reuid={user}")).arg(format!("--regid={user}")).arg("--init-groups");
        }
        command.arg("--").arg(&self.program).args(&self.args);
        for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("KURIR__")) {
            command.env_remove(key);
        }
        command.envs(self.env.iter().cloned());
        command.current_dir(&self.logs);
        command
    }

    /// Starts it; its output is added to its log files.
    pub fn start(&self) -> Process {
        let log = self.logs.join(format!("{}.log", self.name));
        let out = self.logs.join(format!("{}.out", self.name));
        let child = self
            .command()
            .stdin(Stdio::null())
            .stdout(append(&out))
            .stderr(append(&log))
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", self.name));
        Process { launch: self.clone(), child, log, out, ended: None, killed: false }
    }
}

fn append(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).expect("a log file")
}

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    launch: Launch,
    child: Child,
    log: PathBuf,
    out: PathBuf,
    ended: Option<ExitStatus>,
    /// By the scenario, while it ran.
    killed: bool,
}

impl Process {
    /// As in its [`Launch`].
    pub fn name(&self) -> &str {
        &self.launch.name
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("the state of a child of this process");
        }
        self.ended
    }

    /// Waits for its end.
    pub async fn end(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name());
        until(limit, &what, async || self.ended()).await.0
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal)
            .unwrap_or_else(|error| panic!("{signal:?} to {}: {error}", self.name()));
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            // It may have ended since: then there is nothing left to kill.
            let _ = kill_process(self.pid(), Signal::KILL);
            self.killed = true;
            self.ended = self.child.wait().ok();
            if let Some(containers) = Containers::asked_for() {
                containers.outlives(&self.launch);
            }
        }
    }

    /// How it ended, if it ended by itself and with an error: an exit code, an abort, a fault of memory.
    pub fn failed(&mut self) -> Option<ExitStatus> {
        self.ended().filter(|status| !self.killed && !status.success())
    }

    /// Starts it anew, as it was started first. It must have ended, and not with an error of its own.
    pub fn start_again(&mut self) {
        assert!(self.ended().is_some(), "{} still runs", self.name());
        assert_eq!(self.failed(), None, "{} has failed", self.name());
        *self = self.launch.start();
    }

    /// Resident memory in KiB.
    pub fn memory_kib(&self) -> u64 {
        status_kib(self.child.id(), "VmRSS:").unwrap_or(0)
    }

    /// Everything it has written to standard output.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap_or_default()
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Fails where it has panicked, in any of its lives.
    pub fn assert_never_panicked(&self) {
        let log = self.log();
        if let Some(line) = log.lines().find(|line| line.contains("panicked at")) {
            panic!("{} panicked: {line}", self.name());
        }
    }

    /// The end of its log, for a failed scenario.
    pub fn print_tail(&self) {
        for path in [&self.out, &self.log] {
            let tail = tail(path);
            if !tail.is_empty() {
                println!("---- the end of {} ----\n{tail}", path.file_name().unwrap_or_default().display());
            }
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.launch.user.is_some() && self.ended().is_none() {
            // PostgreSQL killed outright would leave shared memory behind: SIGQUIT is its own emergency stop.
            let _ = kill_process(self.pid(), Signal::QUIT);
            let began = Instant::now();
            while self.ended().is_none() && began.elapsed() < Duration::from_secs(2) {
                std::thread::yield_now();
            }
        }
        self.kill();
    }
}

fn tail(path: &Path) -> String {
    let Ok(mut file) = File::open(path) else { return String::new() };
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = Vec::new();
    let read = file
        .seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))
        .and_then(|_| file.read_to_end(&mut bytes));
    read.map(|_| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The most memory that a running process has had resident, in KiB.
pub fn most_memory_kib(process: u32) -> u64 {
    status_kib(process, "VmHWM:").expect("a process that runs")
}

fn status_kib(process: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(field))?;
    value.trim().trim_end_matches(" kB").parse().ok()
}
