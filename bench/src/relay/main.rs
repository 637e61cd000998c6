//! `impp-relay ADDRESS:PORT CERTIFICATE KEY`: what any server in this shape must pay, and nothing
//! more: one thread, TLS, frames that are passed on. It is the floor that others are compared with.
//!
//! A frame is the length of what follows and the number of whom it is for, four octets each, and a
//! body, which they get with the head. A frame without a body says: what is for that number comes to
//! me too. So signing in and following are the same here, there are no rules, and nothing is stored.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program by hand")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use impp_bench::line::{self, Output};
use impp_bench::relayed;
use tokio::net::TcpListener;
use tokio::task::LocalSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What may wait for one connection; more is dropped, and missed by whoever counts.
const OUTPUT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Who gets what is for a number.
type Table = Rc<RefCell<HashMap<u32, Vec<Rc<Output>>>>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, certificate, key] = &arguments[..] else {
        eprintln!("usage: impp-relay ADDRESS:PORT CERTIFICATE KEY");
        return ExitCode::from(2);
    };
    match serve(address, certificate, key) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(address: &str, certificate: &str, key: &str) -> Result<(), Box<dyn Error>> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(address).await?;
        println!("ready: {}", listener.local_addr()?);
        let table = Table::default();
        loop {
            let (tcp, _) = listener.accept().await?;
            tcp.set_nodelay(true)?;
            let (acceptor, table) = (acceptor.clone(), table.clone());
            tokio::task::spawn_local(async move {
                // The handshake's state is not kept by who is connected for long.
                if let Ok(stream) = Box::pin(acceptor.accept(tcp)).await {
                    let output = Rc::new(Output::default());
                    let pass_on = |input: &mut BytesMut| take(input, &table, &output);
                    // A connection that ends in whatever way gets no more.
                    let _ = line::drive(stream, &output, pass_on).await;
                    table.borrow_mut().retain(|_, outputs| {
                        outputs.retain(|other| !Rc::ptr_eq(other, &output));
                        !outputs.is_empty()
                    });
                }
            });
        }
    })
}

/// Passes on all frames that are there.
fn take(input: &mut BytesMut, table: &Table, own: &Rc<Output>) {
    while let Some((to, frame)) = relayed::take(input) {
        if frame.len() == relayed::HEAD_BYTES {
            table.borrow_mut().entry(to).or_default().push(own.clone());
        } else if let Some(outputs) = table.borrow().get(&to) {
            for output in outputs {
                if output.waiting() < OUTPUT_BYTES_MAX {
                    output.put(|bytes| bytes.extend_from_slice(&frame));
                }
            }
        }
    }
}
