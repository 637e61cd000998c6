//! Which certificate proves what: the TLS configurations of clients' connections and of both ends of
//! a link, which certificates they accept, and what to say when one does not prove what it should.
//!
//! Finding a server and connecting to it is left to `locate`, who speaks for which domain on a link
//! to the server's `link`, and whom a client's certificate signs in to its `session`.
//!
//! | file | holds |
//! |---|---|
//! | `chain.rs` | who vouches for a certificate, until when, for what use, what is revoked |
//! | `names.rs` | which domains it proves |
//! | `certificate.rs` | what else is read in it: a client's addresses, how long it holds |
//! | `trust.rs` | which CAs are believed |
//! | `words.rs` | why a handshake failed |
//! | `files.rs` | reading all of these; nothing else here knows a file or a clock |
//!
//! On a link both ends present certificates. What a certificate proves is the domain in its SAN, whatever the
//! host is called and whoever pointed to it. Public CAs issue no certificates for client
//! authentication any more, so one for server authentication also proves a server that connects.

pub mod certificate;
mod chain;
pub mod files;
mod names;
mod trust;
mod words;

use std::sync::Arc;

use rustls::client::{Resumption, WantsClientCert};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, CommonState, ConfigBuilder, RootCertStore, ServerConfig};

use chain::{Accepting, Dialling};
pub use chain::{CHAIN_MAX, convinces};
pub use files::FileError;
pub use names::proves;
pub use trust::Trust;
pub use words::{HandshakeError, Unproven};

/// The application protocol of the web door (RFC 7301).
pub const ALPN_WEB: &[u8] = b"http/1.1";

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
    let resolver = Arc::new(SingleCertAndKey::from(key));
    Ok(for_links(dialling(trust)?.with_client_cert_resolver(resolver)))
}

/// What somebody uses who only looks whether a server proves its domain: the same, but nothing is
/// presented, and the other side may refuse that once it has proven itself.
///
/// # Errors
/// The TLS library's, if it cannot do TLS 1.3.
pub fn look_config(trust: &Trust) -> Result<Arc<ClientConfig>, rustls::Error> {
    Ok(for_links(dialling(trust)?.with_no_client_auth()))
}

fn dialling(trust: &Trust) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, rustls::Error> {
    let provider = provider();
    let verifier = Dialling::new(trust.clone(), provider.signature_verification_algorithms);
    let builder =
        ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13])?;
    // Not dangerous: the library's own verifier would take wildcards too, ours asks for more.
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)))
}

fn for_links(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![impp_protocol::ALPN_LINK.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Arc::new(config)
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

/// What a server uses for its clients: one that has a certificate of these CAs may present it, and is
/// proven by it; others prove themselves later. Without CAs none is asked for.
///
/// # Errors
/// The TLS library's, if it cannot do TLS 1.3 or has no CA among these.
pub fn clients_config(
    roots: Option<RootCertStore>,
    resolver: Arc<dyn ResolvesServerCert>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    accepting(roots, resolver, impp_protocol::ALPN_CLIENT)
}

/// What a server uses for whoever speaks HTTP. A certificate is asked of nobody; and as each configuration
/// keeps for itself what can be resumed, a session of HTTP never passes as one of a client.
///
/// # Errors
/// The TLS library's, if it cannot do TLS 1.3.
pub fn web_config(
    resolver: Arc<dyn ResolvesServerCert>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    accepting(None, resolver, ALPN_WEB)
}

fn accepting(
    roots: Option<RootCertStore>,
    resolver: Arc<dyn ResolvesServerCert>,
    protocol: &[u8],
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = provider();
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&TLS13])?;
    let builder = match roots {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(resolver);
    config.alpn_protocols = vec![protocol.to_vec()];
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
