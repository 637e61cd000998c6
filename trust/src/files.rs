//! Reading what proves and what is proven from: CA certificates, revocation lists, certificates with
//! their keys. All that this crate has to do with files, and with what the system trusts, is here.
//!
//! What is read is judged elsewhere, each time it is shown; here only what can never be used is
//! refused.

#![expect(clippy::disallowed_methods, reason = "the one place that reads files")]

use std::io;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use webpki::{CertRevocationList, OwnedCertRevocationList};

use crate::trust::Trust;

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub message: String,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
}

impl FileError {
    fn new(path: &Path, message: impl Into<String>) -> FileError {
        FileError { path: path.to_owned(), message: message.into(), hint: None }
    }

    fn of_system(path: &Path, error: &io::Error) -> FileError {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "there is no such file".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        FileError::new(path, format!("cannot be read: {why}"))
    }

    fn of_pem(path: &Path, error: &pem::Error) -> FileError {
        match error {
            pem::Error::Io(error) => FileError::of_system(path, error),
            error => FileError::new(path, format!("cannot be read as PEM: {error}")),
        }
    }
}

impl Trust {
    /// Reads a PEM file of CA certificates, or without one what the system trusts; and a PEM file
    /// of revocation lists.
    ///
    /// A system that trusts nobody is no error: see [`Trust::is_empty`].
    ///
    /// # Errors
    /// [`FileError`] naming the file, and what is wrong with it.
    pub fn load(ca: Option<&Path>, crl: Option<&Path>) -> Result<Trust, FileError> {
        let told = |at: usize, error| format!("certificate {at} cannot be used: {error}");
        let roots = match ca {
            Some(path) => roots(path, told)?,
            None => roots_of_system(),
        };
        let crls = crl.map(crls).transpose()?.unwrap_or_default();
        Ok(Trust::new(roots, crls))
    }
}

/// Reads a PEM file of the CAs that vouch for clients.
///
/// # Errors
/// [`FileError`].
pub fn client_roots(path: &Path) -> Result<RootCertStore, FileError> {
    roots(path, |_, error| error.to_string())
}

/// Reads a PEM file of CA certificates; one that cannot be used is told by its place among them.
fn roots(
    path: &Path,
    told: impl Fn(usize, rustls::Error) -> String,
) -> Result<RootCertStore, FileError> {
    let unreadable = |error: pem::Error| FileError::of_pem(path, &error);
    let mut roots = RootCertStore::empty();
    for (index, certificate) in CertificateDer::pem_slice_iter(&text(path)?).enumerate() {
        let added = roots.add(certificate.map_err(unreadable)?);
        added.map_err(|error| FileError::new(path, told(index + 1, error)))?;
    }
    if roots.is_empty() {
        return Err(FileError::new(path, "holds no certificate"));
    }
    Ok(roots)
}

/// Systems hold many CAs: one that cannot be read makes the others no worse.
fn roots_of_system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn crls(path: &Path) -> Result<Vec<CertRevocationList<'static>>, FileError> {
    let unreadable = |error: pem::Error| FileError::of_pem(path, &error);
    let mut crls = Vec::new();
    for (index, list) in CertificateRevocationListDer::pem_slice_iter(&text(path)?).enumerate() {
        let read = OwnedCertRevocationList::from_der(&list.map_err(unreadable)?);
        let list = read.map_err(|error| {
            let told = format!("revocation list {} cannot be used: {error}", index + 1);
            FileError::new(path, told)
        })?;
        crls.push(list.into());
    }
    if crls.is_empty() {
        return Err(FileError::new(path, "holds no revocation list"));
    }
    Ok(crls)
}

