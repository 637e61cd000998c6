//! Whom links trust: CA certificates and revocation lists, from files or the system.
//!
//! Checking certificates against them is left to `chain`.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use webpki::{CertRevocationList, OwnedCertRevocationList};

/// The CAs whose certificates prove domains, and what they have revoked. Cheap to clone.
#[derive(Clone)]
pub struct Trust(Arc<Trusted>);

struct Trusted {
    roots: RootCertStore,
    crls: Vec<CertRevocationList<'static>>,
}

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct ProveError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub message: String,
}

impl Trust {
    /// Reads a PEM file of CA certificates, or without one what the system trusts; and a PEM file
    /// of revocation lists.
    ///
    /// A system that trusts nobody is no error: see [`Trust::is_empty`].
    ///
    /// # Errors
    /// [`ProveError`] naming the file, and what is wrong with it.
    pub fn load(ca: Option<&Path>, crl: Option<&Path>) -> Result<Trust, ProveError> {
        let roots = match ca {
            Some(path) => roots_of(path)?,
            None => roots_of_system(),
        };
        let crls = crl.map(crls_of).transpose()?.unwrap_or_default();
        Ok(Trust(Arc::new(Trusted { roots, crls })))
    }

    /// Whether there is no CA at all: then no domain can be proven.
    pub fn is_empty(&self) -> bool {
        self.0.roots.is_empty()
    }

    pub(super) fn roots(&self) -> &RootCertStore {
        &self.0.roots
    }

    pub(super) fn crls(&self) -> &[CertRevocationList<'static>] {
        &self.0.crls
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (roots, crls) = (self.0.roots.len(), self.0.crls.len());
        f.debug_struct("Trust").field("roots", &roots).field("crls", &crls).finish()
    }
}

fn roots_of(path: &Path) -> Result<RootCertStore, ProveError> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|e| unreadable(path, &e))?;
    for (index, certificate) in certificates.enumerate() {
        let certificate = certificate.map_err(|e| unreadable(path, &e))?;
        roots.add(certificate).map_err(|error| {
            wrong(path, format!("certificate {} cannot be used: {error}", index + 1))
        })?;
    }
    if roots.is_empty() {
        return Err(wrong(path, "holds no certificate".to_owned()));
    }
    Ok(roots)
}

/// Systems hold many CAs: one that cannot be read makes the others no worse.
fn roots_of_system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn crls_of(path: &Path) -> Result<Vec<CertRevocationList<'static>>, ProveError> {
    let lists =
        CertificateRevocationListDer::pem_file_iter(path).map_err(|e| unreadable(path, &e))?;
    let mut crls = Vec::new();
    for (index, list) in lists.enumerate() {
        let list = list.map_err(|e| unreadable(path, &e))?;
        let list = OwnedCertRevocationList::from_der(&list).map_err(|error| {
            wrong(path, format!("revocation list {} cannot be used: {error}", index + 1))
        })?;
        crls.push(list.into());
    }
    if crls.is_empty() {
        return Err(wrong(path, "holds no revocation list".to_owned()));
    }
    Ok(crls)
}

fn unreadable(path: &Path, error: &pem::Error) -> ProveError {
    let message = match error {
        pem::Error::Io(error) => match error.kind() {
            ErrorKind::NotFound => "cannot be read: there is no such file".to_owned(),
            ErrorKind::PermissionDenied => "cannot be read: permission denied".to_owned(),
            _ => format!("cannot be read: {error}"),
        },
        error => format!("cannot be read as PEM: {error}"),
    };
    wrong(path, message)
}

fn wrong(path: &Path, message: String) -> ProveError {
    ProveError { path: path.to_owned(), message }
}
