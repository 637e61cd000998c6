//! The folder of a first server: its certificates, from an authority of its own, and its
//! configuration.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use impp_protocol::sasl::scram::ITERATIONS_MIN;
use impp_protocol::{Address, Domain};
use impp_server::cli::Failure;
use impp_server::cli::account::{sync_around, write_private};
use impp_server::core::config::{Config, default_document};
use impp_server::front::listen::Listener;
use impp_server::life::bind_all;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// Longest path of a control socket in bytes; the system's limit is 108.
const SOCKET_PATH_BYTES_MAX: usize = 100;

/// Makes the folder, the certificates and the configuration; the listeners are bound first, so
/// that the configuration can name their real port.
pub(crate) async fn make(
    data: &Path,
    domain: &str,
    accounts: &[String],
    listen: &str,
    http: Option<&str>,
    more: &[(&'static str, &'static str, String)],
) -> Result<Vec<Listener>, Failure> {
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
    if !data.join("tls/cert.pem").exists() {
        make_certificates(data, &domain)?;
    }
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let listen = listeners.first().map(|listener| listener.address.to_string());
    let mut set = vec![
        ("server", "listen", format!("[{}]", quoted(&listen.unwrap_or_default()))),
        ("server", "control", quoted(&control_path(data)?)),
        ("domain", "name", quoted(domain.as_str())),
        ("domain", "certificate", quoted("tls/cert.pem")),
        ("domain", "key", quoted("tls/key.pem")),
        ("domain", "web", format!("[{}]", quoted(domain.as_str()))),
        // Passwords are made here, with more random bits than hashing could add.
        ("domain", "scram_iterations", ITERATIONS_MIN.to_string()),
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
pub(crate) fn folder(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let failed = |error: std::io::Error| Failure::new(5, format!("{}: {error}", path.display()));
    if path.exists() {
        return Ok(());
    }
    let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<&Path> = path.ancestors().take_while(missing).collect();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
    missing.into_iter().try_for_each(sync_around).map_err(failed)
}

/// Makes the folder `tls`: whole, or not at all. What a cut left of an earlier try is made anew; what
/// somebody else has put there is not touched.
fn make_certificates(data: &Path, domain: &Domain) -> Result<(), Failure> {
    let (tls, draft) = (data.join("tls"), data.join("tls.new"));
    let failed = |error: std::io::Error| Failure::new(5, format!("{}: {error}", tls.display()));
    match std::fs::remove_dir_all(&draft) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    folder(&draft)?;
    certificates(&draft, domain)?;
    // An empty folder of this name is replaced.
    std::fs::rename(&draft, &tls).and_then(|()| sync_around(&tls)).map_err(|error| {
        let hint = format!("there is no cert.pem in {}; move away what is there", tls.display());
        Failure { hint: Some(hint), ..failed(error) }
    })
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
