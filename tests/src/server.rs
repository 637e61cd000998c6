//! A server under test: the real `imppd` in a folder of its own, started, killed, started again.
//!
//! It dies with its [`Server`]; what it wrote to stderr is printed if the play fails.

mod metrics;
mod process;

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit, setrlimit};
use serde::Deserialize;
use tempfile::TempDir;

use crate::binaries;
use crate::wait::{DEADLINE, eventually};
pub use metrics::Metrics;
pub use process::Process;

/// The domain that a server under test hosts.
pub const DOMAIN: &str = "localhost";

/// How to start a server; see [`Server::with`].
#[derive(Debug)]
pub struct Start {
    accounts: String,
    domain: String,
    ip: Ipv4Addr,
    settings: Vec<(String, toml_edit::Value)>,
    store: Option<PathBuf>,
    under: Vec<OsString>,
}

/// See the module.
#[derive(Debug)]
pub struct Server {
    domain: String,
    folder: TempDir,
    address: SocketAddr,
    http: SocketAddr,
    under: Vec<OsString>,
    process: Option<Process>,
}

/// What quickstart left for an account's client.
#[derive(Clone, Debug, Deserialize)]
pub struct Profile {
    /// The account.
    pub address: String,
    /// Its password.
    pub password: String,
}

impl Start {
    /// Whose accounts it has, instead of alice, bob and carol.
    #[must_use]
    pub fn accounts(mut self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Start {
        let names: Vec<_> = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
        self.accounts = names.join(",");
        self
    }

    /// The domain that it hosts, instead of localhost.
    #[must_use]
    pub fn domain(mut self, domain: &str) -> Start {
        self.domain = domain.to_owned();
        self
    }

    /// The loopback address that it listens on, instead of 127.0.0.1.
    #[must_use]
    pub fn ip(mut self, ip: Ipv4Addr) -> Start {
        self.ip = ip;
        self
    }

    /// A setting, named `section.key`.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<toml_edit::Value>) -> Start {
        self.settings.push((name.to_owned(), value.into()));
        self
    }

    /// Lets everybody ask for and store as much as they like.
    #[must_use]
    pub fn no_rates(self) -> Start {
        self.set("limits.requests_per_second", 1_000_000)
            .set("limits.work_per_second", 1_000_000_000)
            .set("limits.stored_bytes_per_second", 1 << 40)
    }

    /// Keeps the store in another folder, which must be on the same or a smaller disk.
    #[must_use]
    pub fn store(self, folder: &Path) -> Start {
        let start = self.set("server.store", folder.display().to_string());
        Start { store: Some(folder.to_owned()), ..start }
    }

    /// Starts it, now and later, by this command, which gets the server's as its last arguments.
    #[must_use]
    pub fn under(mut self, command: Vec<OsString>) -> Start {
        self.under = command;
        self
    }

    /// Starts it, and waits until it accepts connections.
    pub fn start(self) -> Server {
        raise_open_files();
        let folder = tempfile::Builder::new().prefix("impp-").tempdir().unwrap();
        let (address, http) = (free_port(self.ip), free_port(Ipv4Addr::LOCALHOST));
        let process = Process::spawn_under(
            &self.under,
            &[
                "quickstart".as_ref(),
                "--data".as_ref(),
                folder.path().as_os_str(),
                "--listen".as_ref(),
                address.to_string().as_ref(),
                "--http".as_ref(),
                http.to_string().as_ref(),
                "--accounts".as_ref(),
                self.accounts.as_ref(),
                "--domain".as_ref(),
                self.domain.as_ref(),
            ],
        );
        assert_eq!(process.line(), format!("ready: {} on {address}", self.domain));
        let (domain, under, process) = (self.domain, self.under, Some(process));
        let mut server = Server { domain, folder, address, http, under, process };
        if !self.settings.is_empty() {
            server.stop();
            if let Some(store) = &self.store {
                let made = server.folder.path().join("store");
                for entry in std::fs::read_dir(made).unwrap() {
                    let entry = entry.unwrap();
                    std::fs::copy(entry.path(), store.join(entry.file_name())).unwrap();
                }
            }
            for (name, value) in self.settings {
                server.set(&name, value);
            }
            server.restart();
        }
        server
    }
}

impl Server {
    /// A server with accounts alice, bob and carol, each in the others' contact lists.
    pub fn quickstart() -> Server {
        Server::with().start()
    }

