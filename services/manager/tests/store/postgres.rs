//! A `PostgreSQL` server of the tests' own: started from the installed binaries on an empty directory, and gone when the
//! tests are, however they end.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use sea_orm::{ConnectionTrait, Database};
use tempfile::TempDir;

/// Who `PostgreSQL` runs as where the tests run as root, which it refuses to run as.
const UNPRIVILEGED_USER: &str = "postgres";

/// Ends the server, at once as a crash would, when standard input says a word or is closed, as it is when the test
/// process dies. In that case nobody else is left to remove the directory.
const WATCHDOG: &str = r#""$@" & server=$!; exec 2>&-; read -r word; kill -QUIT $server; wait $server; test "$word" || rm -rf "$PWD""#;

/// Made for speed: what is stored outlives the server, and need not outlive the machine.
const SETTINGS: [&str; 6] = [
    "fsync=off",
    "full_page_writes=off",
    "shared_buffers=16MB",
    "max_connections=200",
    "log_statement=none",
    "log_min_messages=warning",
];

/// A data directory, and the server on it while it runs.
pub(crate) struct Server {
    directory: TempDir,
    binaries: PathBuf,
    user: Option<(u32, u32)>,
    running: Option<Child>,
}

/// The server that the tests of this binary share.
pub(crate) fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(Server::new)
}

impl Server {
    /// Creates a database cluster and starts it.
    pub(crate) fn new() -> Server {
        let directory = TempDir::with_prefix("kurir-postgres-").unwrap();
        let user = unprivileged_user();
        if let Some((uid, gid)) = user {
            chown(directory.path(), Some(uid), Some(gid)).unwrap();
        }
        let mut server = Server { directory, binaries: binaries(), user, running: None };
        let initdb = server
            .command(&server.binaries.join("initdb"))
            .args([
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
                "-D",
            ])
            .arg(server.data())
            .output()
            .unwrap();
        assert!(initdb.status.success(), "initdb: {}", String::from_utf8_lossy(&initdb.stderr));
        server.start();
        server
    }

    /// Starts the server and waits until it says that it is ready.
    pub(crate) fn start(&mut self) {
        let mut command = self.command(Path::new("sh"));
        command.args(["-c", WATCHDOG, "sh"]).arg(self.binaries.join("postgres"));
        command
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.directory.path())
            .args(["-c", "listen_addresses="]);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said = String::new();
        loop {
            let Some(line) = log.next() else { panic!("PostgreSQL did not start:\n{said}") };
            if line.contains("database system is ready to accept connections") {
                break;
            }
            said = said + &line + "\n";
        }
        // Were nobody to read on, the server would stop once the pipe is full.
        thread::spawn(move || log.for_each(drop));
        self.running = Some(child);
    }

    /// Ends the server as a crash would. Its data stays.
    pub(crate) fn crash(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.stdin.take().unwrap().write_all(b"crash\n").unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops every process of the server where it is: connections stay open and nothing answers.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a frozen server go on.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid_file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        let postmaster = pid_file.lines().next().unwrap();
        let kill = |pid: &str| {
            let pid = pid.parse().ok().and_then(Pid::from_raw).unwrap();
            kill_process(pid, signal).unwrap();
        };
        let children =
            || fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children")).unwrap();
        // The parent is frozen first and thawed last: meanwhile it starts no more children, and one that ends keeps its
        // pid because nobody waits for it.
        if signal == Signal::STOP {
            kill(postmaster);
            children().split_whitespace().for_each(kill);
        } else {
            children().split_whitespace().for_each(kill);
            kill(postmaster);
        }
    }

    /// Creates an empty database and returns its URL.
    pub(crate) async fn create_database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let admin = Database::connect(self.url("postgres")).await.unwrap();
        admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
        admin.close().await.unwrap();
        self.url(&name)
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost/{database}?host={}", self.directory.path().display())
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.directory.path());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.crash();
    }
}

/// The newest installed `PostgreSQL`.
fn binaries() -> PathBuf {
    let debian = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let found = debian
        .chain(env::split_paths(&path))
        .filter(|directory| directory.join("initdb").is_file() && directory.join("postgres").is_file())
        .max_by_key(|directory| version(directory));
    found.expect("these tests need PostgreSQL's server: initdb and postgres, in /usr/lib/postgresql/*/bin or in PATH (Debian: apt-get install postgresql)")
}

fn version(binaries: &Path) -> u32 {
    let version = binaries.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    version.and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// User and group ids to run the server with, where the tests run as root.
fn unprivileged_user() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    // The owner of this process' own directory in /proc is the user it runs as.
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let ids = users.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [UNPRIVILEGED_USER, _, uid, gid, ..] = fields[..] else { return None };
        Some((uid.parse().ok()?, gid.parse().ok()?))
    });
    Some(
        ids.expect("running as root, these tests need the user postgres, which PostgreSQL's packages create"),
    )
}
