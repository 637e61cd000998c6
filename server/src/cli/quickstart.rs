//! `imppd quickstart`: make what is missing of a first server, and run it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use impp_protocol::sasl::Password;
use impp_protocol::state::{Grant, SubscriptionEvent, SubscriptionState};
use impp_protocol::{Address, Domain};
use impp_storage::{Expect, Op};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::user::{profile, write_private};
use super::{Failure, serve, two_domains};
use crate::accounts::{AccountError, new_verifier};
use crate::config::{Config, default_document};
use crate::control::random_password;
use crate::host::Host;
use crate::records::{self, CONTACT, ContactRecord, FOLLOWED, Services, WATCHER, WatcherRecord};
use crate::running::{Running, bind_all};

/// Longest path of a control socket in bytes; the system's limit is 108.
const SOCKET_PATH_BYTES_MAX: usize = 100;

/// Arguments of `imppd quickstart`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
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

pub(super) async fn run(arguments: Arguments) -> Result<(), Failure> {
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
    let host = Running::open(config.clone()).await?;
    let listeners = match listeners {
        Some(listeners) => listeners,
        None => bind_all(&config).await?,
    };
    add_accounts(&host, &config, &arguments).await?;
    let running = Running::start(host, listeners, &path).await?;
    words!("profiles: {}", arguments.data.join("profiles").display());
    let end = async {
        match arguments.while_stdin {
            true => stdin_ended().await,
            false => std::future::pending().await,
        }
    };
    serve::until_told(running, &path, end).await
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

/// Makes the folder, the certificates and the configuration; the listeners are bound first, so
/// that the configuration can name their real port.
pub(super) async fn make(
    data: &Path,
    domain: &str,
    accounts: &[String],
    listen: &str,
    http: Option<&str>,
    more: &[(&'static str, &'static str, String)],
) -> Result<Vec<crate::net::listen::Listener>, Failure> {
    let usage = |message: String| Failure::new(2, message);
    let path = &data.join("imppd.toml");
    let domain =
        Domain::parse(domain).map_err(|error| usage(format!("domain \"{domain}\": {error}")))?;
    for name in accounts {
        Address::new(name, &domain)
            .map_err(|error| usage(format!("account \"{name}\": {error}")))?;
    }
    let mut wanted = Config::default();
    wanted.server.listen = vec![listen.to_owned()];
    let listeners = bind_all(&wanted).await?;
    folder(data)?;
    let tls = data.join("tls");
    folder(&tls)?;
    if !tls.join("cert.pem").exists() {
        certificates(&tls, &domain)?;
    }
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let listen = listeners.first().map(|listener| listener.address.to_string());
    let mut set = vec![
        ("server", "listen", format!("[{}]", quoted(&listen.unwrap_or_default()))),
        ("server", "control", quoted(&control_path(data)?)),
        ("domain", "name", quoted(domain.as_str())),
        ("domain", "certificate", quoted("tls/cert.pem")),
        ("domain", "key", quoted("tls/key.pem")),
    ];
    if let Some(http) = http {
        set.push(("server", "http", quoted(http)));
    }
    set.extend_from_slice(more);
    // Read once before it is written: a wrong --http is refused and leaves no file.
    let text = default_document(&set);
    Config::parse(&text, path)?;
    write_private(path, &text)?;
    Ok(listeners)
}

/// `control.sock` in the folder, or a short path where the folder's is too long for a socket.
fn control_path(data: &Path) -> Result<String, Failure> {
    let beside = data.join("control.sock");
    let whole = std::path::absolute(&beside).unwrap_or(beside);
    if whole.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return Ok("control.sock".to_owned());
    }
    let mut hasher = DefaultHasher::new();
    whole.hash(&mut hasher);
    let short = std::env::temp_dir().join(format!("imppd-{:016x}", hasher.finish()));
    folder(&short)?;
    Ok(short.join("control.sock").display().to_string())
}

/// Makes a folder that only its owner may read, if it is not there.
pub(super) fn folder(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let failed = |error: std::io::Error| Failure::new(5, format!("{}: {error}", path.display()));
    if !path.exists() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
    }
    Ok(())
}

