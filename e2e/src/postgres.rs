//! A real `PostgreSQL`.

use std::ffi::OsStr;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::containers::Containers;
use crate::deadline::{PATIENCE, until, within};
use crate::process::{Launch, Process};

/// Where Debian puts the server's programs, one directory a version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// Those that are used here.
const PROGRAMS: [&str; 4] = ["initdb", "pg_isready", "postgres", "psql"];

/// What the server shows its clients, for a day.
const CERTIFICATE: &str =
    "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=postgres";

/// A cluster of its own, made anew.
#[derive(Debug)]
pub struct Postgres {
    at: SocketAddr,
    programs: PathBuf,
    pub(crate) process: Process,
}

impl Postgres {
    /// Makes a cluster, starts it and waits until it takes connections.
    pub async fn start(at: SocketAddr, dir: &Path, containers: Option<&Containers>) -> Postgres {
        let programs = programs();
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

        admits_neighbours(Path::new(&data));
        let options = format!("{CERTIFICATE} -keyout {data}/server.key -out {data}/server.crt");
        let openssl = launch("openssl", "openssl", words(&options).collect());
        // Not one of the server's own programs.
        let certified = Launch { program: "openssl".into(), ..openssl }.start().end(PATIENCE).await;
        assert!(certified.success(), "openssl: {certified}");

        // With TLS, as Debian's own.
        let options = "-c unix_socket_directories= -c fsync=off -c max_connections=100 -c ssl=on";
        let at_address =
            ["-c".into(), format!("listen_addresses={}", at.ip()), "-p".into(), at.port().to_string()];
        let args = words(options).chain(at_address).chain(["-D".into(), data]).collect();
        let launch = launch("postgres", "postgres", args);
        let launch = containers.map_or(launch.clone(), |containers| containers.holding(launch, at.ip()));
        let postgres = Postgres { at, programs, process: launch.start() };
        postgres.answers().await;
        postgres
    }

    /// As the configuration key `database.url` takes it.
    pub fn url(&self) -> String {
        format!("postgres://kurir@{}/postgres", self.at)
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
                    &self.at.ip().to_string(),
                    "-p",
                    &self.at.port().to_string(),
                ])
                .stdout(Stdio::null());
            command.status().ok()?.success().then_some(())
        };
        until(PATIENCE * 2, "PostgreSQL", ready).await;
    }
}

/// Not only this machine: where it is in a container, others of its network connect. On loopback there are none.
fn admits_neighbours(data: &Path) {
    let mut file =
        std::fs::OpenOptions::new().append(true).open(data.join("pg_hba.conf")).expect("pg_hba.conf");
    file.write_all(b"host all all samenet trust\n").expect("a line in pg_hba.conf");
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(' ').map(String::from)
}

/// The server's programs: those on the PATH, as in a shell of the flake, or the newest of Debian's, which are not on it.
fn programs() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    on_path(&path).or_else(|| newest(Path::new(VERSIONS))).unwrap_or_else(|| {
        panic!("no PostgreSQL on the PATH or under {VERSIONS}: apt-get install postgresql (./test does it)")
    })
}

fn on_path(path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path).find(|programs| has_server(programs))
}

fn newest(versions: &Path) -> Option<PathBuf> {
    let found = std::fs::read_dir(versions).into_iter().flatten().flatten();
    let programs = found.map(|entry| entry.path().join("bin"));
    programs.filter(|programs| has_server(programs)).max_by_key(|programs| version(programs))
}

/// Debian has wrappers of the clients on the PATH, and some machines links to the server alone.
fn has_server(programs: &Path) -> bool {
    PROGRAMS.iter().all(|program| programs.join(program).is_file())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with these programs in it.
    fn directory(at: &Path, programs: &[&str]) -> PathBuf {
        std::fs::create_dir_all(at).expect("a directory");
        for program in programs {
            std::fs::write(at.join(program), "").expect("a file");
        }
        at.to_path_buf()
    }

    #[test]
    fn the_server_is_where_the_path_has_all_of_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let clients = directory(&dir.path().join("clients"), &["psql", "pg_isready"]);
        let links = directory(&dir.path().join("links"), &["initdb", "postgres"]);
        let server = directory(&dir.path().join("server"), &PROGRAMS);
        let path = |entries: &[&PathBuf]| std::env::join_paths(entries).expect("a PATH");
        assert_eq!(on_path(&path(&[&clients, &links])), None);
        assert_eq!(on_path(&path(&[&clients, &links, &server])), Some(server));
    }

    #[test]
    fn of_debians_versions_it_is_the_newest_that_has_the_server() {
        let dir = tempfile::tempdir().expect("a directory");
        let version = |name: &str, programs| directory(&dir.path().join(name).join("bin"), programs);
        assert_eq!(newest(dir.path()), None);
        version("9", &PROGRAMS);
        let fifteen = version("15", &PROGRAMS);
        version("17", &["psql"]);
        assert_eq!(newest(dir.path()), Some(fifteen));
    }
}
