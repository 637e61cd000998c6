//! `imppd quickstart`: make what is missing of a first server, and run it.
//!
//! The server itself is `impp-server`, which knows nothing of this. What only a demonstration needs,
//! making certificates and serving DNS, stays here.

mod dns;
mod folder;
mod two_domains;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use impp_protocol::Address;
use impp_server::cli::account::{add, befriend, profile};
use impp_server::cli::{Failure, say, serve};
use impp_server::core::config::Config;
use impp_server::front::control::Administration;
use impp_server::life::{Server, bind_all};

use folder::{folder, make};

/// Arguments of `imppd quickstart`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The folder to make everything in.
    #[arg(long, value_name = "FOLDER", default_value = "./imppd-data")]
    data: PathBuf,
    /// Where to listen, address:port; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:2778")]
    listen: String,
    /// Accounts to make.
    #[arg(long, value_delimiter = ',', default_value = "alice,bob,carol")]
    accounts: Vec<String>,
    /// The domain to host.
    #[arg(long, default_value = "localhost")]
    domain: String,
    /// Where to serve /healthz and /metrics, address:port on loopback.
    #[arg(long, value_name = "ADDRESS")]
    http: Option<String>,
    /// Make and run two servers for two domains, a.localhost with alice and b.localhost with bob,
    /// and the DNS by which they find each other.
    #[arg(long, conflicts_with_all = ["listen", "accounts", "domain", "http"])]
    two_domains: bool,
    /// Stop when stdin ends: whoever started this one is gone.
    #[arg(long, hide = true)]
    while_stdin: bool,
}

/// Makes what is missing and runs it until it is told to stop.
///
/// # Errors
/// [`Failure`]: a file, address or account that cannot be made, or what ends a server.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    if arguments.two_domains {
        return two_domains::run(&arguments.data).await;
    }
    let path = arguments.data.join("imppd.toml");
    let listeners = match path.exists() {
        true => None,
        false => {
            let Arguments { data, domain, accounts, listen, http, .. } = &arguments;
            Some(make(data, domain, accounts, listen, http.as_deref(), &[]).await?)
        }
    };
    let config = Config::load(&path)?;
    let _log = serve::start_log(&config.log)?;
    let server = Server::open(config.clone()).await?;
    let listeners = match listeners {
        Some(listeners) => listeners,
        None => bind_all(&config).await?,
    };
    add_accounts(&server.administration, &config, &arguments).await?;
    let running = server.start(listeners, &path).await?;
    say(format_args!("profiles: {}", arguments.data.join("profiles").display()));
    if let Some(web) = web(&config, &running.addresses, &arguments.data) {
        say(format_args!("{web}"));
    }
    let end = async {
        match arguments.while_stdin {
            true => stdin_ended().await,
            false => std::future::pending().await,
        }
    };
    serve::until_told(running, end).await
}

/// Where whoever speaks HTTP finds it, and whom they have to trust for that.
fn web(config: &Config, addresses: &[SocketAddr], data: &Path) -> Option<String> {
    let name = config.domain.iter().find_map(|hosted| hosted.web.first())?;
    let port = addresses.first()?.port();
    let ca = data.join("tls/ca.pem");
    Some(format!(
        "web: https://{name}:{port}/v1/time (trust {}, or a browser warns of it)",
        ca.display()
    ))
}

/// Waits until stdin is closed.
async fn stdin_ended() {
    let (tell, ended) = tokio::sync::oneshot::channel();
    // A thread of its own: one that is still reading keeps nobody from ending.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = tell.send(());
    });
    let _ = ended.await;
}

/// Makes accounts that are missing, each with a profile, in each other's contact lists.
async fn add_accounts(
    server: &Administration,
    config: &Config,
    arguments: &Arguments,
) -> Result<(), Failure> {
    let Some(domain) = server.accounts.domains().first().cloned() else { return Ok(()) };
    let profiles = arguments.data.join("profiles");
    folder(&profiles)?;
    let mut all = Vec::new();
    for name in &arguments.accounts {
        let address = Address::new(name, &domain)
            .map_err(|error| Failure::new(2, format!("account \"{name}\": {error}")))?;
        all.push(address);
    }
    for (index, address) in all.iter().enumerate() {
        if server.accounts.get(address).is_some() {
            continue;
        }
        let password = add(server, address).await?;
        let file = profiles.join(format!("{}.toml", address.local()));
        let _ = std::fs::remove_file(&file);
        profile(config, address.as_str(), &password, &file)?;
        for (_, other) in all.iter().enumerate().filter(|(other, _)| *other != index) {
            befriend(server, address, other).await?;
            befriend(server, other, address).await?;
        }
    }
    Ok(())
}
