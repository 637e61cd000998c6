//! CAs and certificates of every kind, made for one test.

use std::net::IpAddr;
use std::sync::Arc;

use impp_trust::{Trust, accept_config, dial_config};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber, date_time_ymd,
};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig};

/// A CA, with the certificates between it and its root.
pub(crate) struct Authority {
    params: CertificateParams,
    key: Vec<u8>,
    pub certificate: CertificateDer<'static>,
    pem: String,
    /// What it presents with the certificates that it issues: its own, and those above it.
    above: Vec<CertificateDer<'static>>,
    crl: Option<String>,
}

/// A certificate to be.
pub(crate) struct Leaf {
    pub params: CertificateParams,
}

/// A certificate with its chain and key.
pub(crate) struct Presented {
    pub chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl Authority {
    /// A root.
    pub(crate) fn new(name: &str) -> Authority {
        Authority::with(name, |_| {})
    }

    /// A root that is odd in some way.
    pub(crate) fn with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Authority {
            params,
            key: key.serialize_der(),
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            above: Vec::new(),
            crl: None,
        }
    }

    /// A CA below this one.
    pub(crate) fn subordinate(&self, name: &str, serial: u64) -> Authority {
        self.subordinate_like(&Authority::with(name, |params| {
            params.serial_number = Some(SerialNumber::from(serial));
        }))
    }

    /// The same CA, its certificate issued by this one.
    pub(crate) fn subordinate_like(&self, other: &Authority) -> Authority {
        let key = keys(&other.key);
        let certificate = other.params.signed_by(&key, &self.issuer()).unwrap();
        let mut above = vec![certificate.der().clone()];
        above.extend(self.above.iter().cloned());
        Authority {
            params: other.params.clone(),
            key: other.key.clone(),
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            above,
            crl: None,
        }
    }

    pub(crate) fn issue(&self, leaf: Leaf) -> Presented {
        let key = KeyPair::generate().unwrap();
        let certificate = leaf.params.signed_by(&key, &self.issuer()).unwrap();
        let mut chain = vec![certificate.der().clone()];
        chain.extend(self.above.iter().cloned());
        Presented { chain, key: key.serialize_der() }
    }

    /// Signs a revocation list, which [`Authority::trust`] contains from then on.
    pub(crate) fn revoke(&mut self, list: &CertificateRevocationListParams) {
        self.crl = Some(list.signed_by(&self.issuer()).unwrap().pem().unwrap());
    }

    /// What a server uses that trusts this CA.
    pub(crate) fn trust(&self) -> Trust {
        let folder = tempfile::tempdir().unwrap();
        let (ca, crl) = (folder.path().join("ca.pem"), folder.path().join("crl.pem"));
        std::fs::write(&ca, &self.pem).unwrap();
        let listed = self.crl.as_ref().map(|list| std::fs::write(&crl, list).unwrap());
        Trust::load(Some(&ca), listed.map(|()| &*crl)).unwrap()
    }

    /// The configuration of a server that trusts this CA and calls.
    pub(crate) fn dial(&self, presented: &Presented) -> Arc<ClientConfig> {
        dial_config(&self.trust(), presented.key()).unwrap()
    }

    /// The configuration of a server that trusts this CA and is called.
    pub(crate) fn accept(&self, presented: &Presented) -> Arc<ServerConfig> {
        let resolver = Arc::new(SingleCertAndKey::from(presented.key()));
        accept_config(&self.trust(), resolver).unwrap()
    }

    pub(crate) fn pem(&self) -> String {
        self.pem.clone()
    }

    fn issuer(&self) -> Issuer<'_, KeyPair> {
        Issuer::from_params(&self.params, keys(&self.key))
    }
}

impl Leaf {
    /// With another name.
    pub(crate) fn also(mut self, name: &str) -> Leaf {
        self.params.subject_alt_names.push(match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.try_into().unwrap()),
        });
        self
    }

    pub(crate) fn serial(mut self, serial: u64) -> Leaf {
        self.params.serial_number = Some(SerialNumber::from(serial));
        self
    }
}

impl Presented {
    pub(crate) fn self_signed(leaf: Leaf) -> Presented {
        let key = KeyPair::generate().unwrap();
        let certificate = leaf.params.self_signed(&key).unwrap();
        Presented { chain: vec![certificate.der().clone()], key: key.serialize_der() }
    }

    pub(crate) fn key(&self) -> Arc<CertifiedKey> {
        let key = PrivateKeyDer::try_from(self.key.clone()).unwrap();
        Arc::new(CertifiedKey::new(self.chain.clone(), any_supported_type(&key).unwrap()))
    }
}

/// A certificate for a name.
pub(crate) fn leaf(name: &str) -> Leaf {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("somebody");
    Leaf { params }.also(name)
}

/// A list with one certificate, by its serial number, that holds until a year begins.
pub(crate) fn one_is_revoked(serial: u64, year: i32) -> CertificateRevocationListParams {
    CertificateRevocationListParams {
        this_update: date_time_ymd(2019, 1, 1),
        next_update: date_time_ymd(year, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2019, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

fn keys(der: &[u8]) -> KeyPair {
    KeyPair::try_from(der).unwrap()
}