/// Reads a certificate with its chain, and the key that belongs to it, which nobody else may read.
///
/// # Errors
/// [`FileError`] naming the one of the two that is wrong.
pub fn certified(certificate: &Path, key: &Path) -> Result<CertifiedKey, FileError> {
    let chain = chain(certificate)?;
    if chain.is_empty() {
        let mut error = FileError::new(certificate, "holds no certificate");
        if PrivateKeyDer::from_pem_file(certificate).is_ok() {
            error.message.push_str(", but a key");
            error.hint = Some("certificate = FILE and key = FILE may be exchanged".to_owned());
        }
        return Err(error);
    }
    private(key)?;
    let text = text(key)?;
    if is_encrypted(&text) {
        let mut error = FileError::new(
            key,
            "is encrypted, and nobody is there to be asked for its \
                                             password",
        );
        let file = key.display();
        error.hint = Some(format!("openssl pkey -in {file} -out NEW, then key = NEW, mode 600"));
        return Err(error);
    }
    let read = PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound => FileError::new(key, "holds no private key"),
        error => FileError::of_pem(key, &error),
    })?;
    let usable = aws_lc_rs::sign::any_supported_type(&read)
        .map_err(|error| FileError::new(key, error.to_string()))?;
    let certified = CertifiedKey::new(chain, usable);
    certified.keys_match().map_err(|error| {
        misplaced(certificate, &certified).unwrap_or_else(|| {
            FileError::new(key, format!("does not belong to {}: {error}", certificate.display()))
        })
    })?;
    Ok(certified)
}

/// Reads a certificate and those above it, its own first.
///
/// # Errors
/// [`FileError`].
pub fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text(path)?).collect();
    read.map_err(|error| FileError::of_pem(path, &error))
}

/// The key belongs to another certificate of the chain than the first: it stands the wrong way round.
fn misplaced(path: &Path, certified: &CertifiedKey) -> Option<FileError> {
    let fits = |certificate: &CertificateDer<'static>| {
        let alone = CertifiedKey::new(vec![certificate.clone()], certified.key.clone());
        alone.keys_match().is_ok()
    };
    let at = certified.cert.iter().position(fits).filter(|at| *at > 0)?;
    let (number, all) = (at + 1, certified.cert.len());
    let mut error = FileError::new(
        path,
        format!("holds its chain in the wrong order: certificate {number} of {all} is the key's"),
    );
    error.hint = Some("the domain's own comes first, then the one that signed it".to_owned());
    Some(error)
}

/// Reads a file of PEM. What some editors put before its first line would hide the first thing in it.
fn text(path: &Path) -> Result<Vec<u8>, FileError> {
    const MARKS: [&[u8]; 3] = [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"];
    let text = std::fs::read(path).map_err(|error| FileError::of_system(path, &error))?;
    if MARKS.iter().any(|mark| text.starts_with(mark)) {
        let mut error = FileError::new(path, "begins with a byte order mark (BOM); PEM has none");
        error.hint = Some("save it as plain text (ASCII, or UTF-8 without BOM)".to_owned());
        return Err(error);
    }
    Ok(text)
}

fn is_encrypted(pem: &[u8]) -> bool {
    let text = String::from_utf8_lossy(pem);
    text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
}

/// The first certificate of a PEM file, if there is one that can be read.
pub fn first(path: &Path) -> Option<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path).ok()?.next()?.ok()
}

/// Refuses a secret's file that others may read or write: as PostgreSQL has it, it is ours and nobody
/// else's, or root's, who may share it with a group of which we are (mode 0640 at most), as where one
/// program renews certificates for several.
fn private(path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::MetadataExt;
    let file = std::fs::metadata(path).map_err(|error| FileError::of_system(path, &error))?;
    let (owner, us) = (file.uid(), rustix::process::geteuid().as_raw());
    let wrong = |message: String, hint: String| {
        Err(FileError { hint: Some(hint), ..FileError::new(path, message) })
    };
    let name = path.display();
    if ![us, 0].contains(&owner) {
        let message = format!("belongs to user {owner}, who is neither this one ({us}) nor root");
        return wrong(message, format!("chown {us} {name}"));
    }
    let (too_wide, mode) = if owner == us { (0o077, 600) } else { (0o037, 640) };
    if file.mode() & too_wide != 0 {
        return wrong("can be read by others".to_owned(), format!("chmod {mode} {name}"));
    }
    Ok(())
}