    /// A server with other settings.
    pub fn with() -> Start {
        Start {
            accounts: "alice,bob,carol".to_owned(),
            domain: DOMAIN.to_owned(),
            ip: Ipv4Addr::LOCALHOST,
            settings: Vec::new(),
            store: None,
            under: Vec::new(),
        }
    }

    /// The domain that it hosts.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The address of an account of it.
    pub fn account(&self, name: &str) -> String {
        format!("{name}@{}", self.domain)
    }

    /// Where it listens for clients.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its folder.
    pub fn data(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of its store, as its configuration says.
    pub fn store(&self) -> PathBuf {
        let text = std::fs::read_to_string(self.config()).unwrap();
        let config: toml::Table = text.parse().unwrap();
        let store = config.get("server").and_then(|server| server.get("store"));
        self.data().join(store.and_then(toml::Value::as_str).unwrap_or("store"))
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.data().join("imppd.toml")
    }

    /// The certificates that its clients trust.
    pub fn trust(&self) -> PathBuf {
        self.data().join("tls/ca.pem")
    }

    /// The profile's file of an account that quickstart made.
    pub fn profile_path(&self, name: &str) -> PathBuf {
        self.data().join(format!("profiles/{name}.toml"))
    }

    /// The profile of an account that quickstart made.
    pub fn profile(&self, name: &str) -> Profile {
        let text = std::fs::read_to_string(self.profile_path(name)).unwrap();
        toml::from_str(&text).unwrap()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the server runs").pid()
    }

    /// What it has written to stderr since it was last started, or the newest part of it.
    pub fn stderr(&self) -> String {
        self.process.as_ref().expect("the server runs").stderr()
    }

    /// How often it has written something to stderr since it was last started.
    pub fn logged(&self, words: &str) -> usize {
        self.stderr().matches(words).count()
    }

    /// Waits until it has written something to stderr so often.
    pub async fn until_logged(&self, words: &str, times: usize) {
        eventually(words, async || (self.logged(words) >= times).then_some(())).await;
    }

    /// Kills it on the spot.
    pub fn kill9(&mut self) {
        self.process.take().expect("the server runs").kill9();
    }

    /// Asks it to stop (SIGTERM), and waits until it has.
    pub fn stop(&mut self) {
        self.process.take().expect("the server runs").stop();
    }

    /// Asks it to stop (SIGTERM), and no more.
    pub fn told_to_stop(&self) {
        let pid = Pid::from_raw(self.pid().cast_signed()).expect("a process");
        kill_process(pid, Signal::TERM).unwrap();
    }

    /// Starts it again, on the same port and with the configuration as it is now.
    pub fn restart(&mut self) {
        self.restart_on(&[self.address]);
    }

    /// Starts it again with a configuration that names another domain.
    pub fn restart_as(&mut self, domain: &str) {
        domain.clone_into(&mut self.domain);
        self.restart();
    }

    /// Starts it again where it listens on these addresses.
    pub fn restart_on(&mut self, listen: &[SocketAddr]) {
        assert!(self.process.is_none(), "the server runs");
        let config = self.config();
        let words: [&OsStr; 3] = ["serve".as_ref(), "--config".as_ref(), config.as_os_str()];
        let process = Process::spawn_under(&self.under, &words);
        for address in listen {
            assert_eq!(process.line(), format!("ready: {} on {address}", self.domain));
        }
        self.process = Some(process);
    }

    /// From its next start on it listens there; else on another free port.
    pub fn move_to(&mut self, address: Option<SocketAddr>) {
        self.address = address.unwrap_or_else(|| free_port(Ipv4Addr::LOCALHOST));
        self.set("server.listen", toml_edit::Array::from_iter([self.address.to_string()]));
    }

    /// Waits until it has ended by itself: how, and what it wrote to stderr.
    pub fn ended(&mut self) -> (std::process::ExitStatus, String) {
        self.process.take().expect("the server runs").ended()
    }

    /// Changes a setting, named `section.key`, in the configuration file.
    pub fn set(&self, name: &str, value: impl Into<toml_edit::Value>) {
        let (section, key) = name.split_once('.').expect("section.key");
        let text = std::fs::read_to_string(self.config()).unwrap();
        let mut document: toml_edit::DocumentMut = text.parse().unwrap();
        document[section][key] = toml_edit::value(value);
        std::fs::write(self.config(), document.to_string()).unwrap();
    }

    /// Changes a setting of its domain in the configuration file, or takes it away.
    pub fn set_domain(&self, key: &str, value: Option<toml_edit::Value>) {
        let text = std::fs::read_to_string(self.config()).unwrap();
        let mut document: toml_edit::DocumentMut = text.parse().unwrap();
        let hosted = document["domain"].as_array_of_tables_mut().unwrap().get_mut(0).unwrap();
        match value {
            Some(value) => hosted[key] = toml_edit::value(value),
            None => drop(hosted.remove(key)),
        }
        std::fs::write(self.config(), document.to_string()).unwrap();
    }

    /// Says where these users are, who are not here, to the running server; or that nobody is elsewhere.
    pub fn redirect(&self, domain: Option<&str>, users: &[&str]) {
        let text = std::fs::read_to_string(self.config()).unwrap();
        let mut document: toml_edit::DocumentMut = text.parse().unwrap();
        let hosted = document["domain"].as_array_of_tables_mut().unwrap().get_mut(0).unwrap();
        match domain {
            Some(domain) => {
                hosted["redirect"] = toml_edit::value(domain);
                let users = toml_edit::Array::from_iter(users.iter().copied());
                hosted["redirect_users"] = toml_edit::value(users);
            }
            None => {
                hosted.remove("redirect");
                hosted.remove("redirect_users");
            }
        }
        std::fs::write(self.config(), document.to_string()).unwrap();
        let config = self.config().display().to_string();
        assert!(imppd(&["reload", "--config", &config]).status.success());
    }

    /// Runs `imppd user ARGS… --config F` to its end.
    pub fn user(&self, args: &[&str]) -> Output {
        let config = self.config().display().to_string();
        imppd(&[&["user"], args, &["--config", &config]].concat())
    }

    /// Runs `imppd user ARGS…`, which has to succeed.
    pub fn user_ok(&self, args: &[&str]) -> String {
        let output = self.user(args);
        assert!(output.status.success(), "user {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Its HTTP port.
    pub fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// GETs a path from its HTTP port: the status and the body.
    pub fn http(&self, path: &str) -> (u16, String) {
        self.try_http(path).expect("an HTTP answer")
    }

    /// The same, if there is an answer.
    pub fn try_http(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.http).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }

    /// Its metrics now.
    pub fn metrics(&self) -> Metrics {
        let (status, text) = self.http("/metrics");
        assert_eq!(status, 200, "{text}");
        Metrics::parse(&text)
    }

    /// How many files it has open.
    pub fn open_files(&self) -> u64 {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count() as u64
    }

    /// From now on it may have so many files open.
    pub fn limit_files(&self, max: u64) {
        let pid = Pid::from_raw(self.pid() as i32);
        let limit = Rlimit { current: Some(max), maximum: Some(max) };
        prlimit(pid, Resource::Nofile, limit).unwrap();
    }

    /// For each connection that it has not closed, the bytes that it has not yet read.
    pub fn unread(&self) -> Vec<u64> {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let local = format!("0100007F:{:04X}", self.address.port());
        let of_line = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // Established, or closed by the other side alone.
            let held = *fields.get(1)? == local && matches!(fields[3], "01" | "08");
            let unread = u64::from_str_radix(fields[4].split_once(':')?.1, 16).ok()?;
            held.then_some(unread)
        };
        table.lines().filter_map(of_line).collect()
    }

    /// Processor time that its process has used so far.
    pub fn processor_time(&self) -> std::time::Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
        // Hundredths of a second, on every Linux that there is.
        std::time::Duration::from_millis((ticks(11) + ticks(12)) * 10)
    }

    /// Bytes of memory that its process has resident.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kib: u64 = line.trim().strip_suffix(" kB").unwrap().trim().parse().unwrap();
        kib * 1024
    }
}

/// Runs `imppd` with these arguments to its end.
pub fn imppd(args: &[&str]) -> Output {
    std::process::Command::new(binaries::imppd()).args(args).output().unwrap()
}

/// Runs `imppd` where it has to refuse to run: its exit code and its words.
pub fn refused_start(args: &[&str]) -> (Option<i32>, String) {
    let args: Vec<&OsStr> = args.iter().map(AsRef::as_ref).collect();
    let (status, stderr) = Process::spawn(&args).ended();
    (status.code(), stderr)
}

/// A port below those that the system gives to connections, so that none of these takes it while
/// the server is down.
pub fn free_port(ip: Ipv4Addr) -> SocketAddr {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run side by side start at places of their own.
    let start = (std::process::id().wrapping_mul(97) % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        let address = SocketAddr::from((ip, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port");
}

/// Some plays open thousands of connections, and so do their servers.
fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        let _ = setrlimit(Resource::Nofile, limit);
    }
}
