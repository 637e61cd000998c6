//! Whom links trust: CA certificates and revocation lists.
//!
//! Reading them is left to `files`, checking certificates against them to `chain`.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use webpki::CertRevocationList;

/// The CAs whose certificates prove domains, and what they have revoked. Cheap to clone.
#[derive(Clone)]
pub struct Trust(Arc<Trusted>);

struct Trusted {
    roots: RootCertStore,
    crls: Vec<CertRevocationList<'static>>,
}

impl Trust {
    pub(crate) fn new(roots: RootCertStore, crls: Vec<CertRevocationList<'static>>) -> Trust {
        Trust(Arc::new(Trusted { roots, crls }))
    }

    /// Whether there is no CA at all: then no domain can be proven.
    pub fn is_empty(&self) -> bool {
        self.0.roots.is_empty()
    }

    pub(crate) fn roots(&self) -> &RootCertStore {
        &self.0.roots
    }

    pub(crate) fn crls(&self) -> &[CertRevocationList<'static>] {
        &self.0.crls
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (roots, crls) = (self.0.roots.len(), self.0.crls.len());
        f.debug_struct("Trust").field("roots", &roots).field("crls", &crls).finish()
    }
}