/// An authority of the server's own, and a certificate for the domain from it.
fn certificates(folder: &Path, domain: &Domain) -> Result<(), Failure> {
    let failed = |error: rcgen::Error| Failure::new(5, format!("certificate: {error}"));
    let authority_key = KeyPair::generate().map_err(failed)?;
    let mut authority = CertificateParams::new(Vec::new()).map_err(failed)?;
    let name = format!("imppd quickstart of {domain}");
    authority.distinguished_name.push(DnType::CommonName, name);
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority_pem = authority.self_signed(&authority_key).map_err(failed)?.pem();
    let issuer = Issuer::new(authority, &authority_key);
    let key = KeyPair::generate().map_err(failed)?;
    let mut leaf = CertificateParams::new(vec![domain.as_str().to_owned()]).map_err(failed)?;
    leaf.distinguished_name.push(DnType::CommonName, domain.as_str());
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = leaf.signed_by(&key, &issuer).map_err(failed)?;
    write_private(&folder.join("ca.pem"), &authority_pem)?;
    write_private(&folder.join("ca-key.pem"), &authority_key.serialize_pem())?;
    write_private(&folder.join("key.pem"), &key.serialize_pem())?;
    write_private(&folder.join("cert.pem"), &leaf.pem())
}

/// Makes accounts that are missing, each with a profile, in each other's contact lists.
async fn add_accounts(
    host: &Arc<Host>,
    config: &Config,
    arguments: &Arguments,
) -> Result<(), Failure> {
    let Some(domain) = host.accounts.domains().first().cloned() else { return Ok(()) };
    let profiles = arguments.data.join("profiles");
    folder(&profiles)?;
    let mut all = Vec::new();
    for name in &arguments.accounts {
        let address = Address::new(name, &domain)
            .map_err(|error| Failure::new(2, format!("account \"{name}\": {error}")))?;
        all.push(address);
    }
    for (index, address) in all.iter().enumerate() {
        if host.accounts.get(address).is_some() {
            continue;
        }
        let no_random = |error: getrandom::Error| Failure::new(5, error.to_string());
        let password = random_password().map_err(no_random)?;
        let prepared =
            Password::prepare(&password).map_err(|error| Failure::new(5, error.to_string()))?;
        let verifier = new_verifier(&prepared, false).map_err(no_random)?;
        let services = Services { pres: true, im: true };
        let (store, now) = (&*host.store, host.clock.now());
        let added = host.accounts.add(store, now, address, services, verifier, vec![]).await;
        match added {
            Ok(()) => {}
            Err(AccountError::Store(error)) => return Err(error.into()),
            Err(error) => return Err(Failure::new(1, error.to_string())),
        }
        let file = profiles.join(format!("{}.toml", address.local()));
        let _ = std::fs::remove_file(&file);
        profile(config, address.as_str(), &password, &file)?;
        for other in all.iter().enumerate().filter(|(other, _)| *other != index) {
            befriend(host, address, other.1).await?;
            befriend(host, other.1, address).await?;
        }
    }
    Ok(())
}

/// Puts `other` into the contact list of `owner`, following and granting all, and the
/// subscription that comes of it; what is there already stays as it is.
async fn befriend(host: &Host, owner: &Address, other: &Address) -> Result<(), Failure> {
    let contact = ContactRecord { name: None, groups: vec![], follow: true, grant: Grant::All };
    let watcher = WatcherRecord {
        state: SubscriptionState::Active.as_str().to_owned(),
        event: SubscriptionEvent::Subscribe.as_str().to_owned(),
        since: host.clock.now().as_millis(),
        leases: Default::default(),
        by_contact: true,
    };
    let put = |key, value| Op::Put { key, expect: Expect::Absent, value: Some(value) };
    let ops = vec![
        put(records::key(CONTACT, owner, &[other.as_str()]), records::to_bytes(&contact)),
        put(records::key(WATCHER, other, &[owner.as_str()]), records::to_bytes(&watcher)),
        put(
            records::key(FOLLOWED, owner, &[other.as_str()]),
            records::to_bytes(&serde_json::Map::new()),
        ),
    ];
    host.store(ops).await?;
    Ok(())
}
