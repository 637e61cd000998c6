//! Proving domains on links: the TLS configurations of both ends, which certificates they accept,
//! and what to say when one does not prove what it should.
//!
//! Finding a server and connecting to it is left to `locate`, who speaks for which domain on a link
//! to the server's `link`.
//!
//! Both ends present certificates. What a certificate proves is the domain in its SAN, whatever the
//! host is called and whoever pointed to it. Public CAs issue no certificates for client
//! authentication any more, so one for server authentication also proves a server that connects.

mod chain;
mod names;
mod trust;
mod words;

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, CommonState, ServerConfig};

pub use chain::CHAIN_MAX;
use chain::{Accepting, Dialling};
pub use names::proves;
pub use trust::{ProveError, Trust};
pub use words::{HandshakeError, Unproven};

/// What a dialling server uses: it presents `key`, and the other side must prove the domain that
/// is called, which is the name given to the connection.
///
/// A handshake that ends well may have chosen no protocol: ask [`speaks_links`] next.
///
/// # Errors
/// The TLS library's, if it cannot do TLS 1.3.
pub fn dial_config(
    trust: &Trust,
    key: Arc<CertifiedKey>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = provider();
    let verifier = Dialling::new(trust.clone(), provider.signature_verification_algorithms);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        // Not dangerous: the library's own verifier would take wildcards too, ours asks for more.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![impp_protocol::ALPN_LINK.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

/// What an accepting server uses: the other side must present a certificate that a CA vouches for.
/// Which domains it proves is asked afterwards, by [`proves`]; and [`speaks_links`] whether the
/// protocol was chosen.
///
/// # Errors
/// The TLS library's, if it cannot do TLS 1.3.
pub fn accept_config(
    trust: &Trust,
    resolver: Arc<dyn ResolvesServerCert>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = provider();
    let verifier = Accepting::new(trust.clone(), provider.signature_verification_algorithms);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![impp_protocol::ALPN_LINK.to_vec()];
    // A resumed session would carry a proof from before: each link proves anew.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// Whether the protocol of links was chosen in a handshake that has ended.
///
/// # Errors
/// [`HandshakeError::NoLinks`].
pub fn speaks_links(tls: &CommonState) -> Result<(), HandshakeError> {
    match tls.alpn_protocol() {
        Some(impp_protocol::ALPN_LINK) => Ok(()),
        _ => Err(HandshakeError::NoLinks),
    }
}

/// The cryptography is named here, not left to what else in the program may install.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
