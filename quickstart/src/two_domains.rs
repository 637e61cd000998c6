//! `imppd quickstart --two-domains`: two domains on one machine, each a server of its own, and the
//! DNS by which alone they find each other.
//!
//! What one server needs is made by `folder`, the DNS is served by `dns`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;

use impp_server::cli::{Failure, put, say};
use impp_server::core::config::Config;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::dns;
use crate::folder::{folder, make};

/// The domains: short name, name, account.
const DOMAINS: [(&str, &str, &str); 2] =
    [("a", "a.localhost", "alice"), ("b", "b.localhost", "bob")];

pub(crate) async fn run(data: &Path) -> Result<(), Failure> {
    let system = |error: std::io::Error| Failure::new(5, format!("{}: {error}", data.display()));
    folder(data)?;
    folder(&data.join("profiles"))?;
    let configs = DOMAINS.map(|(short, ..)| data.join(short).join("imppd.toml"));
    let (udp, tcp) = dns::sockets(known_dns(&configs[0])?).await?;
    let dns_at = udp.local_addr().map_err(system)?;
    let mut listen = Vec::new();
    for ((short, name, _), config) in DOMAINS.iter().zip(&configs) {
        if !config.exists() {
            make_one(data, short, name, dns_at).await?;
        }
        listen.push((*name, listening(config)?));
    }
    trust_each_other(data)?;
    let _dns = dns::serve(udp, tcp, &listen).map_err(|error| Failure::new(5, error))?;
    let (mut servers, mut held) = (Vec::new(), Vec::new());
    for (short, name, account) in DOMAINS {
        let mut server = start(&data.join(short), name, account).map_err(system)?;
        // Held until we end: the servers end with it.
        held.extend(server.stdin.take());
        servers.push(server);
    }
    for (server, domain) in servers.iter_mut().zip(DOMAINS) {
        accepts(server, data, domain).await?;
    }
    say(format_args!("profiles: {}", data.join("profiles").display()));
    until_told(servers).await
}

/// Waits until a server accepts, puts its account's profile beside the other's, and says so.
async fn accepts(
    server: &mut Child,
    data: &Path,
    (short, name, account): (&str, &str, &str),
) -> Result<(), Failure> {
    let line = ready(server).await?;
    let profile = data.join("profiles").join(format!("{account}@{short}.toml"));
    if !profile.exists() {
        let made = data.join(short).join("profiles").join(format!("{account}.toml"));
        std::fs::copy(made, profile)
            .map_err(|error| Failure::new(5, format!("{}: {error}", data.display())))?;
    }
    put(format_args!("{line}"));
    say(format_args!("{name}: {}", data.join(short).display()));
    Ok(())
}

/// Runs until SIGTERM or SIGINT. A server that ends by itself is told, and the other goes on.
async fn until_told(servers: Vec<Child>) -> Result<(), Failure> {
    let no_signal = |error| Failure::new(5, format!("signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signal)?;
    let [mut a, mut b]: [Child; 2] =
        servers.try_into().map_err(|_| Failure::new(5, "two servers were to be started"))?;
    let [name_a, name_b] = DOMAINS.map(|(_, name, _)| name);
    let mut ended = Vec::new();
    loop {
        let told = |name: &'static str, status: std::io::Result<std::process::ExitStatus>| {
            let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            say(format_args!("the server of {name} has ended: {how}"));
            name
        };
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            status = a.wait(), if !ended.contains(&name_a) => ended.push(told(name_a, status)),
            status = b.wait(), if !ended.contains(&name_b) => ended.push(told(name_b, status)),
        }
    }
    for server in [&mut a, &mut b] {
        stop(server).await;
    }
    match ended.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(5, format!("ended by itself: {}", ended.join(", ")))),
    }
}

/// Asks a server to stop, and waits until it has.
async fn stop(server: &mut Child) {
    // Ctrl-C has reached it too; a second signal does no harm.
    if let Some(pid) = server.id().and_then(|pid| rustix::process::Pid::from_raw(pid as i32)) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    let _ = server.wait().await;
}

fn start(data: &Path, name: &str, account: &str) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["quickstart", "--while-stdin", "--domain", name, "--accounts", account, "--data"])
        .arg(data)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

/// The line that a server prints when it accepts.
async fn ready(server: &mut Child) -> Result<String, Failure> {
    let gone = || Failure::new(5, "a server did not start; its words stand above");
    let stdout = server.stdout.take().ok_or_else(gone)?;
    let line = BufReader::new(stdout).lines().next_line().await;
    line.ok().flatten().ok_or_else(gone)
}

async fn make_one(data: &Path, short: &str, name: &str, dns: SocketAddr) -> Result<(), Failure> {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let more = [
        ("federation", "dns", format!("[{}]", quoted(&dns.to_string()))),
        ("federation", "allow_addresses", format!("[{}]", quoted("127.0.0.0/8"))),
        ("federation", "ca", quoted("../roots.pem")),
    ];
    make(&data.join(short), name, &[], "127.0.0.1:0", None, &more).await.map(drop)
}

/// Each trusts the authorities of both.
fn trust_each_other(data: &Path) -> Result<(), Failure> {
    let mut roots = String::new();
    let failed = |path: &Path, error: std::io::Error| {
        Failure::new(5, format!("{}: {error}", path.display()))
    };
    for (short, ..) in DOMAINS {
        let path = data.join(short).join("tls/ca.pem");
        roots.push_str(&std::fs::read_to_string(&path).map_err(|error| failed(&path, error))?);
    }
    let path = data.join("roots.pem");
    std::fs::write(&path, roots).map_err(|error| failed(&path, error))
}

fn listening(config: &Path) -> Result<SocketAddr, Failure> {
    let listen = Config::load(config)?.server.listen;
    let address = listen.first().and_then(|address| address.parse().ok());
    address.ok_or_else(|| Failure::new(2, format!("{}: listen is missing", config.display())))
}

/// Where the DNS was when the configuration was made, so that it is there again.
fn known_dns(config: &Path) -> Result<SocketAddr, Failure> {
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    if !config.exists() {
        return Ok(anywhere);
    }
    let dns = Config::load(config)?.federation.dns;
    Ok(dns.first().and_then(|address| address.parse().ok()).unwrap_or(anywhere))
}
