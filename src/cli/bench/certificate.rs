//! A throw-away certificate for the receiver: made for one run, signed by itself, trusted by nobody but the daemon, the floor
//! and the bare client of that run.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// The certificate, and what each side makes of it.
#[derive(Clone)]
pub(super) struct Certificate {
    /// Where it lies, in PEM, without its key.
    pub(super) path: PathBuf,
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
}

impl Certificate {
    /// Makes one for the loopback address.
    pub(super) fn make(folder: &Path) -> io::Result<Certificate> {
        let made = rcgen::generate_simple_self_signed([Ipv4Addr::LOCALHOST.to_string()]).map_err(io::Error::other)?;
        let path = folder.join("receiver.pem");
        std::fs::write(&path, made.cert.pem())?;
        let certificate = made.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).map_err(io::Error::other)?;
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key.into())
            .map_err(io::Error::other)?;
        for protocols in [&mut client.alpn_protocols, &mut server.alpn_protocols] {
            *protocols = vec![b"http/1.1".to_vec()];
        }
        Ok(Certificate { path, server: Arc::new(server), client: Arc::new(client) })
    }
}
