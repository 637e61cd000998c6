//! Somebody between client and server who ends TLS and starts it anew, with a certificate that the
//! client trusts: what channel binding is there to find out.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use impp_protocol::ALPN_CLIENT;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::server::{DOMAIN, Server};
use crate::wire::Dial;

/// See the module. Ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    folder: TempDir,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy before this server.
    pub async fn before(server: &Server) -> Proxy {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed([DOMAIN.to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(trust(folder.path()), cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![ALPN_CLIENT.to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, onward) = (listener.local_addr().unwrap(), Dial::to(server));
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, onward) = (acceptor.clone(), onward.clone());
                tokio::spawn(async move {
                    let mut client = acceptor.accept(tcp).await?;
                    let mut server = onward.connect().await?.into_stream();
                    copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        Proxy { address, folder, task }
    }

    /// To the proxy, believing it.
    pub fn dial(&self) -> Dial {
        Dial::new(self.address, &trust(self.folder.path()))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn trust(folder: &Path) -> PathBuf {
    folder.join("proxy.pem")
}
