//! A real `PostgreSQL`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::deadline::{PATIENCE, until, within};
use crate::ports::Ports;
use crate::process::{Launch, Process};

/// Where Debian puts the server's programs, one directory a version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// A cluster of its own, made anew.
#[derive(Debug)]
pub struct Postgres {
    port: u16,
    programs: PathBuf,
    pub(crate) process: Process,
}

impl Postgres {
    /// Makes a cluster, starts it and waits until it takes connections.
    pub async fn start(ports: &Ports, dir: &Path) -> Postgres {
        let (port, programs) = (ports.postgres(), programs());
        let data = dir.join("postgres");
        std::fs::create_dir_all(&data).expect("a directory for PostgreSQL");
        let user = unprivileged(&data);
        let data = data.to_str().expect("a path in UTF-8").to_string();
        let launch = |name: &str, program: &str, args: Vec<String>| Launch {
            name: name.into(),
            program: programs.join(program),
            args,
            env: Vec::new(),
            user,
            logs: dir.to_path_buf(),
        };
        let options =
            "--username=kurir --auth=trust --encoding=UTF8 --locale=C --no-sync --no-instructions -D";
        let init = launch("initdb", "initdb", words(options).chain([data.clone()]).collect());
        let status = init.start().end(PATIENCE * 4).await;
        assert!(
            status.success(),
            "initdb failed: {}",
            std::fs::read_to_string(dir.join("initdb.log")).unwrap_or_default()
        );

        let options =
            "-c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c max_connections=100";
        let args = words(options).chain(["-p".into(), port.to_string(), "-D".into(), data]).collect();
        let process = launch("postgres", "postgres", args).start();
        let postgres = Postgres { port, programs, process };
        postgres.answers().await;
        postgres
    }

    /// As the configuration key `database.url` takes it.
    pub fn url(&self) -> String {
        format!("postgres://kurir@127.0.0.1:{}/postgres", self.port)
    }

    /// Runs a statement behind everybody's back.
    pub fn runs(&self, statement: &str) {
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["-q", "-v", "ON_ERROR_STOP=1", "-d", &self.url(), "-c", statement]);
        let ran = command.status().expect("psql");
        assert!(ran.success(), "{statement}: {ran}");
    }

    /// Its "fast" stop: sessions are cut, data is safe.
    pub async fn stop(&mut self) {
        self.process.signal(Signal::INT);
        self.process.end(PATIENCE).await;
    }

    /// Its "immediate" stop: sessions are cut and nothing more is written; the next start recovers as after a crash.
    pub async fn crash(&mut self) {
        self.process.signal(Signal::QUIT);
        self.process.end(PATIENCE).await;
    }

    /// Starts it again on the same port and data.
    pub async fn start_again(&mut self) {
        self.process.start_again();
        self.answers().await;
    }

    /// What psql prints of the answer to a query, a line a row; nothing where there is none.
    pub async fn query(&self, sql: &str) -> String {
        let mut command = tokio::process::Command::new(self.programs.join("psql"));
        command.args(["-qAt", "-c", sql, &self.url()]).stdin(Stdio::null()).kill_on_drop(true);
        let output = within(PATIENCE, sql, command.output()).await.expect("psql");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    async fn answers(&self) {
        let ready = async || {
            let mut command = Command::new(self.programs.join("pg_isready"));
            command
                .args([
                    "-q",
                    "-U",
                    "kurir",
                    "-d",
                    "postgres",
                    "-h",
                    "127.0.0.1",
                    "-p",
                    &self.port.to_string(),
                ])
                .stdout(Stdio::null());
            command.status().ok()?.success().then_some(())
        };
        until(PATIENCE * 2, "PostgreSQL", ready).await;
    }
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(' ').map(String::from)
}

/// The newest version's programs; they are not on the PATH.
fn programs() -> PathBuf {
    let found =
        std::fs::read_dir(VERSIONS).into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    let newest =
        found.filter(|programs| programs.join("initdb").exists()).max_by_key(|programs| version(programs));
    newest.unwrap_or_else(|| {
        panic!("no PostgreSQL under {VERSIONS}: apt-get install postgresql (./test does it)")
    })
}

fn version(programs: &Path) -> u32 {
    let version = programs.parent().and_then(Path::file_name).unwrap_or_default();
    version.to_string_lossy().parse().unwrap_or(0)
}

/// `PostgreSQL` refuses to run as root: then it runs as Debian's user `postgres`, whose the data directory becomes.
fn unprivileged(data: &Path) -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let entry = passwd.lines().find(|line| line.starts_with("postgres:")).expect("a system user postgres");
    let ids: Vec<u32> = entry.split(':').skip(2).take(2).filter_map(|id| id.parse().ok()).collect();
    let [uid, gid] = ids[..] else { panic!("/etc/passwd: {entry}") };
    std::os::unix::fs::chown(data, Some(uid), Some(gid)).expect("giving the data directory to postgres");
    Some("postgres")
}
